//go:build node

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// polls are those of a client that connects as KEDA does: one connection for the
// Service's name, with the certificates that KEDA has.
type polls struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	// ended counts connections that came to an end.
	ended atomic.Int64
	// mu guards what follows.
	mu     sync.Mutex
	made   int
	failed []string
}

// TagRPC, HandleRPC, TagConn and HandleConn are grpc's stats.Handler.
func (p *polls) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (p *polls) HandleRPC(context.Context, stats.RPCStats)                         {}
func (p *polls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (p *polls) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, over := s.(*stats.ConnEnd); over {
		p.ended.Add(1)
	}
}

// poll asks at that interval for a fleet in which so much waits, until the test
// ends.
func (f *fleet) poll(interval time.Duration, waiting float64) *polls {
	f.Helper()
	secret := &corev1.Secret{}
	if err := shared.Client.Get(f.Context(), client.ObjectKey{Namespace: "keda", Name: certs.ClientSecret}, secret); err != nil {
		f.Fatal(err)
	}
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		f.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["ca.crt"])
	p := &polls{}
	// The cluster's DNS resolves the name, as it does for KEDA in its pod.
	connection, err := grpc.NewClient("dns://"+dnsIP+"/keda-kaito-scaler-svc.keda.svc.cluster.local:10450",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair},
			ServerName: "keda-kaito-scaler-svc.keda.svc",
		})),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin":{}}]}`), grpc.WithStatsHandler(p))
	if err != nil {
		f.Fatal(err)
	}
	scaler := pb.NewExternalScalerClient(connection)
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	p.done.Go(func() {
		defer func() { _ = connection.Close() }()
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			err := f.ask(ctx, scaler, waiting)
			if ctx.Err() != nil {
				return
			}
			p.note(err)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	f.Cleanup(p.stop)
	return p
}

func (p *polls) stop() {
	p.cancel()
	p.done.Wait()
}

// ask makes the calls of one of KEDA's polls.
func (f *fleet) ask(ctx context.Context, scaler pb.ExternalScalerClient, waiting float64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ref := &pb.ScaledObjectRef{Namespace: f.Namespace, Name: f.NamespacedName.Name, ScalerMetadata: map[string]string{
		"enableTLS": "true", "threshold": "10", "inferenceSetName": f.NamespacedName.Name,
	}}
	spec, err := scaler.GetMetricSpec(ctx, ref)
	if err != nil {
		return fmt.Errorf("GetMetricSpec: %w", err)
	}
	name := spec.GetMetricSpecs()[0].GetMetricName()
	metrics, err := scaler.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: name})
	if err != nil {
		return fmt.Errorf("GetMetrics: %w", err)
	}
	if _, err := scaler.IsActive(ctx, ref); err != nil {
		return fmt.Errorf("IsActive: %w", err)
	}
	if value := metrics.GetMetricValues()[0].GetMetricValueFloat(); value != waiting {
		return fmt.Errorf("%g requests are waiting, want %g", value, waiting)
	}
	return nil
}

func (p *polls) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	if err != nil {
		p.failed = append(p.failed, time.Now().Format("15:04:05.000 ")+err.Error())
	}
}

// so is how it went up to now.
func (p *polls) so() (made int, failed []string, moved int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made, append([]string(nil), p.failed...), p.ended.Load()
}

// through polls while something is done, and wants at most one failure for each
// connection that moved: of our own polls, and of KEDA's calls.
func (f *fleet) through(p *polls, what string, do func()) {
	f.Helper()
	made, failed, moved := p.so()
	since := metav1.Now()
	do()
	eventually(f.T, "polls go on after "+what, func() error {
		if n, _, _ := p.so(); n < made+5 {
			return fmt.Errorf("%d were made", n-made)
		}
		return nil
	})
	madeAfter, failedAfter, movedAfter := p.so()
	lost := failedAfter[len(failed):]
	connections := int(movedAfter - moved)
	kedas := shared.kedaFailures(f.T, since, f)
	f.Logf("%s: %d polls, %d failed, %d connections moved; %d calls of KEDA's failed", what, madeAfter-made, len(lost), connections, len(kedas))
	if len(lost) > connections {
		f.Errorf("%s: %d polls failed and %d connections moved:\n%s", what, len(lost), connections, strings.Join(lost, "\n"))
	}
	// KEDA's one connection moves as often as a replica ends, at most.
	if n := stack.Seconds(kedas); n > 2 {
		f.Errorf("%s: KEDA's calls failed in %d different seconds, want 2 at most:\n%s", what, n, strings.Join(kedas, "\n"))
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
