// Package text puts numbers and times into words, for reasons and events.
package text

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CountReplicas is "1 replica" or "3 replicas".
func CountReplicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return strconv.Itoa(n) + " replicas"
}

// Number has six significant digits at most.
func Number(x float64) string {
	return strconv.FormatFloat(x, 'g', 6, 64)
}

// Duration is a time in the largest unit that it is a whole number of, to the
// second: 5 min, 90 s.
func Duration(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d >= 10*time.Minute:
		return fmt.Sprintf("%d min", (d+time.Minute-1)/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// Join joins words as people do: a, b and c.
func Join(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// Distinct is a number with as few digits as it can have, three or more, without
// looking like one of those that it isn't.
func Distinct(x float64, others ...float64) string {
	text := ""
	for digits := 3; digits <= 9; digits++ {
		text = Significant(x, digits)
		if !slices.ContainsFunc(others, func(o float64) bool { return o != x && Significant(o, digits) == text }) {
			break
		}
	}
	return text
}

// Significant is x with at least that many digits, whole numbers whole.
func Significant(x float64, digits int) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	if whole := int(math.Log10(max(math.Abs(x), 1))) + 1; whole > digits {
		digits = whole // 12345.6 is 12346 and not 1.23e+04
	}
	return strconv.FormatFloat(x, 'g', digits, 64)
}
