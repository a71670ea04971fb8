package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	fakediscovery "k8s.io/client-go/discovery/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
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
		version, err := awaitAPIs(t.Context(), c, log)
		if version != "v1alpha1" || err != nil {
			t.Errorf("%q, %v; want v1alpha1", version, err)
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
	version, err := awaitAPIs(ctx, cluster(nil), logr.Discard())
	if version != "" || err != nil {
		t.Errorf("%q, %v; want neither a version nor an error", version, err)
	}
}

func TestHowTheAPIServerIsFound(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "") // no pod
	t.Setenv("HOME", t.TempDir())
	good := filepath.Join(t.TempDir(), "config")
	const kubeconfig = `{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: k}}], clusters: [{name: k, cluster: {server: "https://api.example.com:6443"}}]}`
	if err := os.WriteFile(good, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		flag string
		env  string
		want string
	}{
		{"the flag", good, "", ""},
		{"the environment", "", good, ""},
		{"neither", "", "", "find the API server, neither in a pod nor by kubeconfig: "},
		{"no such file", good + "-gone", "", "find the API server, neither in a pod nor by kubeconfig: stat " + good + "-gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", tt.env)
			config, err := restConfig(tt.flag)
			if tt.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
					t.Errorf("error %v, want %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != "https://api.example.com:6443" || config.QPS != clientQPS {
				t.Errorf("API server %s at %g requests a second", config.Host, config.QPS)
			}
		})
	}
}

func TestReadinessIsNoUntilSomebodyKnows(t *testing.T) {
	var r readiness
	if r.ready() {
		t.Error("ready before anybody knows")
	}
	answer := false
	r.set(func() bool { return answer })
	if r.ready() {
		t.Error("ready against the answer")
	}
	answer = true
	if !r.ready() {
		t.Error("not ready against the answer")
	}
}

func TestLookupFindsInferenceSets(t *testing.T) {
	is := kaito.Object("v1beta1", kaito.KindInferenceSet)
	is.SetNamespace("default")
	is.SetName("phi-4")
	is.SetUID("uid-of-phi-4")
	find := lookup(t.Context(), fake.NewClientBuilder().WithObjects(is).Build(), "v1beta1")
	object, found := find(client.ObjectKeyFromObject(is))
	if u, ok := object.(*unstructured.Unstructured); !found || !ok || u.GetUID() != "uid-of-phi-4" {
		t.Errorf("%v, %t; want the InferenceSet", object, found)
	}
	if _, found := find(types.NamespacedName{Namespace: "default", Name: "phi-5"}); found {
		t.Error("found an InferenceSet that isn't there")
	}
}
