package policy

import (
	"fmt"
	"strings"
)

// maxShown bounds how much of a user's value a message repeats: an annotation
// may hold 256 KiB, an event's note 1 KiB.
const maxShown = 64

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
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
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

// nearest is the candidate with the least edit distance to word, case aside, if
// it is near enough to be a slip: a third of the word at most.
func nearest(word string, candidates []string) (string, bool) {
	best, least := "", len(word)/3+1
	// A key of an annotation has 63 characters at most; a longer one is no slip.
	if len(word) > 63 {
		return "", false
	}
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best, best != ""
}

// distance is Levenshtein's: the least number of letters to insert, delete or
// replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
