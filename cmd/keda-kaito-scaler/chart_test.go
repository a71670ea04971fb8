package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// What the chart renders is a command line of this program: a golden render
// whose pods would end at once must not stay one.
func TestTheProgramTakesWhatTheChartRenders(t *testing.T) {
	renders, err := filepath.Glob(filepath.Join("..", "..", "test", "chart", "*", "render.yaml"))
	if err != nil || len(renders) < 5 {
		t.Fatalf("renders %q: %v", renders, err)
	}
	for _, name := range renders {
		t.Run(filepath.Base(filepath.Dir(name)), func(t *testing.T) {
			container := deployed(t, name).Spec.Template.Spec.Containers[0]
			out := call(t, nowhere, container.Args...)
			if out.err != nil {
				t.Fatalf("%q: %v", container.Args, out.err)
			}
			for _, port := range container.Ports {
				want := map[string]int{"grpc-server": out.ran.grpcPort, "metrics": out.ran.metricsPort, "grpc-health": out.ran.healthPort}[port.Name]
				if int(port.ContainerPort) != want {
					t.Errorf("port %s is %d in the pod and %d in the program", port.Name, port.ContainerPort, want)
				}
			}
		})
	}
}

// deployed is the Deployment of a render.
func deployed(t *testing.T, render string) appsv1.Deployment {
	t.Helper()
	text, err := os.ReadFile(render)
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var d appsv1.Deployment
		if !strings.Contains(document, "\nkind: Deployment\n") {
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(document), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Fatalf("%s has no Deployment", render)
	return appsv1.Deployment{}
}
