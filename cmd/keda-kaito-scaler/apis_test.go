package main

import (
	"testing"

	apiversion "k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestTheHPAHasATolerance(t *testing.T) {
	for _, tt := range []struct {
		name string
		info apiversion.Info
		want bool
	}{
		{"since 1.35", apiversion.Info{GitVersion: "v1.35.0"}, true},
		{"not before", apiversion.Info{GitVersion: "v1.34.9"}, false},
		{"in a provider's build", apiversion.Info{GitVersion: "v1.36.2-gke.100"}, true},
		{"as itself", apiversion.Info{GitVersion: "v1.36.3", EmulationMajor: "1", EmulationMinor: "36"}, true},
		{"not while it behaves as an older one", apiversion.Info{GitVersion: "v1.36.3", EmulationMajor: "1", EmulationMinor: "34"}, false},
		{"not in a version that says nothing", apiversion.Info{GitVersion: "unknown"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lacks, err := lacksTolerance(&fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}, FakedServerVersion: &tt.info})
			if err != nil || lacks == tt.want {
				t.Errorf("lacks tolerance: %t, %v, want %t", lacks, err, !tt.want)
			}
		})
	}
}
