package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// chartWith is a copy of the chart with other defaults: what Helm renders in an
// upgrade with --reuse-values, where the defaults are those of the chart before.
func chartWith(t *testing.T, defaults string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "keda-kaito-scaler")
	if err := os.CopyFS(folder, os.DirFS(root+"/charts/keda-kaito-scaler")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "values.yaml"), []byte(defaults), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// install is what helm install prints, the notes at its end.
func install(t *testing.T, chart string, args ...string) string {
	t.Helper()
	out, err := helm(t, nil, append([]string{"install", "keda-kaito-scaler", chart, "-n", "keda", "--dry-run=client"}, args...)...)
	if err != nil {
		t.Fatalf("helm install %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	_, manifest, _ := strings.Cut(out, "\nMANIFEST:\n")
	manifest, _, _ = strings.Cut(manifest, "\nNOTES:\n")
	valid(t, manifest)
	return out
}

func file(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Whoever upgrades with the values of an earlier release gets this one's program,
// with what they set, and is told which values mean nothing any more.
func TestTheValuesOfEarlierReleasesAreTaken(t *testing.T) {
	files, err := filepath.Glob("testdata/earlier/values-*.yaml")
	if err != nil || len(files) != 6 {
		t.Fatalf("values of earlier releases: %q, %v", files, err)
	}
	for _, name := range files {
		release := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "values-v"), ".yaml")
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		for how, out := range map[string]string{
			"--values":       install(t, "charts/keda-kaito-scaler", "--values", path),
			"--reuse-values": install(t, chartWith(t, file(t, path))),
		} {
			t.Run(release+" "+how, func(t *testing.T) {
				want := []string{
					"image: ghcr.io/kaito-project/keda-kaito-scaler:0.7.0\n",
					"replicas: 1\n", "--v=5\n", "--grpc-port=10450\n", "cpu: 2000m\n", "--scrape-interval=5s\n",
					"serviceAccountName: keda-kaito-scaler-sa\n",
					"NOTE: image.tag " + release + " is of a scaler before 0.7.0",
					"NOTE: the value nameOverrider is ignored",
				}
				if release == "0.3.3" {
					want = append(want, "--grpc-health-port=10452\n", "NOTE: the value ports.healthProbe is ignored")
				}
				for _, line := range want {
					if !strings.Contains(out, line) {
						t.Errorf("no %q in\n%s", line, out)
					}
				}
			})
		}
	}
}

// Nothing is told to whoever has none of it.
func TestAFirstInstallationIsToldNothingOfEarlierReleases(t *testing.T) {
	if out := install(t, "charts/keda-kaito-scaler"); strings.Contains(out, "NOTE:") {
		t.Error(out)
	}
}

// The golden render of earlier values is of a release's, not of what somebody
// makes of them later.
func TestTheGoldenRenderIsOfAnEarlierRelease(t *testing.T) {
	if file(t, "earlier/values.yaml") != file(t, "testdata/earlier/values-v0.6.2.yaml") {
		t.Error("earlier/values.yaml isn't 0.6.2's")
	}
}

func TestAnImageBeforeThisChartGivesWay(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	const repository = "ghcr.io/kaito-project/keda-kaito-scaler"
	for _, tt := range []struct{ story, set, want string }{
		{"the last of them", "image.tag=0.6.2", repository + ":0.7.0"},
		{"the first", "image.tag=0.0.1", repository + ":0.7.0"},
		{"with a v", "image.tag=v0.5.1", repository + ":0.7.0"},
		{"a build of one", "image.tag=0.6.2-patched", repository + ":0.7.0"},
		{"of a minor release", "image.tag=v0.6", repository + ":0.7.0"},
		{"in a registry of one's own", "image.registry=registry.example.com,image.tag=0.6.1", "registry.example.com/kaito-project/keda-kaito-scaler:0.7.0"},
		{"a candidate of the first", "image.tag=0.7.0-rc.1", repository + ":0.7.0-rc.1"},
		{"a later one", "image.tag=0.10.0", repository + ":0.10.0"},
		{"much later", "image.tag=v1.6.2", repository + ":v1.6.2"},
		{"a build of one's own", "image.tag=0.0.0-20261127134000-0123456789ab", repository + ":0.0.0-20261127134000-0123456789ab"},
		{"no version", "image.tag=main", repository + ":main"},
		{"a number of a build", "image.tag=0.600-nightly", repository + ":0.600-nightly"},
		{"a digest", "image.tag=0.6.2,image.digest=" + digest, repository + "@" + digest},
	} {
		t.Run(tt.story, func(t *testing.T) {
			out := install(t, "charts/keda-kaito-scaler", "--set", tt.set)
			if !strings.Contains(out, "image: "+tt.want+"\n") {
				t.Errorf("no image %s in\n%s", tt.want, out)
			}
			if told, want := strings.Contains(out, "NOTE: image.tag"), strings.HasSuffix(tt.want, ":0.7.0"); told != want {
				t.Errorf("told of the tag: %t, want %t", told, want)
			}
		})
	}
}
