package docs

import (
	"fmt"
	"go/ast"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// retired are words that no identifier of ours has any more, with what the field
// says instead. A word that is gone from the whole module joins them; none leaves.
var retired = map[string]string{
	"audience":   "recommendation observer",
	"awaken":     "wait for the API server",
	"become":     "set",
	"calendar":   "due heap",
	"charge":     "fleet, key",
	"concerned":  "affected",
	"conscience": "watchdog",
	"crest":      "peak",
	"doubt":      "covariance; fault that isn't believed yet",
	"doubtful":   "delayed",
	"echoes":     "ignored",
	"estimators": "scalers of fleets",
	"everywhere": "on every replica",
	"finding":    "comparison",
	"foretell":   "predict",
	"fruitless":  "futile scale-up",
	"hair":       "rounding slack",
	"heard":      "observed",
	"hurts":      "SLO violated",
	"jam":        "excess running",
	"judges":     "evaluation loop",
	"ledger":     "last reported",
	"lingering":  "grace context",
	"meters":     "metrics",
	"mind":       "scaler of a fleet",
	"mute":       "missing metric",
	"novel":      "additions",
	"outlook":    "forecast",
	"proven":     "ready since the start",
	"relieves":   "warming up",
	"rivals":     "conflicts",
	"sight":      "observation window",
	"soon":       "at the horizon",
	"speaks":     "has load",
	"spoken":     "labels",
	"studier":    "report runner",
	"surely":     "rate's lower bound",
	"surprise":   "outlier quantile",
	"survey":     "total",
	"suspects":   "slow pool",
	"swings":     "regime",
	"teller":     "notifier",
	"tide":       "regime",
	"unburdened": "lower bound",
	"verdict":    "recommendation",
	"verdicts":   "recommendations",
	"withdraw":   "delete",
}

func TestRetiredWordsDoNotComeBack(t *testing.T) {
	report(t, checkWordsOfNames(repository(), retired, "cmd", "internal", "test", "tools", "docs"))
}

func TestARetiredWordIsFound(t *testing.T) {
	files := fstest.MapFS{"a/x.go": {Data: []byte(`package a

// Mind is a comment, and "Mind" a text.
type fleetMind struct{ tide_level, high int }

func (m *fleetMind) unminded(hair string) { for soonest := range 3 { crest := soonest; _ = crest + len("Mind") + int(hair[0]) } }

var x = other.Tide // somebody else's

func TestTheMindRemembers() {}
`)}}
	want := []string{
		"a/x.go: crest has the retired word crest: say peak",
		"a/x.go: fleetMind has the retired word mind: say scaler of a fleet",
		"a/x.go: hair has the retired word hair: say rounding slack",
		"a/x.go: tide_level has the retired word tide: say regime",
	}
	if diff := cmp.Diff(want, checkWordsOfNames(files, retired, "a")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// checkWordsOfNames looks for words in the names that the code under some folders
// declares. Names of tests are sentences, and other people's names are theirs.
func checkWordsOfNames(repository fs.FS, words map[string]string, folders ...string) []string {
	var wrong []string
	err := eachFile(repository, folders, 0, func(file string, parsed *ast.File) {
		for _, name := range declared(parsed) {
			for _, word := range wordsOf(name) {
				if instead, found := words[word]; found {
					wrong = append(wrong, fmt.Sprintf("%s: %s has the retired word %s: say %s", file, name, word, instead))
				}
			}
		}
	})
	if err != nil {
		return []string{err.Error()}
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

// declared are the names that a file gives: to types, fields, functions, parameters,
// constants and variables.
func declared(file *ast.File) (names []string) {
	add := func(ids ...*ast.Ident) {
		for _, id := range ids {
			names = append(names, id.Name)
		}
	}
	expressions := func(exprs ...ast.Expr) {
		for _, expr := range exprs {
			if id, ok := expr.(*ast.Ident); ok {
				add(id)
			}
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.FuncDecl:
			if !strings.HasPrefix(n.Name.Name, "Test") && !strings.HasPrefix(n.Name.Name, "Fuzz") {
				add(n.Name)
			}
		case *ast.TypeSpec:
			add(n.Name)
		case *ast.Field:
			add(n.Names...)
		case *ast.ValueSpec:
			add(n.Names...)
		case *ast.AssignStmt:
			expressions(n.Lhs...)
		case *ast.RangeStmt:
			expressions(n.Key, n.Value)
		}
		return true
	})
	return names
}

// wordsOf splits a name: fleetState and FLEET_STATE are fleet and state.
func wordsOf(name string) []string {
	var words []string
	runes, start := []rune(name), 0
	for i := 1; i <= len(runes); i++ {
		if i < len(runes) && runes[i] != '_' && !startsWord(runes, i) {
			continue
		}
		if word := strings.Trim(string(runes[start:i]), "_0123456789"); word != "" {
			words = append(words, strings.ToLower(word))
		}
		start = i
	}
	return words
}

// startsWord tells whether the letter at i begins a word: the S of fleetState, and
// of HPAState.
func startsWord(runes []rune, i int) bool {
	if !unicode.IsUpper(runes[i]) {
		return false
	}
	return !unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])
}
