// Package docs tests that what ARCHITECTURE.md and README.md say is true of the
// code. It has nothing but tests.
package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/kaito-project/keda-kaito-scaler"

// Each check returns what is wrong, in words, sorted; nothing if all is well.

// backticked is a word of code in Markdown.
var backticked = regexp.MustCompile("`([^`]+)`")

// section is the text under a heading of the second level, "" without one.
func section(markdown, heading string) string {
	_, after, found := strings.Cut("\n"+markdown, "\n## "+heading+"\n")
	if !found {
		return ""
	}
	text, _, _ := strings.Cut(after, "\n## ")
	return text
}

// rows are the cells of a table's rows, its head and rule left out.
func rows(markdown string) [][]string {
	var out [][]string
	for line := range strings.Lines(markdown) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out = append(out, cells)
	}
	return out[min(len(out), 2):]
}

// codeIn lists the backticked words of a cell.
func codeIn(cell string) []string {
	var out []string
	for _, match := range backticked.FindAllStringSubmatch(cell, -1) {
		out = append(out, match[1])
	}
	return out
}

// checkCodemap compares the table of packages with the code: each package has a
// row, each row a package, and no import goes beyond its row. Tests of a package
// are held to its row as well.
func checkCodemap(repository fs.FS, architecture string) []string {
	allowed := map[string][]string{}
	for _, cells := range rows(section(architecture, "Codemap")) {
		name := codeIn(cells[0])
		if len(name) != 1 || len(cells) != 5 {
			return []string{fmt.Sprintf("ARCHITECTURE.md: not a row of the codemap: %q", cells)}
		}
		allowed[name[0]] = []string{name[0]}
		for _, word := range codeIn(cells[2]) {
			allowed[name[0]] = append(allowed[name[0]], "internal/"+word)
		}
	}
	imports, err := importsOf(repository, "cmd", "internal")
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, pkg := range slices.Sorted(maps.Keys(imports)) {
		if _, found := allowed[pkg]; !found {
			wrong = append(wrong, fmt.Sprintf("%s has no row in the codemap of ARCHITECTURE.md", pkg))
			continue
		}
		for _, imported := range imports[pkg] {
			if !slices.Contains(allowed[pkg], imported) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which its row in the codemap does not allow", pkg, imported))
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(allowed)) {
		if _, found := imports[pkg]; !found {
			wrong = append(wrong, fmt.Sprintf("%s has a row in the codemap, but no Go code", pkg))
		}
		for _, other := range allowed[pkg] {
			if _, found := allowed[other]; !found {
				wrong = append(wrong, fmt.Sprintf("the row of %s allows %s, which has no row", pkg, other))
			}
		}
	}
	return wrong
}

// importsOf lists what the packages under some folders import of this module's
// cmd and internal, tests included.
func importsOf(repository fs.FS, folders ...string) (map[string][]string, error) {
	imports := map[string][]string{}
	err := eachFile(repository, folders, parser.ImportsOnly, func(name string, file *ast.File) {
		pkg := path.Dir(name)
		if imports[pkg] == nil {
			imports[pkg] = []string{}
		}
		for _, spec := range file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			inside, ours := strings.CutPrefix(imported, module+"/")
			if ours && !strings.HasPrefix(inside, "test/") && !slices.Contains(imports[pkg], inside) {
				imports[pkg] = append(imports[pkg], inside)
			}
		}
	})
	for _, list := range imports {
		slices.Sort(list)
	}
	return imports, err
}

// eachFile parses the Go files under some folders, those of testdata left out.
func eachFile(repository fs.FS, folders []string, mode parser.Mode, do func(name string, file *ast.File)) error {
	for _, folder := range folders {
		err := fs.WalkDir(repository, folder, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == "testdata":
				return fs.SkipDir
			case entry.IsDir() || path.Ext(name) != ".go":
				return nil
			}
			source, err := fs.ReadFile(repository, name)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, source, mode|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			do(name, file)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// invariants is how many the design has.
const invariants = 10

// checkInvariants sees that each invariant names tests, and that they exist.
func checkInvariants(repository fs.FS, architecture string) []string {
	tests := map[string]bool{}
	err := eachFile(repository, []string{"cmd", "internal", "test"}, 0, func(name string, file *ast.File) {
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && strings.HasSuffix(name, "_test.go") {
				tests[f.Name.Name] = true
			}
		}
	})
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	table := rows(section(architecture, "Invariants"))
	if len(table) != invariants {
		wrong = append(wrong, fmt.Sprintf("ARCHITECTURE.md has %d invariants, want %d", len(table), invariants))
	}
	for i, cells := range table {
		if cells[0] != strconv.Itoa(i+1) || len(cells) != 3 {
			wrong = append(wrong, fmt.Sprintf("row %d of the invariants is %q", i+1, cells))
			continue
		}
		named := 0
		for _, word := range codeIn(cells[2]) {
			if !strings.HasPrefix(word, "Test") && !strings.HasPrefix(word, "Fuzz") {
				continue
			}
			named++
			if !tests[word] {
				wrong = append(wrong, fmt.Sprintf("invariant %d names %s, which is not a test", i+1, word))
			}
		}
		if named == 0 && !strings.Contains(cells[2], "No test") {
			wrong = append(wrong, fmt.Sprintf("invariant %d names no test, and doesn't say that there is none", i+1))
		}
	}
	return wrong
}

// symbol is package.Name of an exported name, such as decision.Evaluate.
var symbol = regexp.MustCompile(`^([a-z]+)\.([A-Z][A-Za-z0-9]*)$`)

// checkSymbols sees that each symbol of our packages in a text exists.
func checkSymbols(repository fs.FS, text string) []string {
	declared, packages := map[string]bool{}, map[string]bool{}
	err := eachFile(repository, []string{"internal"}, 0, func(name string, file *ast.File) {
		pkg := path.Base(path.Dir(name))
		packages[pkg] = true
		for _, name := range declares(file) {
			declared[pkg+"."+name] = true
		}
	})
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, word := range codeIn(text) {
		match := symbol.FindStringSubmatch(word)
		if match != nil && packages[match[1]] && !declared[word] && !slices.Contains(wrong, word) {
			wrong = append(wrong, word)
		}
	}
	slices.Sort(wrong)
	for i := range wrong {
		wrong[i] += " does not exist"
	}
	return wrong
}

// declares lists the names of a file's top level, methods left out.
func declares(file *ast.File) []string {
	var names []string
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	slugged = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// checkLinks sees that the files and headings that a Markdown file links to are
// there, by their path or on GitHub. Other hosts are not asked.
func checkLinks(repository fs.FS, name string) []string {
	text, err := fs.ReadFile(repository, name)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
		target, err := url.Parse(match[1])
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s links to %s, which is no address", name, match[1]))
			continue
		}
		file, ours := linked(name, target)
		if !ours {
			continue
		}
		if _, err := fs.Stat(repository, file); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s links to %s, which isn't there", name, match[1]))
			continue
		}
		if target.Fragment != "" && !slices.Contains(anchors(repository, file), target.Fragment) {
			wrong = append(wrong, fmt.Sprintf("%s links to %s, and there is no such heading", name, match[1]))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// linked is the file that a page links to, if it is one of this repository.
func linked(page string, target *url.URL) (file string, ours bool) {
	switch onGitHub, found := strings.CutPrefix(target.Host+target.Path, module); {
	case target.Scheme == "" && target.Path == "":
		return page, true
	case target.Scheme == "":
		return path.Join(path.Dir(page), target.Path), true
	case found && onGitHub == "":
		return "README.md", true
	case found:
		return strings.CutPrefix(onGitHub, "/blob/main/")
	}
	return "", false
}

// anchors are the headings of a file as GitHub links to them.
func anchors(repository fs.FS, name string) []string {
	text, err := fs.ReadFile(repository, name)
	if err != nil {
		return nil
	}
	var out []string
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
		slug := slugged.ReplaceAllString(strings.ToLower(match[1]), "")
		out = append(out, strings.ReplaceAll(slug, " ", "-"))
	}
	return out
}

// checkNamed sees that what a user may set or meet is in the documents.
func checkNamed(repository fs.FS, documents string) []string {
	words, err := met(repository)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, word := range slices.Sorted(maps.Keys(words)) {
		if !strings.Contains(documents, word) {
			wrong = append(wrong, fmt.Sprintf("no document tells of %s, which %s has", word, words[word]))
		}
	}
	return wrong
}

// met is what users set and meet, with the file that has it: each flag,
// annotation, metadata key, metric, and reason of an event.
func met(repository fs.FS) (map[string]string, error) {
	words := map[string]string{}
	return words, eachFile(repository, []string{"cmd", "internal"}, 0, func(name string, file *ast.File) {
		if !strings.HasSuffix(name, "_test.go") {
			ast.Inspect(file, func(node ast.Node) bool {
				meet(words, name, node)
				return true
			})
		}
	})
}

// meet notes what a node of the code shows to users.
func meet(words map[string]string, name string, node ast.Node) {
	add := func(prefix string, value ast.Expr) {
		if text, ok := literal(value); ok && text != "" {
			words[prefix+text] = name
		}
	}
	switch n := node.(type) {
	case *ast.CallExpr: // f.StringVar(&o.kubeconfig, "kubeconfig", …)
		method, ok := n.Fun.(*ast.SelectorExpr)
		if ok && len(n.Args) > 3 && (strings.HasSuffix(method.Sel.Name, "Var") || strings.HasSuffix(method.Sel.Name, "VarP")) {
			add("--", n.Args[1])
		}
	case *ast.ValueSpec: // keyThreshold = "threshold", metaMin = "minReplicas", reasonUp = "ScalingUp"
		for i := range min(len(n.Names), len(n.Values)) {
			if is := n.Names[i].Name; constant.MatchString(is) {
				add("", n.Values[i])
			}
		}
	case *ast.KeyValueExpr: // Name: "keda_kaito_scaler_scrape_targets", reason: "ScalingRefused"
		if text, ok := literal(n.Value); ok && strings.HasPrefix(text, "keda_kaito_scaler_") {
			words[strings.TrimPrefix(text, "keda_kaito_scaler_")] = name
		}
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "reason" {
			add("", n.Value)
		}
	case *ast.AssignStmt: // n.reason = "ScaledObjectUpdated"
		if to, ok := n.Lhs[0].(*ast.SelectorExpr); ok && to.Sel.Name == "reason" && len(n.Rhs) == 1 {
			add("", n.Rhs[0])
		}
	}
}

// constant is how those constants are called whose values users write or read.
var constant = regexp.MustCompile(`^(key(AutoProvision|Threshold|Metric.*|Combine|Min|Max|Window|Scale.*)|(meta|field)[A-Z].*|reason[A-Z].*)$`)

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}
