package command

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// outcome is what a command line comes to.
type outcome struct {
	err            error
	stdout, stderr string
}

// simulated runs the sub-command.
func simulated(t *testing.T, args ...string) func(context.Context) outcome {
	t.Helper()
	cmd := New()
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	return func(ctx context.Context) outcome {
		err := cmd.ExecuteContext(ctx)
		return outcome{err, stdout.String(), stderr.String()}
	}
}

// little is a load that takes no time to play.
var little = []string{"--replicas-at-peak", "0.5", "--length", "20m", "--load", "steady"}

func TestAnnotationsAreSimulated(t *testing.T) {
	folder := t.TempDir()
	jsonFile, htmlFile := filepath.Join(folder, "r.json"), filepath.Join(folder, "r.html")
	example := filepath.Join("..", "..", "..", "examples", "phi-4.yaml")
	out := simulated(t, append(little, "-f", example, "--policies", "static-mean,automatic", "--seeds", "2",
		"--json", jsonFile, "--html", htmlFile)...)(t.Context())
	if out.err != nil {
		t.Fatal(out.err)
	}
	for _, word := range []string{"steady-conversation", "phi-4 ", "static-mean", "automatic", "attained, %", " ±", "GPU-hours"} {
		if !strings.Contains(out.stdout, word) {
			t.Errorf("there is no %q in\n%s", word, out.stdout)
		}
	}
	// Not a terminal: plain lines.
	if !strings.Contains(out.stderr, "100 %: ") || strings.ContainsAny(out.stderr, "\r\x1b") {
		t.Errorf("progress is told as %q", out.stderr)
	}
	data, err := os.ReadFile(jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(data, &r); err != nil || len(r.Loads) != 1 || len(r.Loads[0].Worlds[0].Scores) != 3 {
		t.Errorf("the JSON holds %+v, %v", r, err)
	}
	if page, err := os.ReadFile(htmlFile); err != nil || !bytes.Contains(page, []byte("<svg")) {
		t.Errorf("the page has no picture: %v", err)
	}
}

// An engine from a file is the same machine as the preset of the same numbers.
func TestAnEngineOfAFileIsSimulated(t *testing.T) {
	file := filepath.Join("..", "engines", "llama-3.1-8b-a100.json")
	preset := simulated(t, append(little, "--policies", "static-mean", "--engine", "llama-3.1-8b-a100")...)(t.Context())
	read := simulated(t, append(little, "--policies", "static-mean", "--engine", file)...)(t.Context())
	other := simulated(t, append(little, "--policies", "static-mean", "--steps=false")...)(t.Context())
	if !strings.Contains(preset.stdout, "Replicas of llama-3.1-8b-a100 in steps (") || !strings.Contains(other.stdout, "Replicas of phi-4-mini-a100 (") {
		t.Errorf("it isn't said what was played:\n%s\n%s", preset.stdout, other.stdout)
	}
	if preset.err != nil || read.err != nil || preset.stdout != read.stdout || preset.stdout == other.stdout {
		t.Errorf("%v, %v\n%s\n%s\n%s", preset.err, read.err, preset.stdout, read.stdout, other.stdout)
	}
}

// Each condition of a world can be asked for, and changes what comes of it.
func TestAWorldsConditionsAreFlags(t *testing.T) {
	usual := append(slices.Clone(little), "--policies", "fixed-1", "--load", "on-off", "--replicas-at-peak", "6", "--warm-up", "0s")
	played := func(args ...string) string {
		out := simulated(t, append(usual, args...)...)(t.Context())
		if out.err != nil {
			t.Fatalf("%q: %v", args, out.err)
		}
		return out.stdout
	}
	plain := played()
	for _, args := range [][]string{
		{"--retries", "2:500ms"},
		{"--patience", "2s"},
		{"--cancels", "0.2:1s"},
		{"--long-prompts", "0.2:9000-30000"},
		{"--answers-grow", "5m:3"},
		{"--crashes", "10m:1m"},
		{"--flaps", "10m:30s"},
		{"--asleep", "1"},
		{"--engines-per-pod", "2"},
		{"--sessions", "5:0.9"},
		{"--sessions", "5:0.9", "--cached-sessions", "1"},
		{"--nodes-per-replica", "2"},
	} {
		if played(args...) == plain {
			t.Errorf("%q makes no difference", args)
		}
	}
	// What a fixed fleet doesn't look at.
	for _, args := range [][]string{
		{"--late-pages", "1:6s"},
		{"--no-quota", "5m:5m"},
		{"--missing", "vllm:num_requests_running"},
		{"--unmeasured"},
		{"--measured-after", "5m"},
		{"--old-hpa"},
		{"--sessions", "5:0", "--routing", "sticky"},
	} {
		if played(args...) != plain {
			t.Errorf("%q makes a difference", args)
		}
	}
}

// A policy is judged by what an adverse scenario demands.
func TestAnAdverseScenarioIsPlayed(t *testing.T) {
	out := simulated(t, "scenarios", "first-step", "--policies", "kaito-queue,static", "--moves")(t.Context())
	if out.err == nil || out.err.Error() != "1 demands were missed" {
		t.Errorf("got %v", out.err)
	}
	for _, words := range []string{"first-step  2m5s  kaito-queue", "static99", "first-step, cold start 2m5s, kaito-queue\n"} {
		if !strings.Contains(out.stdout, words) {
			t.Errorf("there is no %q in\n%s", words, out.stdout)
		}
	}
}

func TestATraceIsSimulated(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "mine.csv")
	text := "TIMESTAMP,ContextTokens,GeneratedTokens\n" + strings.Repeat("2023-11-16 18:17:03.9799600,400,100\n", 3) + "2023-11-16 18:40:00.0000000,500,100\n"
	if err := os.WriteFile(trace, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := simulated(t, "--trace", trace, "--policies", "static-mean", "--copies", "2.5")(t.Context())
	if out.err != nil || !strings.Contains(out.stdout, "mine (") {
		t.Errorf("%v\n%s", out.err, out.stdout)
	}
}

// Given requests are played as they are, and what came of each is written: the
// same for each seed where nothing else is left to chance.
func TestGivenRequestsAreSimulatedOneByOne(t *testing.T) {
	folder := t.TempDir()
	requests, results := filepath.Join(folder, "requests.csv"), filepath.Join(folder, "results.csv")
	text := "arrival_seconds,prompt_tokens,output_tokens,cancel_after_seconds\n0,1000,101,\n5,1000,101,\n10,1000,1000,2\n"
	if err := os.WriteFile(requests, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--requests", requests, "--results", results, "--policies", "fixed-1", "--seeds", "2"}
	if out := simulated(t, append(args, "--steps=false")...)(t.Context()); out.err == nil || !strings.Contains(out.err.Error(), "requests has clients that cancel, which are played in steps alone") {
		t.Errorf("got %v", out.err)
	}
	if out := simulated(t, args...)(t.Context()); out.err != nil || !strings.Contains(out.stdout, "fixed-1") {
		t.Fatalf("%v\n%s", out.err, out.stdout)
	}
	got, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"policy,seed,arrival_seconds,prompt_tokens,output_tokens,outcome,ttft_seconds,seconds_per_token"}
	for _, seed := range []string{"1", "2"} {
		// 7.8 + 1000 × 0.03 + 0.11 ms to the first token, then 7.91 ms each.
		for _, line := range []string{"0,1000,101,served,0.037910,0.007910", "5,1000,101,served,0.037910,0.007910", "10,1000,1000,cancelled,0.037910,"} {
			want = append(want, "fixed-1,"+seed+","+line)
		}
	}
	if diff := cmp.Diff(append(want, ""), strings.Split(string(got), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestASimulationIsRefusedInWords(t *testing.T) {
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	broken := file("broken.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,ten\n")
	none := file("none.yaml", "kind: Service\n")
	slip := file("slip.json", `{"name":"slip","alfaSeconds":0.01}`)
	for name, tt := range map[string]struct {
		args []string
		why  string
	}{
		"a trace with a wrong line": {[]string{"--trace", broken}, "line 2: tokens \"ten\""},
		"a trace that isn't there":  {[]string{"--trace", filepath.Join(folder, "x.csv")}, "no such file"},
		"a load nobody knows":       {[]string{"--load", "flat"}, "--load: load \"flat\" is not known"},
		"a policy nobody knows":     {[]string{"--policies", "hope"}, "--policies: policy \"hope\" is not known"},
		"an engine nobody knows":    {[]string{"--engine", "abacus"}, "--engine: engine \"abacus\" is not known"},
		"an engine with a slip":     {[]string{"--engine", slip}, "slip.json: \"alfaSeconds\" is not known: it must be one of [\"alphaSeconds\""},
		"an engine in a folder":     {[]string{"--engine", folder}, "--engine: "},
		"requests that aren't any":  {[]string{"--requests", broken}, "the first line is \"TIMESTAMP,ContextTokens,GeneratedTokens\": it must be arrival_seconds"},
		"requests for longer":       {[]string{"--requests", broken, "--length", "1h"}, "the load of --requests is what it is"},
		"a fleet of none":           {[]string{"--policies", "fixed-0"}, "or fixed-N for a fleet of N from 1 to 500"},
		"too many at the beginning": {[]string{"--initial-replicas", "501"}, "--initial-replicas 501: must be from 0 to 500"},
		"too much at once":          {[]string{"--trace", broken, "--load", "steady"}, "--trace and --load"},
		"a promise no engine keeps": {[]string{"--itl", "5ms"}, "an empty iteration of phi-4-mini-a100 takes 7.8 ms"},
		"no seed and no workers":    {[]string{"--seeds", "0", "--workers", "0"}, "--workers 0"},
		"a file without any":        {[]string{"-f", none}, "no InferenceSet"},
		"a report without traces":   {[]string{"report", "--traces", folder}, "there is no AzureLLMInferenceTrace_conv.csv"},
		"retries without a time":    {[]string{"--retries", "2"}, "--retries \"2\": must have a colon"},
		"half of all and more":      {[]string{"--cancels", "1.5:3s"}, "--cancels \"1.5:3s\": \"1.5\": must be from 0 to 1"},
		"long prompts of nothing":   {[]string{"--long-prompts", "0.1:9-3"}, "must be a whole number from 9 to"},
		"flaps of no time":          {[]string{"--flaps", "1h:0s"}, "must be a duration above 0"},
		"nobody's routing":          {[]string{"--routing", "best"}, "must be least-busy, sticky or prefix-aware"},
		"a cache of no sessions":    {[]string{"--cached-sessions", "3"}, "the former needs --sessions"},
		"sticky without sessions":   {[]string{"--routing", "sticky"}, "needs --sessions"},
		"patience as a fluid":       {[]string{"--patience", "5s", "--steps=false"}, "in steps alone"},
		"a scenario nobody knows":   {[]string{"scenarios", "doomsday"}, "scenario \"doomsday\" is not known: it must be one of itl-in-bucket"},
		"a report on no load":       {[]string{"report", "--scenarios", "flat"}, "--scenarios: \"flat\" is not one of"},
	} {
		t.Run(name, func(t *testing.T) {
			out := simulated(t, tt.args...)(t.Context())
			if out.err == nil || !strings.Contains(out.err.Error(), tt.why) {
				t.Errorf("got %v, want an error with %q", out.err, tt.why)
			}
		})
	}
}

func TestASimulationEndsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out := simulated(t, little...)(ctx); out.err == nil || out.err.Error() != "interrupted" {
		t.Errorf("got %v", out.err)
	}
}

// The examples of the help name policies that there are.
func TestTheExamplesOfTheHelpNamePolicies(t *testing.T) {
	named := regexp.MustCompile(`--policies (\S+)`)
	found := 0
	for _, cmd := range append(New().Commands(), New()) {
		for _, m := range named.FindAllStringSubmatch(cmd.Example, -1) {
			found++
			if _, err := report.ContendersNamed(strings.Split(m[1], ",")); err != nil {
				t.Errorf("%s: %v", cmd.Name(), err)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d examples name policies", found)
	}
}
