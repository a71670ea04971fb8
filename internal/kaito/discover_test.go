package kaito

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
)

// cluster serves resources such as {"kaito.sh/v1beta1": {"inferencesets"}}.
func cluster(served map[string][]string) *fakediscovery.FakeDiscovery {
	fake := &clienttesting.Fake{}
	for gv, resources := range served {
		list := &metav1.APIResourceList{GroupVersion: gv}
		for _, name := range resources {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: name})
		}
		fake.Resources = append(fake.Resources, list)
	}
	return &fakediscovery.FakeDiscovery{Fake: fake}
}

func TestDiscoverFindsTheVersionToUse(t *testing.T) {
	both := []string{"inferencesets", "inferencesets/scale", "workspaces", "workspaces/status"}
	for _, tt := range []struct {
		name    string
		served  map[string][]string
		version string
		missing []string
	}{
		{"KAITO 0.11 and later serve both: the stored one", map[string][]string{"kaito.sh/v1alpha1": both, "kaito.sh/v1beta1": both}, "v1beta1", nil},
		{"KAITO 0.8 to 0.10 serve the old one alone", map[string][]string{"kaito.sh/v1alpha1": both}, "v1alpha1", nil},
		{
			"a version with Workspaces alone won't do",
			map[string][]string{"kaito.sh/v1beta1": {"workspaces"}, "kaito.sh/v1alpha1": both},
			"v1alpha1", nil,
		},
		{
			"a subresource is no resource",
			map[string][]string{"kaito.sh/v1beta1": {"workspaces", "inferencesets/scale"}},
			"",
			[]string{"inferencesets.kaito.sh", "workspaces.kaito.sh"},
		},
		{"KAITO before InferenceSets", map[string][]string{"kaito.sh/v1beta1": {"workspaces"}, "kaito.sh/v1alpha1": {"workspaces"}}, "", []string{"inferencesets.kaito.sh"}},
		{"no KAITO", map[string][]string{"keda.sh/v1alpha1": {"scaledobjects"}}, "", []string{"inferencesets.kaito.sh", "workspaces.kaito.sh"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			version, missing, err := Discover(cluster(tt.served))
			if err != nil {
				t.Fatal(err)
			}
			if version != tt.version {
				t.Errorf("version %q, want %q", version, tt.version)
			}
			if diff := cmp.Diff(tt.missing, missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingNamesWhatToInstall(t *testing.T) {
	keda := API{GroupVersion: "keda.sh/v1alpha1", Resources: []string{"scaledobjects", "clustertriggerauthentications"}}
	for _, tt := range []struct {
		name   string
		served map[string][]string
		want   []string
	}{
		{"all there", map[string][]string{"keda.sh/v1alpha1": {"scaledobjects", "clustertriggerauthentications", "scaledjobs"}}, nil},
		{"one is missing", map[string][]string{"keda.sh/v1alpha1": {"scaledobjects"}}, []string{"clustertriggerauthentications.keda.sh"}},
		{"the group is missing", nil, []string{"scaledobjects.keda.sh", "clustertriggerauthentications.keda.sh"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := keda.Missing(cluster(tt.served))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

// An API server that can't be asked is no cluster without KAITO.
func TestDiscoveryThatFailsIsNotAMissingAPI(t *testing.T) {
	refusals := map[string]error{
		"unreachable": errors.New("dial tcp: connection refused"),
		"forbidden":   apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no rights")),
	}
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			broken := cluster(nil)
			broken.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, refusal })
			version, missing, err := Discover(discovery.DiscoveryInterface(broken))
			if err == nil || !errors.Is(err, refusal) || version != "" || missing != nil {
				t.Fatalf("%q, %q, %v; want the error alone", version, missing, err)
			}
			if !strings.HasPrefix(err.Error(), "discover kaito.sh/v1beta1: ") {
				t.Errorf("error %q doesn't say what was being done", err)
			}
		})
	}
}
