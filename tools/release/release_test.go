package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const history = `# Changelog

## [Unreleased]

### Added

- Something to come.

## [0.7.1] - 2026-12-20

### Fixed

- A thing.

  ## not a heading of a version

## [0.7.0] - 2026-12-01

### Added

- The first one, see [0.6.2].

[0.7.1]: https://example.com/0.7.1
[0.6.2]: https://example.com/0.6.2
`

func TestNotesAreTheVersionsOwn(t *testing.T) {
	for _, tt := range []struct {
		story, changelog, version string
		unreleased                bool
		want, refused             string
	}{
		{"the newest", history, "0.7.1", false, "### Fixed\n\n- A thing.\n\n  ## not a heading of a version", ""},
		{"the last, without the links", history, "0.7.0", false, "### Added\n\n- The first one, see [0.6.2].", ""},
		{"one that isn't there", history, "0.8.0", false, "", `no section "## [0.8.0] - DATE"`},
		{"part of a number is another version", history, "0.7", false, "", "no section"},
		{"a dry run takes what is to come", history, "0.8.0", true, "### Added\n\n- Something to come.", ""},
		{"and the section once there is one", history, "0.7.1", true, "### Fixed\n\n- A thing.\n\n  ## not a heading of a version", ""},
		{"headings alone", "# C\n\n## [0.8.0] - 2027-01-01\n\n### Added\n", "0.8.0", false, "", "says nothing of 0.8.0"},
		{"no date", "# C\n\n## [0.8.0]\n\n- x\n", "0.8.0", false, "", "no heading of a version"},
		{"no such day", "# C\n\n## [0.8.0] - 2027-02-30\n\n- x\n", "0.8.0", false, "", "has the date"},
		{"with a v", "# C\n\n## [v0.8.0] - 2027-02-01\n\n- x\n", "0.8.0", false, "", "no heading of a version"},
		{"the older one above", "# C\n\n## [0.7.9] - 2027-02-01\n\n- x\n\n## [0.7.10] - 2027-02-02\n\n- y\n", "0.7.9", false, "", "stands above"},
		{"one version twice", "# C\n\n## [0.7.9] - 2027-02-01\n\n- x\n\n## [0.7.9] - 2027-02-02\n\n- y\n", "0.7.9", false, "", "each once"},
		{"none at all", "# C\n", "0.7.0", true, "", "no section"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			got, err := notes(tt.changelog, tt.version, tt.unreleased)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			wantError(t, err, tt.refused)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestVersionsAreOrdered(t *testing.T) {
	order := []string{"0.6.2", "0.7.0-alpha", "0.7.0-rc.1", "0.7.0", "0.7.9", "0.7.10", "1.0.0"}
	for i, a := range order {
		for j, b := range order {
			if got := compare(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("compare(%s, %s) is %d", a, b, got)
			}
		}
	}
}

// repo is a checkout with the files that have the version, and a changelog.
func repo(t *testing.T, history string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{chartFile, listingFile} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	write(t, filepath.Join(dir, changelog), history)
	return dir
}

func TestATagThatDiffersIsRefused(t *testing.T) {
	dir := repo(t, "# Changelog\n\n## [Unreleased]\n\n- Something new.\n\n## [0.7.9] - 2026-12-01\n\n- Before.\n")
	if err := setVersion(dir, "0.8.0", time.Date(2026, 12, 24, 23, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	index, err := filepath.Abs("testdata/index.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkTag(dir, "v0.8.0", index, false); err != nil {
		t.Errorf("the version that was set: %v", err)
	}
	change := func(file, from, to string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := edit(filepath.Join(dir, file), func(text string) (string, error) {
				if !strings.Contains(text, from) {
					t.Fatalf("%s has no %q", file, from)
				}
				return strings.Replace(text, from, to, 1), nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	nothing := func(*testing.T, string) {}
	for _, tt := range []struct {
		story, tag string
		wrong      func(t *testing.T, dir string)
		want       string
	}{
		{"another version", "v0.8.1", nothing, "Chart.yaml: version is 0.8.0, and the tag v0.8.1 wants 0.8.1"},
		{"a pre-release of it", "v0.8.0-rc.1", nothing, "the tag v0.8.0-rc.1 wants 0.8.0-rc.1"},
		{"no v", "0.8.0", nothing, "no tag of a release"},
		{"two numbers", "v0.8", nothing, "no tag of a release"},
		{"something more", "v0.8.0 ", nothing, "no tag of a release"},
		{"the chart's own version", "v0.8.0", change(chartFile, "\nversion: 0.8.0", "\nversion: 0.7.9"), "Chart.yaml: version is 0.7.9"},
		{"the chart's image", "v0.8.0", change(chartFile, "\nappVersion: 0.8.0", "\nappVersion: 0.7.9"), "Chart.yaml: appVersion is 0.7.9"},
		{"the chart's listing", "v0.8.0", change(chartFile, "scaler:0.8.0", "scaler:0.7.9"), "artifacthub.io/images is 0.7.9"},
		{"a pre-release that isn't", "v0.8.0", change(chartFile, `prerelease: "false"`, `prerelease: "true"`), "artifacthub.io/prerelease is true"},
		{"the scaler's listing", "v0.8.0", change(listingFile, "\nappVersion: 0.8.0", "\nappVersion: 0.7.9"), "artifacthub-pkg.yml: appVersion is 0.7.9"},
		{"a file that has lost it", "v0.8.0", change(chartFile, "\nappVersion: 0.8.0", ""), "Chart.yaml has no appVersion"},
		{"no section", "v0.8.0", change(changelog, "[0.8.0] -", "[0.7.10] -"), `no section "## [0.8.0] - DATE"`},
		{"published before", "v0.6.2", nothing, "the chart repository has 0.6.2 already"},
		{"older than what was released", "v0.7.9", nothing, "CHANGELOG.md has 0.8.0 already, which is newer than v0.7.9"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			tt.wrong(t, copied)
			wantError(t, checkTag(copied, tt.tag, index, false), tt.want)
		})
	}
}

func TestAVersionIsSetEverywhereAtOnce(t *testing.T) {
	dir := repo(t, "# Changelog\n\nAbout it.\n\n## [Unreleased]\n\n- Something new.\n")
	if err := setVersion(dir, "1.0.0-rc.1", time.Date(2026, 12, 24, 23, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if err := checkTag(dir, "v1.0.0-rc.1", "", false); err != nil {
		t.Error(err)
	}
	want := "# Changelog\n\nAbout it.\n\n## [Unreleased]\n\n## [1.0.0-rc.1] - 2026-12-24\n\n- Something new.\n"
	got, err := os.ReadFile(filepath.Join(dir, changelog))
	if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	wantError(t, setVersion(dir, "1.0.0", time.Now()), "nothing under Unreleased")
	wantError(t, setVersion(dir, "v1.0.0", time.Now()), "no semantic version")
}

// What is checked in may be released, once the changelog has its section.
func TestThisCheckoutIsOfOneVersion(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, chartFile))
	if err != nil {
		t.Fatal(err)
	}
	match := places[0].pattern.FindSubmatch(text)
	if match == nil {
		t.Fatal("the chart has no version")
	}
	if err := checkTag(root, "v"+string(match[1]), "", true); err != nil {
		t.Error(err)
	}
}

// hack/release.sh adds the chart to the index that there is, and before it does
// anything it refuses what must not be published.
func TestAReleaseKeepsEarlierVersions(t *testing.T) {
	before, err := versionsIn("testdata/index.yaml")
	if err != nil || len(before) != 6 {
		t.Fatalf("earlier versions are %v: %v", before, err)
	}
	into := filepath.Join(t.TempDir(), "release")
	chart := func(version, previous string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "hack/release.sh", "chart", version)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "DRY_RUN=1", "RELEASE_DIR="+into, "PREVIOUS="+previous)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for version, want := range map[string]string{
		"99.9.9": "the tag v99.9.9 wants 99.9.9", "0.6.2": "the chart repository has 0.6.2 already", "latest": "no tag of a release",
	} {
		if out, err := chart(version, "tools/release/testdata/index.yaml"); err == nil || !strings.Contains(out, want) {
			t.Errorf("version %s: %v, %s", version, err, out)
		}
		if _, err := os.Stat(into); !os.IsNotExist(err) {
			t.Errorf("version %s is refused, and something is there: %v", version, err)
		}
	}

	text, err := os.ReadFile(filepath.Join(root, chartFile))
	if err != nil {
		t.Fatal(err)
	}
	version := string(places[0].pattern.FindSubmatch(text)[1])
	if out, err := chart(version, "tools/release/testdata/index.yaml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pages := filepath.Join(into, "pages", "charts", "kaito-project")
	after, err := versionsIn(filepath.Join(pages, "index.yaml"))
	if diff := cmp.Diff(append([]string{version}, before...), after); err != nil || diff != "" {
		t.Errorf("%v; the index's versions (-want +got):\n%s", err, diff)
	}
	index, err := os.ReadFile(filepath.Join(pages, "index.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	name := "keda-kaito-scaler-" + version + ".tgz"
	for _, want := range []string{
		// Found beside the index, wherever that is served.
		"    - " + name + "\n",
		"    - https://kaito-project.github.io/keda-kaito-scaler/charts/kaito-project/keda-kaito-scaler-0.6.2.tgz\n",
	} {
		if !strings.Contains(string(index), want) {
			t.Errorf("the index has no %q", want)
		}
	}
	if _, err := os.Stat(filepath.Join(pages, name)); err != nil {
		t.Error(err)
	}
}

func TestWhatIsServedIsWhatUsersGet(t *testing.T) {
	dir := t.TempDir()
	index := filepath.Join(dir, "pages", "charts", "kaito-project", "index.yaml")
	write(t, index, "apiVersion: v1\n")
	at, stop, err := listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if got := get(t, "http://"+at+"/keda-kaito-scaler/charts/kaito-project/index.yaml"); got != "apiVersion: v1\n" {
		t.Errorf("the chart repository's index is %q", got)
	}
	var out strings.Builder
	if err := push(t.Context(), filepath.Join(folder(t), "oci"), at+"/kaito-project/keda-kaito-scaler:0.7.0"); err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Manifests []struct {
			Platform struct{ OS, Architecture string }
		}
	}
	if err := json.Unmarshal([]byte(get(t, "http://"+at+"/v2/kaito-project/keda-kaito-scaler/manifests/0.7.0")), &manifest); err != nil {
		t.Fatal(err)
	}
	for _, m := range manifest.Manifests {
		out.WriteString(m.Platform.OS + "/" + m.Platform.Architecture + " ")
	}
	if out.String() != "linux/amd64 linux/arm64 " {
		t.Errorf("the image is for %s", out.String())
	}
	for platform, want := range map[string]string{"linux/amd64": "", "linux/s390x": "no child with platform", "": ""} {
		wantError(t, printDigest(t.Context(), at+"/kaito-project/keda-kaito-scaler:0.7.0", platform), want)
	}
	wantError(t, printDigest(t.Context(), at+"/kaito-project/keda-kaito-scaler:0.7.1", ""), "404")
}

func TestACommandSeesWhatIsServed(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pages", "index.html"), "")
	loopback := `case $RELEASE_ADDRESS in 127.0.0.1:*) exit "$0" ;; esac; exit 1`
	for code, want := range map[string]string{"0": "", "3": "exit status 3"} {
		wantError(t, serve(t.Context(), dir, []string{"sh", "-c", loopback, code}), want)
	}
	wantError(t, serve(t.Context(), t.TempDir(), []string{"true"}), "nothing to serve")
}

func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	return string(text)
}
