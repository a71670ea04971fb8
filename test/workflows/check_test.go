// Package workflows tests what GitHub runs for this repository. It has nothing
// but tests; actionlint (make verify) sees to the workflows' grammar.
package workflows

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Each check returns what is wrong, in words, sorted; nothing if all is well.

// workflow has of a workflow what is checked.
type workflow struct {
	Permissions *map[string]string `json:"permissions"`
	Jobs        map[string]job     `json:"jobs"`
}

type job struct {
	Needs       needs              `json:"needs"`
	Uses        string             `json:"uses"`
	Permissions *map[string]string `json:"permissions"`
	Minutes     any                `json:"timeout-minutes"`
	Strategy    struct {
		Matrix struct {
			Include []struct {
				Stage string `json:"stage"`
			} `json:"include"`
		} `json:"matrix"`
	} `json:"strategy"`
	Steps []struct {
		Run string `json:"run"`
	} `json:"steps"`
}

// needs is a name or a list of them.
type needs []string

func (n *needs) UnmarshalJSON(text []byte) error {
	var one string
	if yaml.Unmarshal(text, &one) == nil {
		*n = needs{one}
		return nil
	}
	var all []string
	err := yaml.Unmarshal(text, &all)
	*n = all
	return err
}

// files are the texts of the workflows and of the actions of our own.
func files(repository fs.FS) (map[string]string, error) {
	out := map[string]string{}
	for _, pattern := range []string{".github/workflows/*", ".github/actions/*/*"} {
		names, err := fs.Glob(repository, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := fs.ReadFile(repository, name)
			if err != nil {
				return nil, err
			}
			out[name] = string(text)
		}
	}
	return out, nil
}

// workflows are those that are there, by the names of their files.
func workflows(repository fs.FS) (map[string]workflow, error) {
	all, err := files(repository)
	if err != nil {
		return nil, err
	}
	out := map[string]workflow{}
	for name, text := range all {
		if !strings.HasPrefix(name, ".github/workflows/") {
			continue
		}
		var w workflow
		if err := yaml.Unmarshal([]byte(text), &w); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[path.Base(name)] = w
	}
	return out, nil
}

var (
	uses   = regexp.MustCompile(`^\s*(?:- )?["']?uses["']?\s*:\s*(.*?)\s*$`)
	own    = regexp.MustCompile(`^\./\.github/`)
	pinned = regexp.MustCompile(`^([\w.-]+/[\w.-]+)(?:/[\w./-]+)?@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$`)
)

// checkPins sees that an action of others is named by a commit, which nobody can
// move, with its version for people and dependabot, and that it is one version
// everywhere.
func checkPins(repository fs.FS) []string {
	all, err := files(repository)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for line := range strings.Lines(all[name]) {
			match := uses.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if match == nil {
				if strings.Contains(line, "uses:") && !strings.HasPrefix(strings.TrimSpace(line), "#") {
					wrong = append(wrong, fmt.Sprintf("%s: %q: write uses on a line of its own", name, strings.TrimSpace(line)))
				}
				continue
			}
			if own.MatchString(match[1]) {
				continue
			}
			pin := pinned.FindStringSubmatch(match[1])
			switch {
			case pin == nil:
				wrong = append(wrong, fmt.Sprintf("%s: %s: want owner/action@COMMIT # vX.Y.Z, with the 40 digits of the commit", name, match[1]))
			case first[pin[1]] == "":
				first[pin[1]] = pin[2] + " " + pin[3]
			case first[pin[1]] != pin[2]+" "+pin[3]:
				wrong = append(wrong, fmt.Sprintf("%s: %s is %s here and %s elsewhere", name, pin[1], pin[2]+" "+pin[3], first[pin[1]]))
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// checkPermissions sees that a workflow has no rights and each job its own, that
// what a job may write is what is allowed here by name, and that none runs on for
// GitHub's six hours.
func checkPermissions(repository fs.FS, mayWrite map[string][]string) []string {
	all, err := workflows(repository)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for file, w := range all {
		if w.Permissions == nil || len(*w.Permissions) > 0 {
			wrong = append(wrong, file+": want permissions: {}, and each job's own")
		}
		for name, j := range w.Jobs {
			at := file + ", " + name
			if j.Permissions == nil {
				wrong = append(wrong, at+": no permissions of its own")
				continue
			}
			if j.Uses == "" && j.Minutes == nil {
				wrong = append(wrong, at+": no timeout-minutes")
			}
			for right, level := range *j.Permissions {
				if level != "read" && !slices.Contains(mayWrite[at], right) {
					wrong = append(wrong, fmt.Sprintf("%s: may %s %s", at, level, right))
				}
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// checkRelease sees that no job of the release that may write begins before the
// tag was checked and the tests have passed.
func checkRelease(repository fs.FS) []string {
	all, err := workflows(repository)
	if err != nil {
		return []string{err.Error()}
	}
	jobs := all["release.yaml"].Jobs
	var before func(name string) []string
	before = func(name string) []string {
		var out []string
		for _, need := range jobs[name].Needs {
			out = append(append(out, need), before(need)...)
		}
		return out
	}
	var checks, tests string
	for name, j := range jobs {
		if j.Uses == "./.github/workflows/ci.yaml" {
			tests = name
		}
		for _, step := range j.Steps {
			if strings.Contains(step.Run, "hack/release.sh build") {
				checks = name
			}
		}
	}
	if checks == "" || tests == "" {
		return []string{"release.yaml: no job has hack/release.sh build, or none has ci.yaml"}
	}
	var wrong []string
	for name, j := range jobs {
		for right, level := range *j.Permissions {
			for _, need := range []string{checks, tests} {
				if level == "write" && !slices.Contains(before(name), need) {
					wrong = append(wrong, fmt.Sprintf("release.yaml, %s: may write %s, and doesn't wait for %s", name, right, need))
				}
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

var (
	stages = regexp.MustCompile(`(?m)^stages=\((.*)\)$`)
	alone  = regexp.MustCompile(`(?m)^alone=\((.*)\)$`)
)

// checkStages sees that the workflow of pull requests has every stage of .ci/run
// once, and no other.
func checkStages(repository fs.FS) []string {
	all, err := workflows(repository)
	if err != nil {
		return []string{err.Error()}
	}
	run, err := fs.ReadFile(repository, ".ci/run")
	if err != nil {
		return []string{err.Error()}
	}
	match, more := stages.FindSubmatch(run), alone.FindSubmatch(run)
	if match == nil || more == nil {
		return []string{".ci/run has no line stages=(…), or none alone=(…)"}
	}
	var has []string
	for _, j := range all["ci.yaml"].Jobs {
		for _, entry := range j.Strategy.Matrix.Include {
			has = append(has, strings.Fields(entry.Stage)...)
		}
	}
	want := slices.Concat(strings.Fields(string(match[1])), strings.Fields(string(more[1])))
	slices.Sort(has)
	slices.Sort(want)
	if !slices.Equal(has, want) {
		return []string{fmt.Sprintf("ci.yaml has the stages %v, .ci/run has %v", has, want)}
	}
	return nil
}

// oldest pins versions that are to stay as they are.
const oldest = "test/cluster/keda218/go.mod"

// checkUpdates sees that dependabot looks at every module, at the actions and at
// the Dockerfile.
func checkUpdates(repository fs.FS) []string {
	text, err := fs.ReadFile(repository, ".github/dependabot.yml")
	if err != nil {
		return []string{err.Error()}
	}
	var config struct {
		Updates []struct {
			Ecosystem   string   `json:"package-ecosystem"`
			Directory   string   `json:"directory"`
			Directories []string `json:"directories"`
		} `json:"updates"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return []string{err.Error()}
	}
	looked := map[string][]string{}
	for _, u := range config.Updates {
		for _, dir := range append(u.Directories, u.Directory) {
			if dir != "" {
				looked[u.Ecosystem] = append(looked[u.Ecosystem], dir)
			}
		}
	}
	var wrong []string
	want := func(ecosystem, file string) {
		dir := path.Join("/", path.Dir(file))
		if !slices.ContainsFunc(looked[ecosystem], func(pattern string) bool {
			matched, _ := path.Match(pattern, dir)
			return matched
		}) {
			wrong = append(wrong, fmt.Sprintf("dependabot doesn't look at %s (%s)", file, ecosystem))
		}
	}
	err = fs.WalkDir(repository, ".", func(name string, entry fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "build", "node_modules"}, base):
			return fs.SkipDir
		case base == "go.mod" && name != oldest:
			want("gomod", name)
		case base == "Dockerfile":
			want("docker", name)
		case base == "action.yaml":
			want("github-actions", name)
		}
		return nil
	})
	if err != nil {
		return []string{err.Error()}
	}
	want("github-actions", "workflows") // dependabot's "/" is .github/workflows
	slices.Sort(wrong)
	return wrong
}

var (
	chartRepository = regexp.MustCompile(`helm repo add keda-kaito-scaler (\S+)|https://kaito-project\.github\.io/keda-kaito-scaler/[^\s` + "`" + `)]*`)
	chartArtefact   = regexp.MustCompile(`oci://ghcr\.io/[^\s` + "`" + `)]*/charts/[^\s` + "`" + `)]*`)
)

const (
	// users have this address in their configuration since 0.3.
	published = "https://kaito-project.github.io/keda-kaito-scaler/charts/kaito-project"
	artefact  = "oci://ghcr.io/kaito-project/charts/keda-kaito-scaler"
)

// checkInstall sees that whatever tells users how to install names the places
// that the release workflow publishes to, and that the README tells both.
func checkInstall(repository fs.FS, names ...string) []string {
	var wrong []string
	for i, name := range names {
		text, err := fs.ReadFile(repository, name)
		if err != nil {
			return []string{err.Error()}
		}
		for _, match := range chartRepository.FindAllSubmatch(text, -1) {
			address := strings.TrimPrefix(string(match[0]), "helm repo add keda-kaito-scaler ")
			if address != published {
				wrong = append(wrong, fmt.Sprintf("%s: the chart repository is %s, not %s", name, published, address))
			}
		}
		for _, match := range chartArtefact.FindAll(text, -1) {
			if string(match) != artefact {
				wrong = append(wrong, fmt.Sprintf("%s: the chart is %s, not %s", name, artefact, match))
			}
		}
		if i == 0 && (!strings.Contains(string(text), "helm repo add keda-kaito-scaler "+published+"\n") || !strings.Contains(string(text), artefact+" ")) {
			wrong = append(wrong, name+" doesn't tell both places to install from")
		}
	}
	return wrong
}
