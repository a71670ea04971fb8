package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// listing is what Artifact Hub reads of a KEDA scaler.
type listing struct {
	Version         string   `json:"version"`
	Name            string   `json:"name"`
	DisplayName     string   `json:"displayName"`
	CreatedAt       string   `json:"createdAt"`
	Description     string   `json:"description"`
	Category        string   `json:"category"`
	License         string   `json:"license"`
	HomeURL         string   `json:"homeURL"`
	AppVersion      string   `json:"appVersion"`
	Prerelease      bool     `json:"prerelease"`
	Keywords        []string `json:"keywords"`
	Install         string   `json:"install"`
	Links           []named  `json:"links"`
	Images          []named  `json:"containersImages"`
	Recommendations []named  `json:"recommendations"`
}

type named struct {
	Name      string   `json:"name"`
	URL       string   `json:"url"`
	Image     string   `json:"image"`
	Platforms []string `json:"platforms"`
}

// chartFile is what Artifact Hub reads of the chart.
type chartFile struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Version     string            `json:"version"`
	AppVersion  string            `json:"appVersion"`
	Home        string            `json:"home"`
	Icon        string            `json:"icon"`
	Maintainers []named           `json:"maintainers"`
	Keywords    []string          `json:"keywords"`
	Annotations map[string]string `json:"annotations"`
}

// Artifact Hub lists the project twice, as a chart and as a KEDA scaler, and both
// say the same.
func TestArtifactHubIsToldTheSameTwice(t *testing.T) {
	folder := filepath.Join(root, "artifacthub", "keda-kaito-scaler")
	text, err := os.ReadFile(filepath.Join(folder, "artifacthub-pkg.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var scaler listing
	if err := yaml.UnmarshalStrict(text, &scaler); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(root + "/charts/keda-kaito-scaler/Chart.yaml"); err != nil {
		t.Fatal(err)
	}
	var chart chartFile
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	for what, both := range map[string][2]string{
		"name":        {scaler.Name, chart.Name},
		"version":     {scaler.Version, chart.Version},
		"appVersion":  {scaler.AppVersion, chart.AppVersion},
		"description": {scaler.Description, chart.Description},
		"home":        {scaler.HomeURL, chart.Home},
		"keywords":    {strings.Join(scaler.Keywords, " "), strings.Join(chart.Keywords, " ")},
		"category":    {scaler.Category, chart.Annotations["artifacthub.io/category"]},
		"license":     {scaler.License, chart.Annotations["artifacthub.io/license"]},
		"prerelease":  {strconv.FormatBool(scaler.Prerelease), chart.Annotations["artifacthub.io/prerelease"]},
		"images":      {imagesIn(scaler.Images), imagesOf(t, chart)},
	} {
		if both[0] != both[1] || both[0] == "" {
			t.Errorf("%s: the scaler has %q, the chart %q", what, both[0], both[1])
		}
	}
	// What Artifact Hub asks for besides.
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(scaler.Version) || scaler.DisplayName == "" || scaler.Install == "" {
		t.Errorf("version %q, displayName %q, install %q", scaler.Version, scaler.DisplayName, scaler.Install)
	}
	if _, err := time.Parse(time.RFC3339, scaler.CreatedAt); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "README.md")); err != nil {
		t.Error(err)
	}
}

// What chart-testing asks for: a picture, which is in this repository, and
// somebody to write to.
func TestTheChartHasAPictureAndMaintainers(t *testing.T) {
	var chart chartFile
	if err := yaml.Unmarshal([]byte(file(t, root+"/charts/keda-kaito-scaler/Chart.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	path, ours := strings.CutPrefix(chart.Icon, strings.Replace(chart.Home, "github.com", "raw.githubusercontent.com", 1)+"/main/")
	if !ours || !strings.HasPrefix(file(t, filepath.Join(root, path)), "<svg") {
		t.Errorf("the icon is %q", chart.Icon)
	}
	if len(chart.Maintainers) == 0 || chart.Maintainers[0].Name == "" || chart.Maintainers[0].URL == "" {
		t.Errorf("maintainers %q", chart.Maintainers)
	}
}

func imagesOf(t *testing.T, chart chartFile) string {
	t.Helper()
	var images []named
	if err := yaml.Unmarshal([]byte(chart.Annotations["artifacthub.io/images"]), &images); err != nil {
		t.Fatal(err)
	}
	return imagesIn(images)
}

// imagesIn are their names with their platforms, one a line.
func imagesIn(images []named) string {
	var lines []string
	for _, image := range images {
		lines = append(lines, image.Image+" "+strings.Join(image.Platforms, " "))
	}
	return strings.Join(lines, "\n")
}
