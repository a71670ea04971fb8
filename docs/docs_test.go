package docs

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// repository is this checkout.
func repository() fs.FS { return os.DirFS("..") }

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := fs.ReadFile(repository(), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestPackagesImportWhatTheirRowAllows(t *testing.T) {
	report(t, checkCodemap(repository(), read(t, "ARCHITECTURE.md")))
}

func TestInvariantsNameTestsThatExist(t *testing.T) {
	report(t, checkInvariants(repository(), read(t, "ARCHITECTURE.md")))
}

func TestSymbolsOfTheArchitectureExist(t *testing.T) {
	report(t, checkSymbols(repository(), read(t, "ARCHITECTURE.md")))
}

// documents are all that users and contributors read.
func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := fs.Glob(repository(), pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

func TestLinkedFilesExist(t *testing.T) {
	for _, name := range pages(t) {
		report(t, checkLinks(repository(), name))
	}
}

func TestWhatUsersMeetIsDocumented(t *testing.T) {
	var all strings.Builder
	for _, name := range documents(t) {
		all.WriteString(read(t, name))
	}
	report(t, checkNamed(repository(), all.String()))

	// If the code comes to say these otherwise, the check has to follow.
	words, err := met(repository())
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{
		"--scrape-interval", "--v", "auto-provision", "scaledowncooldown", "combinepolicy", "metriccachewindow", "inferenceSetName", "combinePolicy", "scrape_unreadable_targets",
		"ScaledObjectCreated", "ScaledObjectUpdated", "ScaledObjectRemoved", "ScalingRefused", "AutoscalingConflict",
		"ProvisioningFailed", "ScalingUp", "ScalingDown", "ScalingSteady", "ScalingHeld", "LoadUnknown", "PodGivenUp",
	} {
		if words[word] == "" {
			t.Errorf("%s was not found in the code", word)
		}
	}
}

func TestTheArchitectureIsShort(t *testing.T) {
	if n := strings.Count(read(t, "ARCHITECTURE.md"), "\n"); n >= 150 {
		t.Errorf("ARCHITECTURE.md has %d lines, want under 150", n)
	}
}

func TestTheQuickStartIsTheExampleLetterForLetter(t *testing.T) {
	if !strings.Contains(read(t, "README.md"), "\n```yaml\n"+read(t, "examples/phi-4.yaml")+"```\n") {
		t.Error("README.md doesn't show examples/phi-4.yaml as it is")
	}
}

// small is a repository in which all is well.
func small() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"cmd/x/main.go":            file("package main\n\nimport _ \"" + module + "/internal/b\"\n"),
		"internal/a/a.go":          file("package a\n\n// Evaluate does.\nfunc Evaluate() {}\n"),
		"internal/a/a_test.go":     file("package a\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\n"),
		"internal/b/b.go":          file("package b\n\nimport _ \"" + module + "/internal/a\"\n"),
		"internal/b/testdata/x.go": file("not Go"),
		"test/c/c_test.go":         file("package c\n\nimport \"testing\"\n\nfunc TestC(t *testing.T) {}\n"),
		"README.md":                file("# It\n\n[a](docs/a.md#one-more-thing) [it](#it) [out](https://example.com/x)\n\n```\n[no](link)\n```\n"),
		"docs/a.md":                file("## One more thing\n\n[back](../README.md)\n"),
	}
}

const smallMap = `# Architecture

## Codemap

| package | owns | may import | start at | runs on |
|---|---|---|---|---|
| ` + "`cmd/x`" + ` | wiring | ` + "`a`, `b`" + ` | ` + "`run`" + ` | here |
| ` + "`internal/a`" + ` | a | nothing | ` + "`a.Evaluate`" + ` | here |
| ` + "`internal/b`" + ` | b | ` + "`a`" + ` | ` + "`b.Do`" + ` | here |

## Next
`

func TestTheCheckerOfTheCodemap(t *testing.T) {
	without := func(row string) string {
		var kept strings.Builder
		for line := range strings.Lines(smallMap) {
			if !strings.Contains(line, row) {
				kept.WriteString(line)
			}
		}
		return kept.String()
	}
	sideways := small()
	sideways["internal/a/b_test.go"] = &fstest.MapFile{Data: []byte("package a_test\n\nimport _ \"" + module + "/internal/b\"\n")}
	for _, tt := range []struct {
		story      string
		repository fs.FS
		text       string
		want       []string
	}{
		{"all is well", small(), smallMap, nil},
		{
			"a row is missing", small(), without("| `internal/b`"),
			[]string{"internal/b has no row in the codemap of ARCHITECTURE.md", "the row of cmd/x allows internal/b, which has no row"},
		},
		{
			"the table is missing", small(), "# Architecture\n",
			[]string{
				"cmd/x has no row in the codemap of ARCHITECTURE.md",
				"internal/a has no row in the codemap of ARCHITECTURE.md",
				"internal/b has no row in the codemap of ARCHITECTURE.md",
			},
		},
		{
			"an import that the row doesn't allow", small(), strings.Replace(smallMap, "| b | `a` |", "| b | nothing |", 1),
			[]string{"internal/b imports internal/a, which its row in the codemap does not allow"},
		},
		{
			"an import of a test", sideways, smallMap,
			[]string{"internal/a imports internal/b, which its row in the codemap does not allow"},
		},
		{
			"a row without a package", small(), strings.Replace(smallMap, "\n## Next", "| `internal/c` | c | nothing | - | - |\n\n## Next", 1),
			[]string{"internal/c has a row in the codemap, but no Go code"},
		},
		{
			"a row that is no row", small(), strings.Replace(smallMap, "| `internal/a` | a |", "| internal/a | a |", 1),
			[]string{"ARCHITECTURE.md: not a row of the codemap: [\"internal/a\" \"a\" \"nothing\" \"`a.Evaluate`\" \"here\"]"},
		},
	} {
		t.Run(tt.story, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, checkCodemap(tt.repository, tt.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheCheckerOfInvariants(t *testing.T) {
	var b strings.Builder
	b.WriteString("## Invariants\n\n| | invariant | held by |\n|---|---|---|\n")
	for i := range invariants {
		fmt.Fprintf(&b, "| %d | x | `TestA` |\n", i+1)
	}
	table := b.String()
	for _, tt := range []struct{ story, from, to, want string }{
		{"all is well", "", "", ""},
		{"a test of another folder", "| 1 | x | `TestA` |", "| 1 | x | `TestC` |", ""},
		{"none, and it says so", "| 2 | x | `TestA` |", "| 2 | x | No test yet. |", ""},
		{"none", "| 2 | x | `TestA` |", "| 2 | x | belief |", "invariant 2 names no test, and doesn't say that there is none"},
		{"a test that isn't there", "| 3 | x | `TestA` |", "| 3 | x | `TestGone` |", "invariant 3 names TestGone, which is not a test"},
		{"one too few", "| 10 | x | `TestA` |\n", "", "ARCHITECTURE.md has 9 invariants, want 10"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			got := strings.Join(checkInvariants(small(), strings.Replace(table, tt.from, tt.to, 1)), "; ")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheCheckerOfSymbols(t *testing.T) {
	got := checkSymbols(small(), "`a.Evaluate`, `a.Gone`, `metav1.Object`, `a.lower`")
	if diff := cmp.Diff([]string{"a.Gone does not exist"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheCheckerOfLinks(t *testing.T) {
	if wrong := checkLinks(small(), "README.md"); len(wrong) > 0 {
		t.Errorf("all is well, but: %q", wrong)
	}
	if wrong := checkLinks(small(), "docs/a.md"); len(wrong) > 0 {
		t.Errorf("all is well, but: %q", wrong)
	}
	broken := small()
	const hub = "https://github.com/kaito-project/keda-kaito-scaler"
	broken["README.md"] = &fstest.MapFile{Data: []byte("# It\n\n![a](docs/a.svg) [b](docs/a.md#two) [c](#that)\n" +
		"[well](" + hub + "#it) [well](" + hub + "/releases) [well](" + hub + "/blob/main/docs/a.md#one-more-thing)\n" +
		"[d](" + hub + "#three) [e](" + hub + "/blob/main/docs/b.md)\n")}
	want := []string{
		"README.md links to #that, and there is no such heading",
		"README.md links to docs/a.md#two, and there is no such heading",
		"README.md links to docs/a.svg, which isn't there",
		"README.md links to https://github.com/kaito-project/keda-kaito-scaler#three, and there is no such heading",
		"README.md links to https://github.com/kaito-project/keda-kaito-scaler/blob/main/docs/b.md, which isn't there",
	}
	if diff := cmp.Diff(want, checkLinks(broken, "README.md")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheCheckerOfWhatUsersMeet(t *testing.T) {
	code := small()
	code["internal/a/words.go"] = &fstest.MapFile{Data: []byte(`package a

const keyThreshold = "threshold"
const reasonUp = "ScalingUp"
const unseen = "unseen"

func words(f flags, o options) {
	f.StringVar(&o.x, "kubeconfig", o.x, "where")
	f.IntVarP(&o.v, "v", "v", o.v, "level")
	_ = event{kind: kind, reason: "ScalingRefused", note: note}
	n := event{kind: kind, reason: "ScaledObjectCreated"}
	n.reason = "ScaledObjectUpdated"
	_ = opts{Name: "keda_kaito_scaler_targets", Help: "help"}
}
`)}
	const file = ", which internal/a/words.go has"
	want := []string{
		"no document tells of --v" + file,
		"no document tells of ScaledObjectCreated" + file,
		"no document tells of ScaledObjectUpdated" + file,
		"no document tells of ScalingRefused" + file,
		"no document tells of targets" + file,
	}
	if diff := cmp.Diff(want, checkNamed(code, "threshold, ScalingUp, --kubeconfig")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
