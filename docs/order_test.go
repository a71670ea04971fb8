package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// unordered are the packages whose files still use each other in a circle. The list
// only gets shorter.
var unordered = []string{
	"internal/automatic", "internal/policy", "internal/scrape", "internal/simulate", "internal/simulate/report",
}

// A reader goes through the files of a package from the ones that use nothing of it
// to the one that uses the others.
func TestFilesOfAPackageStandInAnOrder(t *testing.T) {
	circles, err := checkOrder(repository(), "cmd", "internal")
	if err != nil {
		t.Fatal(err)
	}
	for pkg, files := range circles {
		if !slices.Contains(unordered, pkg) {
			t.Errorf("%s: each of %s uses the others: move what they share into a file below them", pkg, strings.Join(files, ", "))
		}
	}
	for _, pkg := range unordered {
		if circles[pkg] == nil {
			t.Errorf("%s has an order now: take it from the list", pkg)
		}
	}
}

func TestACircleOfFilesIsFound(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("package x\n" + text)} }
	circles, err := checkOrder(fstest.MapFS{
		"x/top.go":         file("func Top() { middle(); low() }"),
		"x/middle.go":      file("func middle() { low() }\nvar pause = 1"),
		"x/low.go":         file("func low() { middle := 2; _ = middle }"), // its own
		"x/low_test.go":    file("func test() { Top() }"),
		"y/type.go":        file("type thing struct{}\nfunc (t *thing) run() { help() }"),
		"y/help.go":        file("func help() {}\nfunc (t *thing) stop() {}"),
		"y/beside.go":      file("func beside() { help() }"),
		"y/testdata/no.go": file("func no() { beside() }"),
	}, "x", "y")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"y": {"help.go", "type.go"}}, circles); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// checkOrder finds, for each package, the files that use each other in a circle. One
// file uses another if it names what that declares; calls of methods don't count.
func checkOrder(repository fs.FS, folders ...string) (map[string][]string, error) {
	packages := map[string][]*ast.File{}
	names := map[*ast.File]string{}
	err := eachFile(repository, folders, parser.ImportsOnly, func(name string, _ *ast.File) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		source, err := fs.ReadFile(repository, name)
		if err != nil {
			return // eachFile has read it
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
		if err == nil {
			packages[path.Dir(name)], names[file] = append(packages[path.Dir(name)], file), path.Base(name)
		}
	})
	circles := map[string][]string{}
	for pkg, files := range packages {
		uses := usesOf(files, names)
		for file := range uses {
			if reaches(uses, file, file, map[string]bool{}) {
				circles[pkg] = append(circles[pkg], file)
			}
		}
		slices.Sort(circles[pkg])
	}
	maps.DeleteFunc(circles, func(_ string, files []string) bool { return len(files) == 0 })
	return circles, err
}

// usesOf says which files each file of a package uses, by name.
func usesOf(files []*ast.File, names map[*ast.File]string) map[string][]string {
	declaredIn := map[string]string{}
	for _, file := range files {
		for name := range file.Scope.Objects { // without types this is what knows
			declaredIn[name] = names[file]
		}
	}
	uses := map[string][]string{}
	for _, file := range files {
		for _, id := range file.Unresolved { // what the file doesn't declare
			if other, found := declaredIn[id.Name]; found && other != names[file] && !slices.Contains(uses[names[file]], other) {
				uses[names[file]] = append(uses[names[file]], other)
			}
		}
	}
	return uses
}

func reaches(uses map[string][]string, from, to string, seen map[string]bool) bool {
	for _, next := range uses[from] {
		if next == to {
			return true
		}
		if !seen[next] {
			seen[next] = true
			if reaches(uses, next, to, seen) {
				return true
			}
		}
	}
	return false
}
