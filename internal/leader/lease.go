// Package leader tells whether this process leads at this moment, and whether all
// that a manager ran has ended.
package leader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	// requestTimeout keeps one request that hangs from losing the Lease.
	requestTimeout = 5 * time.Second
	// heldFor is how long a renewal counts. Others take a Lease over 15 s after
	// they saw its last renewal, which leaves 5 s for a write that began in time.
	heldFor = 10 * time.Second
)

// ErrLost is the cause of a context that ends because another replica leads.
var ErrLost = errors.New("another replica holds the Lease")

// Lease is the lock that replicas elect their leader by. Beyond what an elector
// knows, it tells whether it is held now: an elector that was suspended, or whose
// requests fail, goes on for 10 s before it says that it lost.
type Lease struct {
	*resourcelock.LeaseLock
	// lost is called when another replica is seen to hold what this one held.
	lost func(error)

	// mu guards renewed, when this process last wrote that it holds the Lease; zero
	// if it doesn't.
	mu      sync.Mutex
	renewed time.Time
	// other is the newest record of another replica, which is known to have led
	// until led.
	other string
	led   time.Time
}

// NewLease makes a Lease. Lost is told when another replica has taken it over.
func NewLease(config *rest.Config, name types.NamespacedName, lost func(error)) (*Lease, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this replica: %w", err)
	}
	own := rest.AddUserAgent(rest.CopyConfig(config), "leader-election")
	own.Timeout = requestTimeout
	client, err := coordinationclient.NewForConfig(own)
	if err != nil {
		return nil, fmt.Errorf("make a client for the Lease: %w", err)
	}
	return &Lease{lost: lost, LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}}, nil
}

// RecordEvents has an event of the Lease recorded whenever this process is elected
// or isn't any more. It is to be called before the election.
func (l *Lease) RecordEvents(recorder resourcelock.EventRecorder) {
	l.LockConfig.EventRecorder = recorder
}

// Held tells whether this process leads now.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Of two clocks, since the one that doesn't jump stands still while a machine
	// sleeps.
	now := time.Now()
	return !l.renewed.IsZero() && now.Sub(l.renewed) < heldFor && now.Round(0).Sub(l.renewed.Round(0)) < heldFor
}

// Get implements resourcelock.Interface.
func (l *Lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.LeaseLock.Get(ctx)
	if err == nil && record.HolderIdentity != l.Identity() {
		l.setOtherLeader(string(raw), record.RenewTime.Time)
	}
	if err == nil && record.HolderIdentity != l.Identity() && l.setRenewed(time.Time{}) && record.HolderIdentity != "" {
		l.lost(fmt.Errorf("%w: %s", ErrLost, record.HolderIdentity))
	}
	return record, raw, err //nolint:wrapcheck // electors look for NotFound
}

// Create implements resourcelock.Interface.
func (l *Lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	began := time.Now()
	err := l.LeaseLock.Create(ctx, record)
	if err == nil {
		l.setRenewed(began)
	}
	return err //nolint:wrapcheck // electors look for Conflict
}

// Update implements resourcelock.Interface.
func (l *Lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	began := time.Now()
	if record.HolderIdentity != l.Identity() {
		began = time.Time{} // it is given back
		l.setRenewed(began)
	}
	err := l.LeaseLock.Update(ctx, record)
	if err == nil {
		l.setRenewed(began)
	}
	return err //nolint:wrapcheck // electors look for Conflict
}

// setRenewed remembers a renewal, or with the zero time that there is none, and tells
// whether there was one.
func (l *Lease) setRenewed(at time.Time) (was bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was = !l.renewed.IsZero()
	l.renewed = at
	return was
}

// LedUntil is until when another replica is known to have led: when it renewed the
// Lease last, or gave it back.
func (l *Lease) LedUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.led
}

// setOtherLeader notes what another replica has written into the Lease. By a clock that is
// ahead it was no later than it was read first.
func (l *Lease) setOtherLeader(record string, renewal time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if record == l.other {
		return
	}
	now := time.Now()
	if renewal.After(now) {
		renewal = now
	}
	l.other, l.led = record, renewal
}
