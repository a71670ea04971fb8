package policy

import (
	"fmt"
	"strings"
)

// maxShown bounds how much of a user's value a message repeats: an annotation
// may hold 256 KiB, an event's note 1 KiB.
const maxShown = 64

// maxTold bounds how many problems a message has: a metric list has room for
// thousands.
const maxTold = 16

// Problem is one thing that is wrong with a request, worded for its author.
type Problem struct {
	// Key is the annotation, trigger key or field.
	Key string
	// Value is what it says, "" if it is missing.
	Value string
	// Rule is what would have been right.
	Rule string
	// Nearest is the known key that Key resembles, "" if none does.
	Nearest string
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Key)
	if p.Value != "" {
		fmt.Fprintf(&b, " %q", shorten(p.Value))
	}
	fmt.Fprintf(&b, ": %s", p.Rule)
	if p.Nearest != "" {
		fmt.Fprintf(&b, ", did you mean %s?", p.Nearest)
	}
	return b.String()
}

// RefusalError is everything that is wrong with a request, at least one thing.
type RefusalError []Problem

func refuse(key, value, rule string) RefusalError {
	return RefusalError{{Key: key, Value: value, Rule: rule}}
}

func (ps RefusalError) Error() string {
	lines := make([]string, 0, maxTold+1)
	for _, p := range ps[:min(len(ps), maxTold)] {
		lines = append(lines, p.String())
	}
	if more := len(ps) - maxTold; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

func shorten(s string) string {
	runes := []rune(s)
	if len(runes) <= maxShown {
		return s
	}
	return string(runes[:maxShown]) + "…"
}
