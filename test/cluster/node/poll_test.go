//go:build node

package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// poll asks at that interval for what the refs say, as KEDA does, until the test
// ends: one connection for the Service's name, with the certificates of now.
func poll(t *testing.T, interval time.Duration, want stack.Answer, refs ...*pb.ScaledObjectRef) *stack.Polls {
	t.Helper()
	p := stack.Poll(interval, want, connect, refs...)
	t.Cleanup(p.Stop)
	eventually(t, "polls succeed", func() error {
		if count := p.Count(stack.PollCount{}); count.Made-len(count.Failed) < 5 {
			return fmt.Errorf("%d were made, these failed: %q", count.Made, count.Failed)
		}
		return nil
	})
	return p
}

func connect(ctx context.Context, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	secret := &corev1.Secret{}
	if err := shared.Client.Get(ctx, client.ObjectKey{Namespace: "keda", Name: certs.ClientSecret}, secret); err != nil {
		return nil, err
	}
	config, err := stack.MaterialOf(secret)
	if err != nil {
		return nil, err
	}
	// The cluster's DNS resolves the name, as it does for KEDA in its pod.
	config.ServerName = "keda-kaito-scaler-svc.keda.svc"
	return stack.Connect("dns://"+dnsIP+"/keda-kaito-scaler-svc.keda.svc.cluster.local:10450", config, options...)
}

// ref is how KEDA asks for a fleet on a threshold.
func (f *fleet) ref() *pb.ScaledObjectRef {
	return &pb.ScaledObjectRef{Namespace: f.Namespace, Name: f.NamespacedName.Name, ScalerMetadata: map[string]string{
		"enableTLS": "true", "threshold": "10", "inferenceSetName": f.NamespacedName.Name,
	}}
}

// through polls while something is done, and wants at most one failure for each
// connection that moved: of our own polls, and of KEDA's calls.
func through(t *testing.T, p *stack.Polls, what string, do func(), fleets ...*fleet) {
	t.Helper()
	before, since, began := p.Count(stack.PollCount{}), metav1.Now(), time.Now()
	do()
	took, made := time.Since(began), p.Count(before).Made
	eventually(t, "polls go on after "+what, func() error {
		if n := p.Count(before).Made - made; n < 15 {
			return fmt.Errorf("%d were made", n)
		}
		return nil
	})
	count, name := p.Count(before), strings.ReplaceAll(what, " ", "_")
	fmt.Printf("figure node_%s_seconds %.0f\nfigure node_%s_polls %d\nfigure node_%s_polls_failed %d\nfigure node_%s_connections_moved %d\n",
		name, took.Seconds(), name, count.Made, name, len(count.Failed), name, count.Moved)
	if stack.Missed(count.At) > count.Moved {
		t.Errorf("%s: %d polls failed and %d connections moved:\n%s", what, len(count.Failed), count.Moved, strings.Join(count.Failed, "\n"))
	}
	for _, f := range fleets {
		failed := shared.kedaFailures(t, since, f)
		fmt.Printf("figure node_%s_keda_failed_seconds_%s %d\n", name, f.Namespace, stack.Seconds(failed))
		// KEDA's one connection moves as often as a replica ends, at most.
		if n := stack.Missed(stack.Times(failed)); n > 2 {
			t.Errorf("%s: %[3]d polls of KEDA's about %[2]s failed, want 2 at most:\n%[4]s", what, f, n, strings.Join(failed, "\n"))
		}
	}
}

// kedaLog is the log of KEDA's operator since then.
func (w *world) kedaLog(t *testing.T, since metav1.Time) string {
	t.Helper()
	var pods corev1.PodList
	if err := w.Client.List(t.Context(), &pods, client.InNamespace("keda"), client.MatchingLabels{"app": "keda-operator"}); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, pod := range pods.Items {
		text, err := w.log(t.Context(), &pod, &corev1.PodLogOptions{SinceTime: &since})
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(text)
	}
	return all.String()
}

// kedaFailures are the calls about a fleet that failed for KEDA, in its words.
func (w *world) kedaFailures(t *testing.T, since metav1.Time, f *fleet) []string {
	t.Helper()
	return stack.FailedCalls(w.kedaLog(t, since), f.Namespace)
}
