package decision

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

func pronoun(n int) string {
	if n == 1 {
		return "it"
	}
	return "each"
}

func replicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return strconv.Itoa(n) + " replicas"
}

func number(x float64) string {
	return strconv.FormatFloat(x, 'g', 6, 64)
}

// duration is a time in the largest unit that it is a whole number of, to the
// second: 5 min, 90 s.
func duration(d time.Duration) string {
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

// list joins words as people do: a, b and c.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// unit is what a metric is told in: seconds, or hundredths where a whole is 1.
func (f *comparison) unit() (scale float64, unit string) {
	switch name := f.metric.Name; {
	case strings.HasSuffix(name, "_seconds"):
		return 1, " s"
	case sample.IsRatio(name) && max(f.metric.Up, f.low) <= 1:
		return 100, " %"
	case sample.IsRatio(name) && !strings.HasSuffix(name, "_ratio"):
		return 1, " %"
	}
	return 1, ""
}

// distinct is a number with as few digits as it can have, three or more, without
// looking like one of those that it isn't.
func distinct(x float64, others ...float64) string {
	text := ""
	for digits := 3; digits <= 9; digits++ {
		text = significant(x, digits)
		if !slices.ContainsFunc(others, func(o float64) bool { return o != x && significant(o, digits) == text }) {
			break
		}
	}
	return text
}

// significant is x with at least that many digits, whole numbers whole.
func significant(x float64, digits int) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	if whole := int(math.Log10(max(math.Abs(x), 1))) + 1; whole > digits {
		digits = whole // 12345.6 is 12346 and not 1.23e+04
	}
	return strconv.FormatFloat(x, 'g', digits, 64)
}

// displayName is a list's metric as its owner knows it, with what is taken of it.
func displayName(m policy.Metric) string {
	switch {
	case m.Kind == policy.Gauge:
		return m.Name
	case m.Kind == policy.Counter:
		return m.Name + " rate"
	case m.Quantile > 0:
		return m.Name + " p" + strconv.FormatFloat(m.Quantile*100, 'g', 6, 64)
	}
	return m.Name + " mean"
}
