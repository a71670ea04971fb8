package chart

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A panel on a metric that nobody has stays empty, and nobody notices.
func TestTheDashboardShowsMetricsThatAreDocumented(t *testing.T) {
	text, err := os.ReadFile(root + "/charts/keda-kaito-scaler/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	documents, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`keda_kaito_scaler_[a-z_]+`)
	shown := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			for _, metric := range name.FindAllString(target.Expr, -1) {
				shown++
				if metric = strings.TrimSuffix(metric, "_bucket"); !strings.Contains(documents, "`"+metric+"`") {
					t.Errorf("panel %q shows %s, of which no document tells", panel.Title, metric)
				}
			}
		}
	}
	if shown < 10 {
		t.Errorf("the dashboard shows %d metrics of the scaler", shown)
	}
}

func documents() (string, error) {
	var b strings.Builder
	files, err := fs.Glob(os.DirFS(root), "docs/*.md")
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		b.Write(text)
	}
	return b.String(), err
}
