package vllm

import (
	"math"
	"strconv"
	"strings"
)

// formatFloat writes a number as prometheus_client does: Python's repr, but
// with an exponent from seven integer digits on (256.0, 1.285914e+06).
func formatFloat(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	case math.IsNaN(v):
		return "NaN"
	}
	if abs := math.Abs(v); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.FormatFloat(v, 'e', -1, 64)
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	dot := strings.IndexByte(s, '.')
	if dot < 0 {
		dot = len(s)
		s += ".0"
	}
	if v > 0 && dot > 6 {
		mantissa := strings.TrimRight(s[:1]+"."+s[1:dot]+s[dot+1:], "0.")
		if dot-1 < 10 {
			mantissa += "e+0"
		} else {
			mantissa += "e+"
		}
		return mantissa + strconv.Itoa(dot-1)
	}
	return s
}
