package docs

import (
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// maxWords are the words of prose that a page may have. Tables and code don't
// count: readers look things up there, and read prose from one end to the other.
var maxWords = map[string]int{
	"README.md":                      1200,
	"docs/automatic-mode.md":         900,
	"docs/simulation.md":             900,
	"docs/design/automatic-mode.md":  1500,
	"README.md and docs/*.md in all": 6000,
}

// maxGlossaryLines keeps the glossary on one screen.
const maxGlossaryLines = 60

// pages are all documents, those for contributors and the chart's included.
func pages(t *testing.T) []string {
	t.Helper()
	names := documents(t)
	for _, pattern := range []string{"docs/design/*.md", "charts/*/README.md", "artifacthub/*/README.md", "test/engine/*.md", ".github/*.md"} {
		found, err := fs.Glob(repository(), pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

func TestTablesAreWhole(t *testing.T) {
	for _, name := range pages(t) {
		report(t, checkTables(name, read(t, name)))
	}
}

func TestYAMLInPagesParses(t *testing.T) {
	for _, name := range pages(t) {
		report(t, checkYAML(name, read(t, name)))
	}
}

func TestPagesStayShort(t *testing.T) {
	report(t, checkWords(os.DirFS(".."), maxWords))
	if n := strings.Count(read(t, "docs/design/glossary.md"), "\n"); n > maxGlossaryLines {
		t.Errorf("docs/design/glossary.md has %d lines, want %d at most", n, maxGlossaryLines)
	}
}

// checkTables sees that each table has a head, a rule, rows of as many cells, and
// nothing in between: after a blank line GitHub shows the rest as text.
func checkTables(name, markdown string) []string {
	var wrong []string
	var table []string
	before := ""
	end := func(line int) {
		if len(table) > 0 {
			if flaw := flawOf(table, before); flaw != "" {
				wrong = append(wrong, fmt.Sprintf("%s:%d: %s", name, line-len(table), flaw))
			}
			table = nil
		}
	}
	code := false
	lines := strings.Split(markdown, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if !code && strings.HasPrefix(strings.TrimSpace(line), "|") {
			if len(table) == 0 && i > 0 {
				before = lines[i-1]
			}
			table = append(table, line)
			continue
		}
		end(i + 1)
	}
	end(len(lines) + 1)
	return wrong
}

// flawOf says what is wrong with a table, "" if nothing is. before is the line
// above it.
func flawOf(table []string, before string) string {
	cells := func(row string) int { return strings.Count(strings.ReplaceAll(row, `\|`, ""), "|") }
	switch {
	case strings.TrimSpace(before) != "":
		return "no blank line above a table"
	case len(table) < 2 || strings.Trim(table[1], "|-: ") != "":
		return "rows without a head, perhaps after a blank line in a table"
	case len(table) < 3:
		return "a table without rows"
	}
	for i, row := range table {
		if cells(row) != cells(table[0]) || !strings.HasSuffix(strings.TrimSpace(row), "|") {
			return fmt.Sprintf("row %d of a table has %d cells, its head %d", i, cells(row)-1, cells(table[0])-1)
		}
	}
	return ""
}

// checkYAML parses the YAML that users copy.
func checkYAML(name, markdown string) []string {
	var wrong []string
	for i, block := range strings.Split(markdown, "\n```yaml\n")[1:] {
		text, _, _ := strings.Cut(block, "\n```")
		for document := range strings.SplitSeq(text, "\n---\n") {
			var into any
			if err := yaml.UnmarshalStrict([]byte(document), &into); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: YAML %d: %v", name, i+1, err))
			}
		}
	}
	return wrong
}

// prose counts the words of a page outside of code and tables.
func prose(markdown string) int {
	n := 0
	for line := range strings.Lines(fence.ReplaceAllString(markdown, "")) {
		if !strings.HasPrefix(strings.TrimSpace(line), "|") {
			n += len(strings.Fields(line))
		}
	}
	return n
}

// checkWords compares pages, and all that is for users, with the words that they
// may have.
func checkWords(repository fs.FS, most map[string]int) []string {
	users, err := fs.Glob(repository, "docs/*.md")
	if err != nil {
		return []string{err.Error()}
	}
	users = append(users, "README.md")
	words := map[string]int{}
	for _, name := range slices.Concat(users, slices.Sorted(maps.Keys(most))) {
		if strings.Contains(name, " ") || words[name] > 0 {
			continue
		}
		text, err := fs.ReadFile(repository, name)
		if err != nil {
			return []string{err.Error()}
		}
		words[name] = prose(string(text))
		if slices.Contains(users, name) {
			words["README.md and docs/*.md in all"] += words[name]
		}
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(most)) {
		if words[name] > most[name] {
			wrong = append(wrong, fmt.Sprintf("%s: %d words of prose, want %d at most", name, words[name], most[name]))
		}
	}
	return wrong
}

func TestTheCheckerOfTables(t *testing.T) {
	const well = "text\n\n| a | b |\n|---|---|\n| 1 | `x \\| y` |\n| 2 | |\n\nmore\n\n```\n| no table\n```\n"
	for _, tt := range []struct{ story, from, to, want string }{
		{"all is well", "", "", ""},
		{"a blank line inside", "| 2 | |", "\n| 2 | |", "a.md:7: rows without a head, perhaps after a blank line in a table"},
		{"a cell too many", "| 2 | |", "| 2 | | 3 |", "a.md:3: row 3 of a table has 3 cells, its head 2"},
		{"a pipe that isn't escaped", `\|`, `|`, "a.md:3: row 2 of a table has 3 cells, its head 2"},
		{"a row that doesn't end", "| 2 | |", "| 2 | |x", "a.md:3: row 3 of a table has 2 cells, its head 2"},
		{"text right above", "text\n\n", "text\n", "a.md:2: no blank line above a table"},
		{"no rule", "|---|---|\n", "", "a.md:3: rows without a head, perhaps after a blank line in a table"},
		{"no rows", "| 1 | `x \\| y` |\n| 2 | |\n", "", "a.md:3: a table without rows"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			if got := strings.Join(checkTables("a.md", strings.Replace(well, tt.from, tt.to, 1)), "; "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := checkTables("a.md", "| a |\n|---|\n| 1 | 2 |"); len(got) != 1 {
		t.Errorf("a page that is nothing but a broken table: %q", got)
	}
}

func TestTheCheckerOfYAML(t *testing.T) {
	if got := checkYAML("a.md", "# It\n\n```yaml\na: [1]\n---\nb: 2\n```\n\n```yaml\na: 1\na: 2\n```\n"); len(got) != 1 || !strings.HasPrefix(got[0], "a.md: YAML 2: ") {
		t.Errorf("the second block has a key twice: %q", got)
	}
}

func TestTheCheckerOfWords(t *testing.T) {
	files := fstest.MapFS{
		"README.md":   {Data: []byte("one two\n\n| not | counted |\n|---|---|\n\n```sh\nnor this\n```\n\nthree\n")},
		"docs/a.md":   {Data: []byte("four five\n")},
		"docs/b/c.md": {Data: []byte("six seven\n")},
	}
	const all = "README.md and docs/*.md in all"
	want := []string{
		"README.md: 3 words of prose, want 2 at most",
		all + ": 5 words of prose, want 4 at most",
		"docs/b/c.md: 2 words of prose, want 1 at most",
	}
	if diff := cmp.Diff(want, checkWords(files, map[string]int{"README.md": 2, "docs/b/c.md": 1, all: 4})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := checkWords(files, map[string]int{"README.md": 3, "docs/b/c.md": 2, all: 5}); got != nil {
		t.Errorf("all is well, but: %q", got)
	}
}

// others are what pages name of other programs: Helm's and vLLM's flags, values of
// KAITO's chart and of earlier ones.
var others = []string{
	"--dry-run=client", "--reuse-values", "--force", "--max-num-seqs", "--max-num-batched-tokens",
	"ports.healthProbe", "networkPolicy.allowedIngressNamespaces",
}

// Readers copy flags and values of the chart from pages: those that were renamed
// do nothing, or are refused.
func TestFlagsAndValuesOfThePagesExist(t *testing.T) {
	flags := map[string]bool{}
	err := eachFile(repository(), []string{"cmd", "internal/simulate/command"}, 0, func(name string, file *ast.File) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if expr, ok := node.(ast.Expr); ok {
				if text, ok := literal(expr); ok {
					flags["--"+text] = true
				}
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "charts/keda-kaito-scaler/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	users, err := fs.Glob(repository(), "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(users, "README.md", "charts/keda-kaito-scaler/README.md") {
		report(t, checkSettings(name, read(t, name), flags, values))
	}
}

// checkSettings looks at the flags and dotted values among the words of code.
func checkSettings(name, markdown string, flags map[string]bool, values map[string]any) []string {
	var wrong []string
	for _, word := range codeIn(fence.ReplaceAllString(markdown, "")) {
		setting, _, _ := strings.Cut(strings.TrimRight(word, "."), " ")
		setting = strings.TrimSuffix(setting, ":")
		if slices.Contains(others, setting) {
			continue
		}
		switch flag, _, _ := strings.Cut(setting, "="); {
		case strings.HasPrefix(setting, "--"):
			if !flags[flag] {
				wrong = append(wrong, fmt.Sprintf("%s names the flag %s, which isn't there", name, flag))
			}
		case strings.Contains(setting, "."):
			if first, rest, _ := strings.Cut(setting, "."); values[first] != nil && !strings.ContainsAny(setting, "/()") && !within(values[first], rest) {
				wrong = append(wrong, fmt.Sprintf("%s names the value %s, which the chart doesn't have", name, setting))
			}
		}
	}
	return wrong
}

// within tells whether a value of the chart has such a one in it. What is in an
// empty one, or in a list, is its user's.
func within(value any, rest string) bool {
	fields, ok := value.(map[string]any)
	if !ok || len(fields) == 0 {
		return true
	}
	first, rest, more := strings.Cut(rest, ".")
	inner, found := fields[first]
	return found && (!more || within(inner, rest))
}

func TestTheCheckerOfSettings(t *testing.T) {
	values := map[string]any{"scrape": map[string]any{"interval": "5s", "ca": map[string]any{}}, "image": "x"}
	want := []string{"a.md names the flag --gone, which isn't there", "a.md names the value scrape.gone, which the chart doesn't have"}
	text := "`--here` `--here=1` `--here VALUE` `--gone=1` `scrape.interval: 5s` `scrape.ca.key` `scrape.gone` `other.thing`"
	got := checkSettings("a.md", text, map[string]bool{"--here": true}, values)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
