package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiversion "k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
)

// cluster is an API server that changes at its times.
func cluster(changes map[time.Duration]func(*fakediscovery.FakeDiscovery) error) *fakediscovery.FakeDiscovery {
	c := &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}}
	began := time.Now()
	var down error
	c.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		for at, change := range changes {
			if time.Since(began) >= at {
				down = change(c)
				delete(changes, at)
			}
		}
		return down != nil, nil, down
	})
	return c
}

func install(gv string, resources ...string) func(*fakediscovery.FakeDiscovery) error {
	return func(c *fakediscovery.FakeDiscovery) error {
		list := &metav1.APIResourceList{GroupVersion: gv}
		for _, name := range resources {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: name})
		}
		c.Resources = append(c.Resources, list)
		return nil
	}
}

func TestItWaitsForTheAPIsAndSaysOnceWhichAreMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cluster(map[time.Duration]func(*fakediscovery.FakeDiscovery) error{
			0:               func(*fakediscovery.FakeDiscovery) error { return errors.New("connection refused") },
			time.Minute:     func(*fakediscovery.FakeDiscovery) error { return nil },
			2 * time.Minute: install("keda.sh/v1alpha1", "scaledobjects", "clustertriggerauthentications"),
			3 * time.Minute: install("kaito.sh/v1alpha1", "inferencesets", "workspaces"),
		})
		began := time.Now()
		var got []string
		log := funcr.New(func(_, args string) {
			_, args, _ = strings.Cut(args, `"msg"=`)
			got = append(got, fmt.Sprint(time.Since(began), " ", args))
		}, funcr.Options{})
		c.FakedServerVersion = &apiversion.Info{GitVersion: "v1.34.9"}
		if found := WaitForAPIs(t.Context(), c, log); found != (APIs{"v1alpha1", true}) {
			t.Errorf("found %+v, want v1alpha1 on an HPA without tolerance", found)
		}
		const waiting = `"waiting for APIs that the cluster doesn't serve: install KEDA and KAITO" "missing"=`
		want := []string{
			`0s "cannot reach the API server, trying again" "error"="discover kaito.sh/v1beta1: connection refused"`,
			`1m0s ` + waiting + `["inferencesets.kaito.sh" "workspaces.kaito.sh" "scaledobjects.keda.sh" "clustertriggerauthentications.keda.sh"]`,
			`2m0s ` + waiting + `["inferencesets.kaito.sh" "workspaces.kaito.sh"]`,
			`3m0s "APIs found" "kaito"="kaito.sh/v1alpha1" "keda"="keda.sh/v1alpha1"`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestAWaitForTheAPIsEndsWithTheProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found := WaitForAPIs(ctx, cluster(nil), logr.Discard()); found != (APIs{}) {
		t.Errorf("found %+v, want nothing", found)
	}
}

func TestWhichHPAsLackTolerance(t *testing.T) {
	for version, want := range map[string]bool{
		"v1.28.3": true, "v1.34.9-gke.100": true, "v1.35.0": false, "v1.35.0-alpha.1": false, "v1.36.3+k3s1": false, "v2.0.0": false, "unknown": true,
	} {
		c := cluster(nil)
		c.FakedServerVersion = &apiversion.Info{GitVersion: version}
		if got, err := lacksTolerance(c); got != want || err != nil {
			t.Errorf("%s: %t, %v; want %t", version, got, err, want)
		}
	}
}

func serving(versions ...string) func(*fakediscovery.FakeDiscovery) error {
	return func(c *fakediscovery.FakeDiscovery) error {
		c.Resources = nil
		for _, v := range versions {
			_ = install("kaito.sh/"+v, "inferencesets", "workspaces")(c)
		}
		return nil
	}
}

func TestAnotherVersionOfKAITOIsNoticed(t *testing.T) {
	for _, tt := range []struct {
		name    string
		used    string
		changes map[time.Duration]func(*fakediscovery.FakeDiscovery) error
		want    string
		after   time.Duration
		log     []string
	}{
		{"upgraded", "v1alpha1", map[time.Duration]func(*fakediscovery.FakeDiscovery) error{
			0: serving("v1alpha1"), 45 * time.Second: serving("v1alpha1", "v1beta1"),
		}, "v1beta1", time.Minute, nil},
		{"rolled back", "v1beta1", map[time.Duration]func(*fakediscovery.FakeDiscovery) error{
			0: serving("v1alpha1", "v1beta1"), 45 * time.Second: serving("v1alpha1"),
		}, "v1alpha1", time.Minute, nil},
		{"the old version served no more", "v1alpha1", map[time.Duration]func(*fakediscovery.FakeDiscovery) error{
			0: serving("v1beta1"),
		}, "v1beta1", 30 * time.Second, nil},
		{"the API server away for a while", "v1alpha1", map[time.Duration]func(*fakediscovery.FakeDiscovery) error{
			0:               serving("v1alpha1"),
			time.Minute:     func(*fakediscovery.FakeDiscovery) error { return errors.New("connection refused") },
			2 * time.Minute: serving("v1alpha1"), 3 * time.Minute: serving("v1alpha1", "v1beta1"),
		}, "v1beta1", 3 * time.Minute, nil},
		{"gone, and back as it was", "v1alpha1", map[time.Duration]func(*fakediscovery.FakeDiscovery) error{
			0: serving("v1alpha1"), time.Minute: serving(), 3 * time.Minute: serving("v1alpha1"), 4 * time.Minute: serving("v1beta1"),
		}, "v1beta1", 4 * time.Minute, []string{
			`1m0s "KAITO's API is gone, waiting for it" "used"="v1alpha1" "missing"=["inferencesets.kaito.sh" "workspaces.kaito.sh"]`,
			`3m0s "KAITO's API is back" "used"="v1alpha1"`,
		}},
		{"nothing changes", "v1beta1", map[time.Duration]func(*fakediscovery.FakeDiscovery) error{
			0: serving("v1alpha1", "v1beta1"),
		}, "", time.Hour, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				c, began := cluster(tt.changes), time.Now()
				var logged []string
				log := funcr.New(func(_, args string) {
					_, args, _ = strings.Cut(args, `"msg"=`)
					logged = append(logged, fmt.Sprint(time.Since(began), " ", args))
				}, funcr.Options{})
				got := waitForOtherVersion(ctx, c, tt.used, log)
				if after := time.Since(began); got != tt.want || after != tt.after {
					t.Errorf("%q after %v, want %q after %v", got, after, tt.want, tt.after)
				}
				if diff := cmp.Diff(tt.log, logged); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
			})
		})
	}
}

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
