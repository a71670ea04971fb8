//go:build node

package node

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// passing are kinds that come and go by themselves.
var passing = map[string]bool{"Event": true, "Pod": true, "ReplicaSet": true, "Endpoints": true, "EndpointSlice": true, "ControllerRevision": true}

// inventory is every object of the cluster's but the passing ones, such as
// "Secret keda/keda-kaito-scaler-ca".
func inventory(t *testing.T) []string {
	t.Helper()
	cluster, err := discovery.NewDiscoveryClientForConfig(shared.Config())
	if err != nil {
		t.Fatal(err)
	}
	quiet := shared.Config()
	quiet.WarningHandler = rest.NoWarnings{} // of kinds that are on their way out
	objects, err := metadata.NewForConfig(quiet)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := cluster.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			if passing[resource.Kind] || !slices.Contains(resource.Verbs, "list") || version.Group == "external.metrics.k8s.io" {
				continue
			}
			all, err := objects.Resource(version.WithResource(resource.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", resource.Name, err)
			}
			for _, object := range all.Items {
				if resource.Kind == "Lease" && object.Namespace == "kube-system" {
					continue // API servers and controllers of their own
				}
				found[fmt.Sprintf("%s %s/%s", resource.Kind, object.Namespace, object.Name)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// added is what is in one list and not in another.
func added(before, after []string) []string {
	var out []string
	for _, object := range after {
		if !slices.Contains(before, object) {
			out = append(out, object)
		}
	}
	return out
}

// wantNothingElse waits until these objects, and no others, have been added: the
// garbage collector takes a moment.
func wantNothingElse(t *testing.T, before, want []string) {
	t.Helper()
	eventually(t, "nothing else is left", func() error {
		after := inventory(t)
		if diff := cmp.Diff(want, added(before, after)); diff != "" {
			return fmt.Errorf("left over (-want +got):\n%s", diff)
		}
		if gone := added(after, before); len(gone) > 0 {
			return fmt.Errorf("gone, and not ours: %q", gone)
		}
		return nil
	})
}

// commands are the lines of the notes that begin with kubectl and delete, with
// lines that a backslash continues.
var commands = regexp.MustCompile(`(?m)^ *kubectl (?:.*\\\n)*.*$`)

// deletions are what NOTES.txt tells to delete after helm uninstall, as kubectl's
// arguments.
func deletions(notes string) [][]string {
	var out [][]string
	for _, command := range commands.FindAllString(notes, -1) {
		words := strings.Fields(strings.ReplaceAll(command, "\\\n", " "))
		if slices.Contains(words, "delete") {
			out = append(out, words[1:])
		}
	}
	return out
}

// forget deletes what an uninstalled scaler leaves, if it is there.
func (w *world) forget(t *testing.T, namespace string) {
	t.Helper()
	for _, args := range [][]string{
		{"delete", "clustertriggerauthentication", "keda-kaito-scaler-creds"},
		{"-n", namespace, "delete", "lease", release},
		{"-n", namespace, "delete", "configmap", "--selector", "app.kubernetes.io/managed-by=keda-kaito-scaler"},
		{"-n", namespace, "delete", "secret", "keda-kaito-scaler-ca", "keda-kaito-scaler-server-certs", "keda-kaito-scaler-client-certs"},
	} {
		w.kubectl(t, append(args, "--ignore-not-found")...)
	}
}

// kubectl runs it as a user would.
func (w *world) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.programs.Kubectl, args...)
	cmd.Env = []string{"KUBECONFIG=" + w.Kubeconfig(), "HOME=" + w.place.Dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
