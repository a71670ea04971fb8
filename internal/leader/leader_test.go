package leader

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leases is an API server that knows one Lease and nothing else.
type leases struct {
	mu    sync.Mutex
	lease *coordinationv1.Lease
	// writes number the Lease's versions.
	writes int
	down   bool
}

func (l *leases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := func(status int, object any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(object)
	}
	switch {
	case l.down:
		w.WriteHeader(http.StatusInternalServerError)
	case !strings.Contains(r.URL.Path, "/leases"):
		body, _ := io.ReadAll(r.Body) // an event
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(body)
	case r.Method == http.MethodGet && l.lease == nil:
		answer(http.StatusNotFound, metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
		})
	case r.Method == http.MethodGet:
		answer(http.StatusOK, l.lease)
	default:
		lease := &coordinationv1.Lease{}
		_ = json.NewDecoder(r.Body).Decode(lease)
		if l.lease != nil && lease.ResourceVersion != l.lease.ResourceVersion {
			answer(http.StatusConflict, metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonConflict, Code: http.StatusConflict,
			})
			return
		}
		lease.TypeMeta = metav1.TypeMeta{Kind: "Lease", APIVersion: "coordination.k8s.io/v1"}
		l.store(lease)
		answer(http.StatusOK, lease)
	}
}

// store needs mu.
func (l *leases) store(lease *coordinationv1.Lease) {
	l.writes++
	lease.ResourceVersion = strconv.Itoa(l.writes)
	l.lease = lease
}

// take gives the Lease to somebody else.
func (l *leases) take(holder string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lease := l.lease.DeepCopy()
	lease.Spec.HolderIdentity = &holder
	l.store(lease)
}

func (l *leases) holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == nil || l.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.lease.Spec.HolderIdentity
}

// replica is a manager on a real elector, whose times are those of a test.
type replica struct {
	*Manager
	lease *Lease
	lost  chan error
}

func newReplica(t *testing.T, api *leases) replica {
	t.Helper()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	lost := make(chan error, 1)
	lease, err := NewLease(config, types.NamespacedName{Namespace: "keda", Name: "scaler"}, func(err error) { lost <- err })
	if err != nil {
		t.Fatal(err)
	}
	long, deadline, retry := 1500*time.Millisecond, time.Second, 50*time.Millisecond
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		LeaderElection: true, LeaderElectionResourceLockInterface: lease, LeaderElectionReleaseOnCancel: true,
		LeaderElectionID: "scaler", LeaderElectionNamespace: "keda",
		LeaseDuration: &long, RenewDeadline: &deadline, RetryPeriod: &retry,
	})
	if err != nil {
		t.Fatal(err)
	}
	return replica{Track(mgr), lease, lost}
}

// A manager that loses its Lease ends at once; what it ran may still be at a write.
func TestWhatALostLeaseLeavesRunningIsWaitedFor(t *testing.T) {
	api := &leases{}
	r := newReplica(t, api)
	began, writing, written := make(chan struct{}), make(chan struct{}), make(chan struct{})
	err := r.Add(manager.RunnableFunc(func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		close(writing)
		<-written
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Start(t.Context()) }()
	<-began
	if !r.lease.Held() {
		t.Error("the Lease isn't held by who was elected")
	}
	api.mu.Lock()
	api.down = true
	api.mu.Unlock()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "leader election lost") {
		t.Errorf("the manager ended with %v", err)
	}
	<-writing
	if left := r.Wait(10 * time.Millisecond); !slices.Equal(left, []string{"manager.RunnableFunc"}) {
		t.Errorf("while it writes, what goes on is %q", left)
	}
	close(written)
	if left := r.Wait(time.Minute); left != nil {
		t.Errorf("after the write %q goes on", left)
	}
}

// The last write at a stop needs the Lease, which is given back after it.
func TestTheLeaseIsHeldUntilEverythingHasEnded(t *testing.T) {
	api := &leases{}
	r := newReplica(t, api)
	began := make(chan struct{})
	var held bool
	var holder string
	err := r.Add(manager.RunnableFunc(func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		held, holder = r.lease.Held(), api.holder()
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	<-began
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !held || holder != r.lease.Identity() {
		t.Errorf("at the last write the Lease is held %t, by %q", held, holder)
	}
	if r.lease.Held() || api.holder() != "" {
		t.Errorf("after the stop the Lease is held %t, by %q", r.lease.Held(), api.holder())
	}
}

// A process that was suspended finds out at its next request, not 10 s later.
func TestALeaseThatAnotherTookIsLostAtOnce(t *testing.T) {
	api := &leases{}
	r := newReplica(t, api)
	began := make(chan struct{})
	if err := r.Add(manager.RunnableFunc(func(ctx context.Context) error { close(began); <-ctx.Done(); return nil })); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	<-began
	select {
	case err := <-r.lost:
		t.Errorf("lost while it is held: %v", err)
	default:
	}
	api.take("other")
	if err := <-r.lost; !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "other") {
		t.Errorf("lost for %v, want who has it", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestARenewalCountsForTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients := fake.NewClientset()
		lease := &Lease{lost: func(error) {}, LeaseLock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: "keda", Name: "scaler"}, Client: clients.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: "me"},
		}}
		held := func(want bool) {
			t.Helper()
			if lease.Held() != want {
				t.Errorf("held %t, want %t", !want, want)
			}
		}
		held(false)
		if err := lease.Create(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me"}); err != nil {
			t.Fatal(err)
		}
		held(true)
		time.Sleep(9 * time.Second)
		held(true)
		time.Sleep(2 * time.Second)
		held(false)
		if err := lease.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me"}); err != nil {
			t.Fatal(err)
		}
		held(true)
		if err := lease.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil {
			t.Fatal(err)
		}
		held(false)
	})
}

// onEveryReplica runs on every replica.
type onEveryReplica struct{ manager.RunnableFunc }

func (onEveryReplica) NeedLeaderElection() bool { return false }

func TestATrackedRunnableNeedsTheLeaseIfItSaidSo(t *testing.T) {
	for _, tt := range []struct {
		runnable manager.Runnable
		want     bool
	}{{manager.RunnableFunc(nil), true}, {onEveryReplica{}, false}} {
		if got := (&runnable{Runnable: tt.runnable}).NeedLeaderElection(); got != tt.want {
			t.Errorf("%T: %t, want %t", tt.runnable, got, tt.want)
		}
	}
}

// A replica that waits for the Lease knows until when the other has led.
func TestUntilWhenAnotherLedIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients := fake.NewClientset()
		of := func(name string) *Lease {
			return &Lease{lost: func(error) {}, LeaseLock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: "keda", Name: "scaler"}, Client: clients.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			}}
		}
		one, other := of("one"), of("other")
		look := func(want time.Time) {
			t.Helper()
			time.Sleep(time.Second)
			if _, _, err := other.Get(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := other.LedUntil(); !got.Equal(want) {
				t.Errorf("led until %v, want %v", got, want)
			}
		}
		began := metav1.Now()
		record := resourcelock.LeaderElectionRecord{HolderIdentity: "one", LeaseDurationSeconds: 15, AcquireTime: began, RenewTime: began}
		if err := one.Create(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		look(began.Time)
		look(began.Time) // it doesn't go on by itself
		record.RenewTime = metav1.Now()
		if err := one.Update(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		look(record.RenewTime.Time)
		// Given back by one whose clock is an hour ahead.
		record.HolderIdentity, record.RenewTime = "", metav1.NewTime(time.Now().Add(time.Hour))
		if err := one.Update(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		look(time.Now().Add(time.Second))
		look(time.Now())
		if !one.LedUntil().IsZero() {
			t.Error("what a replica wrote itself is no other's")
		}
	})
}
