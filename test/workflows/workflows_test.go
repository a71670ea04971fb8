package workflows

import (
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func repository() fs.FS { return os.DirFS("../..") }

// mayWrite is all that jobs may change, or sign in our name.
var mayWrite = map[string][]string{
	"codeql.yaml, analyze":   {"security-events"},
	"release.yaml, registry": {"packages", "id-token", "attestations"},
	"release.yaml, github":   {"contents", "id-token", "attestations"},
	"release.yaml, pages":    {"contents"},
}

func TestActionsArePinned(t *testing.T) { report(t, checkPins(repository())) }

func TestJobsHaveTheRightsThatTheyUse(t *testing.T) {
	report(t, checkPermissions(repository(), mayWrite))
}

func TestNothingIsPublishedBeforeTheTests(t *testing.T) { report(t, checkRelease(repository())) }

func TestPullRequestsRunEveryStage(t *testing.T) { report(t, checkStages(repository())) }

func TestEveryDependencyIsUpdated(t *testing.T) { report(t, checkUpdates(repository())) }

func TestUsersInstallWhatIsReleased(t *testing.T) {
	names := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "charts/*/README.md", "artifacthub/*/*", "CONTRIBUTING.md"} {
		found, err := fs.Glob(repository(), pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %q, %v", pattern, found, err)
		}
		names = append(names, found...)
	}
	report(t, checkInstall(repository(), names...))

	// The workflow publishes there.
	release, err := fs.ReadFile(repository(), ".github/workflows/release.yaml")
	if err != nil {
		t.Fatal(err)
	}
	script, err := fs.ReadFile(repository(), "hack/release.sh")
	if err != nil {
		t.Fatal(err)
	}
	for text, part := range map[string][]byte{
		"CHART: " + strings.TrimPrefix(artefact, "oci://") + "\n": release,
		"hack/release.sh push ghcr.io/kaito-project":              release,
		`"oci://$1/charts"`: script,
		"${release}/pages/" + strings.TrimPrefix(published, pagesRoot): script,
	} {
		if !strings.Contains(string(part), text) {
			t.Errorf("%q isn't there", text)
		}
	}
}

// pagesRoot is where GitHub Pages has the branch gh-pages.
const pagesRoot = "https://kaito-project.github.io/keda-kaito-scaler/"

func TestTheCheckOfInstalls(t *testing.T) {
	const well = "helm repo add keda-kaito-scaler " + published + "\nhelm install x " + artefact + " -n keda\n"
	for _, tt := range []struct{ story, from, to, want string }{
		{"all is well", "", "", ""},
		{"the folder above", "/kaito-project\n", "\n", "README.md: the chart repository is " + published + ", not " + pagesRoot + "charts; README.md doesn't tell both places to install from"},
		{"somewhere else", published, "http://localhost:8000", "README.md: the chart repository is " + published + ", not http://localhost:8000; README.md doesn't tell both places to install from"},
		{"another artefact", artefact, "oci://ghcr.io/kaito-project/charts/scaler", "README.md: the chart is " + artefact + ", not oci://ghcr.io/kaito-project/charts/scaler; README.md doesn't tell both places to install from"},
		{"one of both", "helm install x " + artefact, "helm install x y", "README.md doesn't tell both places to install from"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			readme := fstest.MapFS{"README.md": {Data: []byte(strings.Replace(well, tt.from, tt.to, 1))}}
			if diff := cmp.Diff(tt.want, strings.Join(checkInstall(readme, "README.md"), "; ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What is released is built with the Go that go.mod asks for, by GitHub as by the
// Dockerfile.
func TestGoIsOfOneVersion(t *testing.T) {
	mod, err := fs.ReadFile(repository(), "go.mod")
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if match == nil {
		t.Fatal("go.mod names no Go")
	}
	for name, want := range map[string]string{
		".github/actions/setup/action.yaml": "go-version: " + string(match[1]) + ".x\n",
		"Dockerfile":                        " golang:" + string(match[1]) + " AS build\n",
	} {
		text, err := fs.ReadFile(repository(), name)
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s has no %q: %v", name, want, err)
		}
	}
}

func TestEverythingHasAnOwner(t *testing.T) {
	text, err := fs.ReadFile(repository(), ".github/CODEOWNERS")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^\* @\S+`).Match(text) {
		t.Error(".github/CODEOWNERS has no owner of everything")
	}
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Error(w)
	}
}

const commit = "de0fac2e4500dabe0009e67214ff5f5447ce83dd"

// small is a repository in which all is well.
func small() map[string]string {
	return map[string]string{
		".ci/run": "stages=(build)\nalone=(test)\n",
		".github/workflows/ci.yaml": `on: [pull_request]
permissions: {}
jobs:
  stage:
    permissions: { contents: read }
    timeout-minutes: 10
    strategy:
      matrix:
        include:
          - { stage: build test, minutes: 10 }
    steps:
      - uses: actions/checkout@` + commit + ` # v6.0.2
      - uses: ./.github/actions/setup
`,
		".github/workflows/release.yaml": `on: [push]
permissions: {}
jobs:
  make:
    permissions: { contents: read }
    timeout-minutes: 10
    steps:
      - run: hack/release.sh build 1.0.0
  try:
    permissions: { contents: read }
    uses: ./.github/workflows/ci.yaml
  publish:
    needs: [make, try]
    permissions: { packages: write }
    timeout-minutes: 10
  tell:
    needs: publish
    permissions: { contents: write }
    timeout-minutes: 10
`,
		".github/actions/setup/action.yaml": "runs:\n  steps:\n    - uses: actions/checkout@" + commit + " # v6.0.2\n",
		".github/dependabot.yml": `updates:
  - { package-ecosystem: gomod, directories: [/, /tools/*] }
  - { package-ecosystem: github-actions, directories: [/, /.github/actions/*] }
  - { package-ecosystem: docker, directory: / }
`,
		"go.mod": "", "tools/helm/go.mod": "", "Dockerfile": "", "build/copy/go.mod": "",
	}
}

func TestTheChecksOfWorkflows(t *testing.T) {
	const (
		ci      = ".github/workflows/ci.yaml"
		release = ".github/workflows/release.yaml"
		setup   = ".github/actions/setup/action.yaml"
		pin     = "actions/checkout@" + commit + " # v6.0.2"
	)
	unpinned := func(file, is string) string {
		return file + ": " + is + ": want owner/action@COMMIT # vX.Y.Z, with the 40 digits of the commit"
	}
	for _, tt := range []struct{ story, file, from, to, want string }{
		{"all is well", ci, "", "", ""},
		{"a tag", ci, pin, "actions/checkout@v6", unpinned(ci, "actions/checkout@v6")},
		{"a tag in an action of ours", setup, pin, "actions/checkout@v6", unpinned(setup, "actions/checkout@v6")},
		{"a branch", ci, pin, "actions/checkout@main # v6.0.2", unpinned(ci, "actions/checkout@main # v6.0.2")},
		{"half a commit", ci, pin, "actions/checkout@de0fac2 # v6.0.2", unpinned(ci, "actions/checkout@de0fac2 # v6.0.2")},
		{"no version", ci, pin, "actions/checkout@" + commit, unpinned(ci, "actions/checkout@"+commit)},
		{"a version that says little", ci, " # v6.0.2", " # v6", unpinned(ci, "actions/checkout@"+commit+" # v6")},
		{"an image", ci, pin, "docker://alpine:3", unpinned(ci, "docker://alpine:3")},
		{"in braces", ci, "- uses: " + pin, "- { uses: actions/checkout@v6 }", ci + `: "- { uses: actions/checkout@v6 }": write uses on a line of its own`},
		{"two versions", ci, commit, strings.Repeat("0", 40), ci + ": actions/checkout is 0000000000000000000000000000000000000000 v6.0.2 here and " + commit + " v6.0.2 elsewhere"},
		{"rights for all jobs", ci, "permissions: {}", "permissions: { contents: read }", "ci.yaml: want permissions: {}, and each job's own"},
		{"GitHub's rights for all jobs", ci, "permissions: {}\n", "", "ci.yaml: want permissions: {}, and each job's own"},
		{"a job without its own", ci, "    permissions: { contents: read }\n", "", "ci.yaml, stage: no permissions of its own"},
		{"a right too many", ci, "{ contents: read }", "{ contents: write }", "ci.yaml, stage: may write contents"},
		{"no end", ci, "    timeout-minutes: 10\n", "", "ci.yaml, stage: no timeout-minutes"},
		{"a stage is left out", ci, "build test", "build", "ci.yaml has the stages [build], .ci/run has [build test]"},
		{"a stage more", ".ci/run", "(build)", "(build fuzz)", "ci.yaml has the stages [build test], .ci/run has [build fuzz test]"},
		{"a stage more on a machine of its own", ".ci/run", "(test)", "(test engines)", "ci.yaml has the stages [build test], .ci/run has [build engines test]"},
		{"published untested", release, "needs: [make, try]", "needs: make", "release.yaml, publish: may write packages, and doesn't wait for try; release.yaml, tell: may write contents, and doesn't wait for try"},
		{"told at once", release, "    needs: publish\n", "", "release.yaml, tell: may write contents, and doesn't wait for make; release.yaml, tell: may write contents, and doesn't wait for try"},
		{"never tested", release, "uses: ./.github/workflows/ci.yaml", "timeout-minutes: 1", "release.yaml: no job has hack/release.sh build, or none has ci.yaml"},
		{"a module that dependabot doesn't see", ".github/dependabot.yml", ", /tools/*", "", "dependabot doesn't look at tools/helm/go.mod (gomod)"},
		{"the Dockerfile", ".github/dependabot.yml", "docker, directory: /", "docker, directory: /images", "dependabot doesn't look at Dockerfile (docker)"},
		{"actions of ours", ".github/dependabot.yml", "[/, /.github/actions/*]", "[/]", "dependabot doesn't look at .github/actions/setup/action.yaml (github-actions)"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			texts := small()
			if !strings.Contains(texts[tt.file], tt.from) {
				t.Fatalf("%s has no %q", tt.file, tt.from)
			}
			texts[tt.file] = strings.Replace(texts[tt.file], tt.from, tt.to, 1)
			broken := fstest.MapFS{}
			for name, text := range texts {
				broken[name] = &fstest.MapFile{Data: []byte(text)}
			}
			may := map[string][]string{"release.yaml, publish": {"packages"}, "release.yaml, tell": {"contents"}}
			got := slices.Concat(checkPins(broken), checkPermissions(broken, may), checkRelease(broken), checkStages(broken), checkUpdates(broken))
			if diff := cmp.Diff(tt.want, strings.Join(got, "; ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The allowance itself must not grow old.
func TestWhatMayBeWrittenIsWritten(t *testing.T) {
	all, err := workflows(repository())
	if err != nil {
		t.Fatal(err)
	}
	used := map[string][]string{}
	for file, w := range all {
		for name, j := range w.Jobs {
			for right, level := range *j.Permissions {
				if level == "write" {
					used[file+", "+name] = append(used[file+", "+name], right)
				}
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(mayWrite)) {
		for _, right := range mayWrite[at] {
			if !slices.Contains(used[at], right) {
				t.Errorf("%s doesn't write %s", at, right)
			}
		}
	}
}
