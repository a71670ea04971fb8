// Package chart tests what Helm makes of the chart on a real API server: it is
// accepted, and the scaler that it describes does its work with the rights that
// it grants.
package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

const (
	release = "keda-kaito-scaler"
	// patience is long enough for two busy cores.
	patience = 90 * time.Second
)

func start(t *testing.T, o stack.Options) *stack.Stack {
	t.Helper()
	if testing.Short() {
		t.Skip("tests on a control plane take minutes: not with -short")
	}
	o.Out, o.NoScaler = os.Stderr, true
	s, err := stack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.DumpLogs(os.Stderr, 40)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	removeRights(t, s)
	return s
}

// removeRights takes away what the harness grants, so that all that is there
// comes from the render.
func removeRights(t *testing.T, s *stack.Stack) {
	t.Helper()
	cluster := metav1.ObjectMeta{Name: stack.Account}
	local := metav1.ObjectMeta{Name: stack.Account, Namespace: stack.Namespace}
	kedas := metav1.ObjectMeta{Name: stack.Account + "-keda", Namespace: stack.Namespace}
	for _, object := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: cluster}, &rbacv1.ClusterRoleBinding{ObjectMeta: cluster},
		&rbacv1.Role{ObjectMeta: local}, &rbacv1.RoleBinding{ObjectMeta: local},
		&corev1.ServiceAccount{ObjectMeta: local},
		&rbacv1.Role{ObjectMeta: kedas}, &rbacv1.RoleBinding{ObjectMeta: kedas},
	} {
		if err := s.Client.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// render is what helm template makes of the chart with these values.
func render(t *testing.T, values ...string) []byte {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"tool", "-modfile=tools/helm/go.mod", "helm", "template", release, "charts/keda-kaito-scaler", "--namespace", stack.Namespace, "--no-hooks"}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	// Like make verify: the race detector's compiler is none of Helm's business.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, problems.String())
	}
	return out
}

func decode(t *testing.T, manifest []byte) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for document := range bytes.SplitSeq(manifest, []byte("\n---\n")) {
		object := map[string]any{}
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatal(err)
		}
		if len(object) > 0 {
			out = append(out, &unstructured.Unstructured{Object: object})
		}
	}
	return out
}

// deployed is the container that a render describes.
func deployed(t *testing.T, manifest []byte) (corev1.Container, corev1.PodSpec) {
	t.Helper()
	for _, object := range decode(t, manifest) {
		if object.GetKind() != "Deployment" {
			continue
		}
		text, err := object.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var d appsv1.Deployment
		if err := utilyaml.UnmarshalStrict(text, &d); err != nil {
			t.Fatal(err)
		}
		return d.Spec.Template.Spec.Containers[0], d.Spec.Template.Spec
	}
	t.Fatal("the render has no Deployment")
	return corev1.Container{}, corev1.PodSpec{}
}

func TestTheQuickStartOnWhatHelmRenders(t *testing.T) {
	s := start(t, stack.Options{HPASync: 2 * time.Second, KAITO: quick})
	scaler := run(t, s)
	quickStart(t, s, "default")
	scaler.wantNothingForbidden(t)

	// What a rolling upgrade waits for, on a control plane with a fleet in it. The
	// best of three: other tests may want the cores.
	best := scaler.readyAfter
	for range 3 {
		if err := scaler.Stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		scaler.start(t, s)
		best = min(best, scaler.awaitReady(t))
	}
	if best > readyWithin {
		t.Errorf("ready %s after the start at best, want %s at most", best, readyWithin)
	}
}

// readyWithin is what a start may take on a warm control plane, from the process
// to the readiness probe that passes.
const readyWithin = 5 * time.Second

// quick is a KAITO whose replicas start in seconds.
var quick = kaito.Options{Startup: kaito.Stages{Node: time.Second, Engine: time.Second}, Termination: time.Second}

// scaler is a process as a render describes it.
type scaler struct {
	*controlplane.Process
	container          corev1.Container
	binary, kubeconfig string
	// grpc is where KEDA calls it.
	grpc       string
	readyAfter time.Duration
}

// run applies the render of these values and starts the scaler with the rendered
// flags under the rendered account, on ports of its own, and waits until the
// rendered probes pass.
func run(t *testing.T, s *stack.Stack, values ...string) *scaler {
	t.Helper()
	scaler := launch(t, s, values...)
	scaler.readyAfter = scaler.awaitReady(t)
	eventually(t, "the rendered liveness probe passes", probe(t, scaler.container.LivenessProbe))
	return scaler
}

// launch is run without the wait.
func launch(t *testing.T, s *stack.Stack, values ...string) *scaler {
	t.Helper()
	ports := freePorts(t)
	address := net.JoinHostPort("127.0.0.1", ports[0])
	// There are no Services without nodes: KEDA is told the process's address.
	manifest := render(t, append([]string{
		"ports.grpc=" + ports[0], "ports.metrics=" + ports[1], "ports.grpcHealth=" + ports[2],
		"scalerAddress=" + address, "extraArgs={--bind-address=127.0.0.1}",
		"scrape.allowHostNetwork=true", // simulated pods have loopback addresses
	}, values...)...)
	if err := s.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	container, pod := deployed(t, manifest)
	kubeconfig, err := s.ServiceAccountKubeconfig(t.Context(), flag(container, "working-namespace"), pod.ServiceAccountName)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := controlplane.BuildScaler(t.Context(), os.Stderr, false)
	if err != nil {
		t.Fatal(err)
	}
	scaler := &scaler{container: container, binary: binary, kubeconfig: kubeconfig, grpc: address}
	scaler.start(t, s)
	return scaler
}

// flag is the value of a rendered flag, "" if it isn't rendered.
func flag(container corev1.Container, name string) string {
	for _, arg := range container.Args {
		if value, is := strings.CutPrefix(arg, "--"+name+"="); is {
			return value
		}
	}
	return ""
}

func (c *scaler) start(t *testing.T, s *stack.Stack) {
	t.Helper()
	var err error
	c.Process, err = s.Cluster.StartScaler(t.Context(), controlplane.ScalerOptions{
		Binary: c.binary, Kubeconfig: c.kubeconfig, Args: c.container.Args,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitReady tells how long it took.
func (c *scaler) awaitReady(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, "the rendered readiness probe passes", probe(t, c.container.ReadinessProbe))
	took := time.Since(began)
	t.Logf("ready %s after the start", took.Round(time.Millisecond))
	return took
}

func (c *scaler) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(c.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantNothingForbidden looks for what the API server refused the process.
func (c *scaler) wantNothingForbidden(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(c.log(t)) {
		if strings.Contains(line, "forbidden") {
			t.Errorf("the rendered rights are not enough: %s", line)
		}
	}
}

// example creates the README's example in a namespace.
func example(t *testing.T, s *stack.Stack, namespace string) *unstructured.Unstructured {
	t.Helper()
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "examples", "phi-4.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	is := decode(t, text)[0]
	is.SetNamespace(namespace)
	if err := s.Client.Create(t.Context(), is); err != nil {
		t.Fatal(err)
	}
	if err := s.KAITO.AwaitReady(t.Context(), namespace, is.GetName(), 1); err != nil {
		t.Fatal(err)
	}
	return is
}

// quickStart applies the README's example and puts load on it.
func quickStart(t *testing.T, s *stack.Stack, namespace string) {
	t.Helper()
	is := example(t, s, namespace)
	key := client.ObjectKeyFromObject(is)
	eventually(t, "the ScaledObject is Ready", func(ctx context.Context) error {
		so := scaledObject()
		if err := s.Client.Get(ctx, key, so); err != nil {
			return err
		}
		return condition(so, "Ready")
	})
	// Its window of 60 s is for people.
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"scaledobject.kaito.sh/evaluationwindow":"0"}}}`))
	if err := s.Client.Patch(t.Context(), is, patch); err != nil {
		t.Fatal(err)
	}
	for _, pod := range s.KAITO.Serving(key.Namespace, key.Name) {
		pod.SetWaiting(25)
	}
	eventually(t, "a second replica is desired", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, key, is); err != nil {
			return err
		}
		if n, _, _ := unstructured.NestedInt64(is.Object, "spec", "replicas"); n < 2 {
			return fmt.Errorf("%d is", n)
		}
		return nil
	})
}

func scaledObject() *unstructured.Unstructured {
	so := &unstructured.Unstructured{}
	so.SetAPIVersion("keda.sh/v1alpha1")
	so.SetKind("ScaledObject")
	return so
}

func condition(object *unstructured.Unstructured, kind string) error {
	list, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	if err != nil {
		return err
	}
	for _, entry := range list {
		if c, ok := entry.(map[string]any); ok && c["type"] == kind {
			if c["status"] != "True" {
				return fmt.Errorf("%s is %v: %v", kind, c["status"], c["message"])
			}
			return nil
		}
	}
	return fmt.Errorf("no condition %s", kind)
}

// probe does what the kubelet does with a gRPC probe.
func probe(t *testing.T, p *corev1.Probe) func(context.Context) error {
	t.Helper()
	connection, err := grpc.NewClient(net.JoinHostPort("127.0.0.1", strconv.Itoa(int(p.GRPC.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(p.TimeoutSeconds)*time.Second)
		defer cancel()
		answer, err := healthgrpc.NewHealthClient(connection).Check(ctx, &healthgrpc.HealthCheckRequest{Service: *p.GRPC.Service})
		if err == nil && answer.GetStatus() != healthgrpc.HealthCheckResponse_SERVING {
			err = errors.New(answer.GetStatus().String())
		}
		return err
	}
}

func eventually(t *testing.T, what string, condition func(context.Context) error) {
	t.Helper()
	last := errors.New("not looked at")
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = condition(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: not within %s: %v", what, patience, last)
	}
}

func freePorts(t *testing.T) [3]string {
	t.Helper()
	var ports [3]string
	for i := range ports {
		var config net.ListenConfig
		listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }() // at the end, so that they differ
		if _, ports[i], err = net.SplitHostPort(listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

// foreign are kinds of others, whose definitions this cluster doesn't have.
var foreign = map[string]bool{"cert-manager.io": true, "monitoring.coreos.com": true}

func TestEveryGoldenRenderIsAccepted(t *testing.T) {
	s := start(t, stack.Options{NoKAITO: true, NoKEDAProcesses: true})
	root, err := controlplane.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"keda-system", "monitoring", "team-a", "team-b"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := s.Client.Create(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
		eventually(t, "pods may be made in "+name, func(ctx context.Context) error {
			return s.Client.Get(ctx, types.NamespacedName{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
		})
	}
	strict, err := client.New(s.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	strict = client.WithFieldValidation(strict, metav1.FieldValidationStrict)
	renders, err := filepath.Glob(filepath.Join(root, "test", "chart", "*", "render.yaml"))
	if err != nil || len(renders) < 5 {
		t.Fatalf("renders %q: %v", renders, err)
	}
	for _, name := range renders {
		manifest, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range decode(t, manifest) {
			err := strict.Create(t.Context(), object, client.DryRunAll)
			if meta.IsNoMatchError(err) && foreign[object.GroupVersionKind().Group] {
				continue
			}
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Errorf("%s: %s %s: %v", filepath.Base(filepath.Dir(name)), object.GetKind(), object.GetName(), err)
			}
		}
	}
}
