package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// subcommand is the program with something on stdin, to be run with a
// sub-command's arguments, and what it says then.
func subcommand(t *testing.T, stdin string, args ...string) (run func(context.Context) outcome) {
	t.Helper()
	cmd := rootCommand(defaults(), func(context.Context, *options) error {
		t.Error("the scaler itself was started")
		return nil
	})
	var stdout, stderr bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	return func(ctx context.Context) outcome {
		err := cmd.ExecuteContext(ctx)
		return outcome{err: err, stdout: stdout.String(), stderr: stderr.String()}
	}
}

// render runs the sub-command with something on stdin.
func render(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	return subcommand(t, stdin, append([]string{"render"}, args...)...)(t.Context())
}

// golden compares all that a command line says with a file.
func golden(t *testing.T, file string, out outcome) {
	t.Helper()
	said := fmt.Sprintf("== stdout\n%s== stderr\n%s", out.stdout, out.stderr)
	if out.err != nil {
		said += fmt.Sprintf("== error\n%v\n", out.err)
	}
	path := filepath.Join("testdata", "render", file)
	if *update {
		if err := os.WriteFile(path, []byte(said), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), said); diff != "" {
		t.Errorf("%s (-want +got), go test -update writes it anew:\n%s", path, diff)
	}
}

func TestEachExampleRenders(t *testing.T) {
	examples, err := filepath.Glob(filepath.Join("..", "..", "examples", "*.yaml"))
	if err != nil || len(examples) < 3 {
		t.Fatalf("examples %q, %v", examples, err)
	}
	for _, example := range examples {
		name := strings.TrimSuffix(filepath.Base(example), ".yaml")
		t.Run(name, func(t *testing.T) {
			out := render(t, "", "-f", example, "--explain")
			if out.err != nil {
				t.Errorf("refused: %v", out.err)
			}
			golden(t, "example-"+name+".txt", out)
		})
	}
}

// What production-stack's chart writes renders as what its author meant.
func TestWhatTheProductionStackWritesRenders(t *testing.T) {
	for _, name := range []string{"modeldeployment-threshold", "modeldeployment-list"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("..", "..", "test", "earlier", "objects", name+".yaml")
			out := render(t, "", "-f", file, "--explain", "--kaito-version=v1alpha1")
			if out.err != nil {
				t.Errorf("refused: %v", out.err)
			}
			golden(t, name+".txt", out)
		})
	}
}

func TestTheTriggerByHandIsUnderstood(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "examples", "by-hand.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(data), "\n---\n")
	if !found {
		t.Fatal("by-hand.yaml has no second document")
	}
	var so kedav1alpha1.ScaledObject
	if err := yaml.UnmarshalStrict([]byte(text), &so); err != nil {
		t.Fatal(err)
	}
	trigger, err := policy.ParseTrigger(so.Namespace, so.Spec.Triggers[0].Metadata)
	if err != nil {
		t.Fatal(err)
	}
	if metric, target := trigger.Published(); metric != "vllm:num_requests_running" || target != 100 {
		t.Errorf("%s with target %g is published", metric, target)
	}
}

func TestAFileOfEverythingIsJudgedToItsEnd(t *testing.T) {
	file := filepath.Join("testdata", "render", "mixed.yaml")
	golden(t, "mixed.txt", render(t, "", "-f", file, "--explain", "--nodes-per-replica=2", "--kaito-version=v1alpha1",
		"--scaler-address=scaler.example.com:443", "--namespace=team"))
}

func TestWhatComesOutOfKubectlCanBePipedIn(t *testing.T) {
	stdin := `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "kaito.sh/v1beta1", "kind": "InferenceSet",
		"metadata": {"name": "phi-4", "namespace": "models", "uid": "u-1", "annotations": {
			"scaledobject.kaito.sh/auto-provision": "true", "scaledobject.kaito.sh/threshold": "10", "scaledobject.kaito.sh/max-replicas": "2"}}}]}`
	out := render(t, stdin, "-f", "-")
	if out.err != nil || out.stderr != "" {
		t.Fatalf("error %v, stderr %q", out.err, out.stderr)
	}
	var so kedav1alpha1.ScaledObject
	if err := yaml.UnmarshalStrict([]byte(out.stdout), &so); err != nil {
		t.Fatal(err)
	}
	if so.Namespace != "models" || so.Name != "phi-4" || so.OwnerReferences[0].UID != "u-1" || *so.Spec.MaxReplicaCount != 2 {
		t.Errorf("rendered:\n%s", out.stdout)
	}
}

func TestSeveralFilesAreAllJudged(t *testing.T) {
	list := filepath.Join("..", "..", "examples", "metric-list.yaml")
	quick := filepath.Join("..", "..", "examples", "phi-4.yaml")
	out := render(t, "", "-f", list, "-f", "no/such/file.yaml", "-f", quick)
	if out.err == nil || out.err.Error() != "1 refused, 2 rendered" {
		t.Errorf("error %v", out.err)
	}
	if want := "no/such/file.yaml: refused: open no/such/file.yaml: no such file or directory\n"; out.stderr != want {
		t.Errorf("stderr %q, want %q", out.stderr, want)
	}
	if documents := strings.Split(out.stdout, "---\n"); len(documents) != 2 ||
		!strings.Contains(documents[0], "name: phi-4-list\n") || !strings.Contains(documents[1], "name: phi-4\n") {
		t.Errorf("stdout:\n%s", out.stdout)
	}
}

func TestBadFlagsOfRenderAreRefused(t *testing.T) {
	for args, want := range map[string]string{
		"":                             "--filename: required: a file with InferenceSets, or - for stdin",
		"-f - --nodes-per-replica=-1":  "--nodes-per-replica -1: must not be negative",
		"-f - --nodes-per-replica=two": `--nodes-per-replica "two": must be a whole number`,
		"-f - --kaito-version=v1":      "--kaito-version v1: must be v1beta1 or v1alpha1",
		"-f - --scaler-address=scaler": `--scaler-address: scaler address "scaler": must be host:port`,
		"-f - more":                    `unknown command "more" for "keda-kaito-scaler render"`,
	} {
		out := render(t, "", strings.Fields(args)...)
		if out.err == nil || !strings.HasPrefix(out.err.Error(), want) || out.stdout != "" {
			t.Errorf("%q: %v, stdout %q, want %s", args, out.err, out.stdout, want)
		}
	}
}

func TestHelpOfRenderIsAsInTheGoldenFile(t *testing.T) {
	golden(t, "help.txt", render(t, "", "--help"))
}

// What --explain says of each size of a fleet is what the HPA does.
func TestTheExplanationIsTheHPAsArithmetic(t *testing.T) {
	row := regexp.MustCompile(`^At (\d+) replicas?: (?:up above ([\d.]+))?(?:, )?(?:down below ([\d.]+))?\.$`)
	for _, target := range []string{"10", "0.7", "3", "2.5"} {
		p, _, err := policy.Parse(policy.Request{Annotations: map[string]string{
			policy.Prefix + "threshold": target, policy.Prefix + "max-replicas": "8",
		}})
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for _, line := range policy.Explain(p) {
			found := row.FindStringSubmatch(line)
			if found == nil {
				continue
			}
			rows++
			var n int32
			var up, down float64
			scan(t, found[1], &n)
			scan(t, found[2], &up)
			scan(t, found[3], &down)
			wants := func(total float64) int32 {
				return p.Bounds.Clamp(hpa.Replicas(total, p.Queue.Target, n, p.Up.Tolerance, p.Down.Tolerance))
			}
			const little = 1e-3 // the HPA counts in thousandths
			if found[2] != "" && (wants(up+little) <= n || wants(up-little) != n) {
				t.Errorf("target %s: %s But at %g the HPA wants %d, at %g %d", target, line, up+little, wants(up+little), up-little, wants(up-little))
			}
			if found[3] != "" && (wants(down-little) >= n || wants(down+little) != n) {
				t.Errorf("target %s: %s But at %g the HPA wants %d, at %g %d", target, line, down-little, wants(down-little), down+little, wants(down+little))
			}
		}
		if rows != 8 {
			t.Errorf("target %s: %d rows, want 8", target, rows)
		}
	}
}

func scan(t *testing.T, text string, into any) {
	t.Helper()
	if text == "" {
		return
	}
	if _, err := fmt.Sscan(text, into); err != nil {
		t.Fatal(err)
	}
}
