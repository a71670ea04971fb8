package ha

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// material is what KEDA makes of the client's Secret.
func material(t *testing.T) *tls.Config {
	t.Helper()
	config, err := shared.Material(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func connect(t *testing.T, address string, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	connection, err := stack.Connect(address, config)
	if err != nil {
		t.Fatal(err)
	}
	return connection
}

// poll asks as KEDA does at each poll, and wants the total of the fleet.
func (f *fleet) poll(ctx context.Context, connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ref := &pb.ScaledObjectRef{Namespace: f.Namespace, Name: f.NamespacedName.Name, ScalerMetadata: f.metadata("")}
	answer, err := stack.Ask(ctx, connection, ref)
	if err != nil {
		return err
	}
	if want := (stack.Answer{Value: 20, Active: true}); answer != want {
		return fmt.Errorf("answered %+v, want %+v", answer, want)
	}
	return nil
}

// polls are those of one client of ours.
type polls struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	// mu guards what follows.
	mu      sync.Mutex
	made    int
	failed  []string
	resting bool
}

// rest lets no further poll begin until resume.
func (p *polls) rest()   { p.setResting(true) }
func (p *polls) resume() { p.setResting(false) }

func (p *polls) setResting(resting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = resting
}

func (p *polls) rests() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resting
}

// every polls at that interval, on connections that get gives, until stopped.
func (f *fleet) every(interval time.Duration, get func() (connection *grpc.ClientConn, done func())) *polls {
	ctx, cancel := context.WithCancel(context.Background())
	p := &polls{cancel: cancel}
	p.done.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			if !p.rests() {
				connection, done := get()
				err := f.poll(ctx, connection)
				done()
				if ctx.Err() != nil {
					return
				}
				p.note(err)
			}
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

func (p *polls) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	if err != nil {
		p.failed = append(p.failed, time.Now().Format("15:04:05.000 ")+err.Error())
	}
}

func (p *polls) stop() {
	p.cancel()
	p.done.Wait()
}

func (p *polls) so() (made int, failed []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made, append([]string(nil), p.failed...)
}

// holding polls on one connection with what the Secret says now, come what may.
func (f *fleet) holding(address string, interval time.Duration) *polls {
	connection := connect(f.T, address, material(f.T))
	f.Cleanup(func() { _ = connection.Close() })
	return f.every(interval, func() (*grpc.ClientConn, func()) { return connection, func() {} })
}

// atLeast waits until so many polls were made.
func (p *polls) atLeast(t *testing.T, n int) {
	t.Helper()
	eventually(t, patience, "polls go on", func() error {
		if made, _ := p.so(); made < n {
			return fmt.Errorf("%d of %d", made, n)
		}
		return nil
	})
}

// wantPolls wants at least so many polls, and at most so many failed.
func (p *polls) wantPolls(t *testing.T, who string, least, most int) {
	t.Helper()
	made, failed := p.so()
	t.Logf("%s: %d polls, %d failed", who, made, len(failed))
	if made < least || len(failed) > most {
		t.Errorf("%s: %d polls, %d failed: want at least %d and at most %d\n%s", who, made, len(failed), least, most, strings.Join(failed, "\n"))
	}
}

// kedaLog is KEDA's operator's log from some point on.
type kedaLog struct {
	*testing.T
	from int64
}

func kedaLogFromNow(t *testing.T) *kedaLog {
	t.Helper()
	info, err := os.Stat(shared.Process("keda-operator").LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return &kedaLog{T: t, from: info.Size()}
}

// failures are the calls about a fleet that failed for KEDA, in its words.
func (l *kedaLog) failures(f *fleet) []string {
	l.Helper()
	data, err := os.ReadFile(shared.Process("keda-operator").LogFile())
	if err != nil {
		l.Fatal(err)
	}
	return stack.FailedCalls(string(data[min(l.from, int64(len(data))):]), f.Namespace)
}

func (l *kedaLog) wantFailures(most int, f *fleet) {
	l.Helper()
	failed := l.failures(f)
	l.Logf("KEDA: %d calls about %s failed", len(failed), f.NamespacedName)
	if len(failed) > most {
		l.Errorf("%d calls of KEDA's failed, want %d at most:\n%s", len(failed), most, strings.Join(failed, "\n"))
	}
}
