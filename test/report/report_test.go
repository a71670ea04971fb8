// Package report_test looks at the simulation's page in a real browser.
package report_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// browser is the program; hack/browser.sh makes sure that there is one.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("BROWSER_PROGRAM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	t.Fatal("there is no Chromium to look at the page in: hack/browser.sh installs it, or says how")
	return ""
}

// look opens the page and returns what the browser writes.
func look(t *testing.T, page string, args ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	usual := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--enable-logging=stderr", "--user-data-dir=" + t.TempDir(),
	}
	cmd := exec.CommandContext(ctx, browser(t), append(append(usual, args...), "file://"+page)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return out.String(), errs.String()
}

// written is the page of a study of four policies on two loads.
func written(t *testing.T) string {
	t.Helper()
	contenders, err := report.ContendersNamed([]string{report.NameAutomatic, "kaito-queue", "static", "oracle"})
	if err != nil {
		t.Fatal(err)
	}
	study := report.Study{
		Title: "Policies & <loads>", Engine: simulate.Engines[0], SLO: simulate.DefaultSLO,
		Scenarios: []simulate.Scenario{
			{Name: "days-code", Kind: &simulate.Code, Shape: simulate.Sawtooth(.2, 30*time.Minute), Length: time.Hour, Replicas: 2},
			{
				Name: "spike", Kind: &simulate.Conversation, Shape: simulate.Spikes(.2, 30*time.Minute, 5*time.Minute),
				Length: time.Hour, Replicas: 2, OutOfReach: true,
			},
		},
		ColdStarts: []time.Duration{2 * time.Minute, 5 * time.Minute}, Seeds: []uint64{1, 2}, Contenders: contenders,
		World:   func(s *simulate.Setting) { s.WarmUp = 10 * time.Minute },
		Workers: 2, Clock: time.Now,
	}
	r, err := study.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Loads {
		r.Loads[i].Must = simulate.Must{Attained: .99}
	}
	r = report.Merged(r.Title, []*report.Report{r}, []report.Ablation{report.Ablate("a mechanism", r, r)})
	page := filepath.Join(t.TempDir(), "page.html")
	f, err := os.Create(page)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.HTML(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return page
}

func TestThePageInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("not in short mode: it starts a browser; make test does")
	}
	page := written(t)
	dom, console := look(t, page, "--dump-dom")
	for line := range strings.Lines(console) {
		if strings.Contains(line, ":CONSOLE") {
			t.Errorf("the page's console says: %s", line)
		}
	}
	complete(t, dom)
	for name, args := range map[string][]string{"light": nil, "dark": {"--blink-settings=preferredColorScheme=0"}} {
		picture := filepath.Join(t.TempDir(), name+".png")
		look(t, page, append(args, fmt.Sprintf("--window-size=%d,%d", size.X, size.Y), "--screenshot="+picture)...)
		seen(t, name, picture)
	}
}

// complete checks that all that was played is on the page, and nothing else is
// needed for it.
func complete(t *testing.T, dom string) {
	t.Helper()
	for pattern, want := range map[string]int{
		// Two loads at two cold starts: the overview, the load, and three for each of
		// four policies.
		`<svg `:                    1 + 2*2*(1+3*4),
		`<details open=`:           2,
		`<h2>`:                     5,
		`<tbody>\s*<tr>`:           2 + 2*2,
		`class="line-[a-z]+" d="M`: 2 * 2 * 4 * 2,
		`<title>Policies &amp; &lt;loads&gt;</title>`: 1,
		`out of reach of any policy that reacts`:      1,
	} {
		if got := len(regexp.MustCompile(pattern).FindAllString(dom, -1)); got != want {
			t.Errorf("%d × %s, want %d", got, pattern, want)
		}
	}
	for _, wrong := range []string{"NaN", "Inf", `d=""`, "ZgotmplZ", "http://", "https://", " src=", "@import", "url("} {
		if i := strings.Index(dom, wrong); i >= 0 {
			t.Errorf("the page has %q in …%.120s", wrong, dom[max(0, i-60):])
		}
	}
	for _, word := range []string{
		report.NameAutomatic, "kaito-queue", "static99", "oracle", "replicas", "waiting requests", "slowest TTFT, s", "GPU-hours", "hours", "missed",
	} {
		if !strings.Contains(dom, word) {
			t.Errorf("the page doesn't say %q", word)
		}
	}
}

// size of the screenshots.
var size = image.Pt(1300, 2000)

// seen checks that a screenshot shows the page in its colours.
func seen(t *testing.T, name, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// For people who want to look, too.
	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		if err := os.WriteFile(filepath.Join(folder, name+".png"), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if got := picture.Bounds().Size(); got != size {
		t.Fatalf("%s: the screenshot is %v, want %v", name, got, size)
	}
	pixels := map[color.NRGBA]int{}
	for y := range size.Y {
		for x := range size.X {
			if c, ok := color.NRGBAModel.Convert(picture.At(x, y)).(color.NRGBA); ok {
				pixels[c]++
			}
		}
	}
	// Paper, panel, the judged policy, the oracle and what missed, as in the page's
	// style sheet.
	want := map[string][]color.NRGBA{
		"light": {{255, 255, 255, 255}, {246, 247, 249, 255}, {11, 98, 214, 255}, {26, 127, 55, 255}, {207, 34, 46, 255}},
		"dark":  {{15, 19, 24, 255}, {23, 28, 35, 255}, {88, 166, 255, 255}, {86, 211, 100, 255}, {255, 123, 114, 255}},
	}[name]
	for _, c := range want {
		if pixels[c] < 60 {
			t.Errorf("%s: %d pixels are %v: the page isn't drawn", name, pixels[c], c)
		}
	}
	if len(pixels) < 100 {
		t.Errorf("%s: %d colours: there is no text", name, len(pixels))
	}
}
