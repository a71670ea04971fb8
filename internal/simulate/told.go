package simulate

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// percents and milliseconds are numbers in a reason.
var (
	percents     = regexp.MustCompile(`([0-9.]+) %`)
	milliseconds = regexp.MustCompile(`([0-9.]+) ms`)
)

// decided is the step that a reason begins with.
var decided = regexp.MustCompile(`^([0-9]+) → ([0-9]+)`)

// tellsNear reports whether a reason has a number that is within a share of one.
func tellsNear(reason string, numbers *regexp.Regexp, want, within float64) bool {
	for _, found := range numbers.FindAllStringSubmatch(reason, -1) {
		if got, err := strconv.ParseFloat(found[1], 64); err == nil && math.Abs(got-want) <= within*want {
			return true
		}
	}
	return false
}

// tellsIncurable demands the share of requests that are late on an idle replica too, to
// a third: it is of the last hours.
func tellsIncurable(r *Result, _ Setting) string {
	share := 100 * float64(r.Incurable) / float64(max(1, r.Requests))
	if tellsNear(r.Reason, percents, share, 1./3) {
		return ""
	}
	return fmt.Sprintf("its owner isn't told that %.1f %% are incurable: %s", share, r.Reason)
}

// tellsSlowTokens demands the time per token of an idle replica, to a tenth.
func tellsSlowTokens(r *Result, s Setting) string {
	idle := 1000 * s.Engine.step(1) / s.Engine.Speculation.mean()
	if tellsNear(r.Reason, milliseconds, idle, .1) {
		return ""
	}
	return fmt.Sprintf("its owner isn't told that a token takes %.0f ms on an idle replica: %s", idle, r.Reason)
}

// tellsMissing demands the name of a family that no page has.
func tellsMissing(r *Result, s Setting) string {
	for _, name := range s.Missing {
		if strings.Contains(r.Reason, name) {
			return ""
		}
	}
	return fmt.Sprintf("its owner isn't told that %s is missing: %s", s.Missing[len(s.Missing)-1], r.Reason)
}

// asDecided demands that no step goes further than its reason says.
func asDecided(r *Result, _ Setting) string {
	for _, m := range r.Moves {
		step := decided.FindStringSubmatch(m.Reason)
		if step == nil {
			continue
		}
		if to, err := strconv.Atoi(step[2]); err == nil && (int(m.To) < min(to, int(m.From)) || int(m.To) > max(to, int(m.From))) {
			return fmt.Sprintf("after %v from %d to %d: %s", m.At, m.From, m.To, m.Reason)
		}
	}
	return ""
}
