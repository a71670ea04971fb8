package policy

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// parser reads a map of strings and gathers everything that is wrong with it,
// so that its author mends it in one go.
type parser struct {
	values map[string]string
	// prefix of the keys, in the map and in words.
	prefix   string
	problems []Problem
	notes    []string
	// nested are keys whose value is an object or a list, which is told already.
	nested map[string]bool
}

func (p *parser) refuse(key, value, rule string) {
	p.problems = append(p.problems, Problem{Key: p.prefix + key, Value: value, Rule: rule})
}

func (p *parser) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// get reads a value. An empty one isn't given: templates write "" for what their
// user leaves out.
func (p *parser) get(key string) (value string, given bool) {
	value = strings.TrimSpace(p.values[p.prefix+key])
	return value, value != ""
}

// any tells whether any of the keys is given.
func (p *parser) any(keys ...string) bool {
	for _, key := range keys {
		if _, given := p.get(key); given {
			return true
		}
	}
	return false
}

// yes reads "true" or "false".
func (p *parser) yes(key string, usual bool) bool {
	value, given := p.get(key)
	if !given {
		return usual
	}
	yes, err := strconv.ParseBool(value)
	if err != nil {
		p.refuse(key, value, `must be "true" or "false"`)
	}
	return yes
}

// oneOf reads a word, case aside; the first is the default.
func (p *parser) oneOf(key string, words ...string) string {
	value, given := p.get(key)
	if !given {
		return words[0]
	}
	for _, word := range words {
		if strings.EqualFold(word, value) {
			return word
		}
	}
	p.refuse(key, value, "must be "+either(words))
	return words[0]
}

// either lists words as "a, b or c".
func either(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// seconds reads a whole number of seconds within [low, high], such as 300, 300s
// or 5m. Of says whose limits these are.
func (p *parser) seconds(key string, low, high time.Duration, of string) (time.Duration, bool) {
	value, given := p.get(key)
	if !given {
		return 0, false
	}
	d, err := duration(value)
	if err != nil || d < low || d > high || d%time.Second != 0 {
		p.refuse(key, value, fmt.Sprintf("must be whole seconds from %d to %d%s",
			int(low.Seconds()), int(high.Seconds()), of))
		return 0, false
	}
	return d, true
}

// duration reads seconds without a unit, or any time with one.
func duration(value string) (time.Duration, error) {
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	return time.ParseDuration(value)
}

// finite reads a number that is neither infinite nor NaN.
func finite(value string) (float64, error) {
	x, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, errors.New("must be a finite number")
	}
	return x, nil
}

// maxTarget is far beyond what any replica has of anything.
const maxTarget = 1e12

// ParseTarget reads the amount that one replica should have.
func ParseTarget(value string) (float64, error) {
	target, err := finite(value)
	// KEDA hands thousandths to the HPA, which refuses a target of zero. As an int64
	// they end at 9e15, which a target times its replicas must not reach.
	switch {
	case err != nil || target < 0.001:
		return 0, errors.New("must be a number of at least 0.001, such as 10")
	case target > maxTarget:
		return 0, fmt.Errorf("must be at most %g", float64(maxTarget))
	}
	return target, nil
}

// metric reads a metric's name.
func (p *parser) metric(key string) string {
	value, given := p.get(key)
	if !given {
		return DefaultMetric
	}
	if !metricName.MatchString(value) {
		p.refuse(key, value, ruleMetric)
	}
	return value
}

// fraction reads a quantile, above 0 and at most 1.
func (p *parser) fraction(key string) (q float64, given bool) {
	value, given := p.get(key)
	if !given {
		return 0, false
	}
	q, err := finite(value)
	if err != nil || q <= 0 || q > 1 {
		p.refuse(key, value, "must be above 0 and at most 1, such as 0.95")
		return 0, false
	}
	return q, true
}

// least reads the minimum of replicas. None, and fewer, count as one, as in all
// versions so far.
func (p *parser) least(key string) int32 {
	value, given := p.get(key)
	if !given {
		return DefaultMin
	}
	if n, err := strconv.ParseInt(value, 10, 32); err == nil && n < 1 {
		p.note("%s %q counts as 1, because %s", key, shorten(value), noZero)
		return 1
	}
	n, _ := p.count(key)
	return n
}

// noZero is what this version can't do yet.
const noZero = "scaling to zero and back is not supported yet"

// count reads a number of replicas, ≥ 1.
func (p *parser) count(key string) (int32, bool) {
	value, given := p.get(key)
	if !given {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 1 {
		p.refuse(key, value, "must be a whole number of at least 1")
		return 0, false
	}
	return int32(n), true
}
