package certs

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const (
	// poll is how often everything is looked at without a cause. A timer set
	// for a due date months away runs on the monotonic clock, which stands
	// still while a machine is suspended and knows nothing of a clock that was
	// set; and an event may be missed. So the wall clock is asked every minute.
	poll = time.Minute
	// retry is how soon to look again after somebody else wrote at the same
	// time.
	retry = time.Second
	// retryFailed is how soon to try again after an error: three reads of an API
	// server that is away cost nothing, and when it is back it shouldn't take
	// long until certificates are right.
	retryFailed = 10 * time.Second
	// maxSteps bounds one reconcile. From the worst of states it takes ten.
	maxSteps = 24
)

// Keeper carries out the plan on the Secrets. Only the leader runs one.
type Keeper struct {
	// Client writes. Reads go to Reader.
	Client client.Client
	// Reader reads past any cache: a plan made from an old state would make
	// keys that nobody wants.
	Reader client.Reader
	Rules  Rules
	// Recorder tells of every step on the Secret that it changed; may be nil.
	Recorder events.EventRecorder
	// Now is the wall clock.
	Now func() time.Time
	// OnClientMaterial is told a digest of what KEDA is to present and to
	// trust, when it becomes known and when it changes, once all Secrets are in
	// order; may be nil.
	OnClientMaterial func(digest string)
	// OnClientProblem is told why the client's Secret isn't where KEDA reads it.
	OnClientProblem problemFunc

	// lastDigest is the digest that OnClientMaterial was told last. Reconciles run
	// one at a time.
	lastDigest string
	problems   problemLog
}

// Reconcile brings all three Secrets into order, whichever of them it was
// called for. It never returns an error, see problemLog.
func (k *Keeper) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	again, err := k.reconcile(ctx)
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: retry}, nil
	}
	k.problems.report(ctx, "can't keep the certificates", err)
	return reconcile.Result{RequeueAfter: again}, nil
}

// reconcile says when to look again. KEDA's namespace may be gone, or closed to the
// scaler: what the scaler serves is kept right all the same.
func (k *Keeper) reconcile(ctx context.Context) (time.Duration, error) {
	again, err := k.reconcileAll(ctx)
	var theirs *clientError
	if !k.Rules.Names.kedaIsElsewhere() || !errors.As(err, &theirs) {
		if err == nil {
			k.OnClientProblem.call("")
		}
		return again, err
	}
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		k.OnClientProblem.call(theirs.Error())
		if k.lastDigest == "" {
			// ScaledObjects needn't wait for it: that KEDA can't ask is told on them.
			k.reportDigest(Bundle{})
		}
	}
	return again, errors.Join(err, k.reconcileServer(ctx))
}

func (k *Keeper) reconcileAll(ctx context.Context) (time.Duration, error) {
	for range maxSteps {
		found, err := k.read(ctx, CASecret, ServerSecret, ClientSecret)
		if err != nil {
			return retryFailed, err
		}
		now := k.Now()
		plan := k.Rules.Plan(found.bundle(), now)
		setExpiry("ca", plan.CA)
		setExpiry(forClient.String(), plan.Client)
		if plan.Step.Op == None {
			k.reportDigest(found.bundle())
			return min(poll, max(plan.Wake.Sub(now), time.Second)), nil
		}
		if err := k.execute(ctx, found, plan.Step, now); err != nil {
			return retryFailed, err
		}
	}
	return retryFailed, errTooManySteps
}

// reconcileServer does what can be done without the client's Secret.
func (k *Keeper) reconcileServer(ctx context.Context) error {
	for range maxSteps {
		found, err := k.read(ctx, CASecret, ServerSecret)
		if err != nil {
			return err
		}
		now := k.Now()
		step := k.Rules.planServer(found.bundle(), now)
		if step.Op == None {
			return nil
		}
		if err := k.execute(ctx, found, step, now); err != nil {
			return err
		}
	}
	return errTooManySteps
}

// clientError is one with the client's Secret.
type clientError struct{ error }

func (e *clientError) Unwrap() error { return e.error }

// problemFunc is told why the client's Secret isn't where KEDA reads it, "" once it
// is; may be nil.
type problemFunc func(why string)

func (f problemFunc) call(why string) {
	if f != nil {
		f(why)
	}
}

var errTooManySteps = errors.New("the certificates do not come to rest; is somebody else writing their Secrets?")

// secrets are the objects by name, as read; missing ones are not in it.
type secrets map[string]*corev1.Secret

func (s secrets) data(name string) Data {
	secret, ok := s[name]
	if !ok {
		return nil
	}
	if secret.Data == nil {
		return Data{}
	}
	return secret.Data
}

func (s secrets) bundle() Bundle {
	return Bundle{CA: s.data(CASecret), Server: s.data(ServerSecret), Client: s.data(ClientSecret)}
}

func (k *Keeper) read(ctx context.Context, names ...string) (secrets, error) {
	found := secrets{}
	for _, name := range names {
		secret := &corev1.Secret{}
		key := k.Rules.Names.secret(name)
		err := k.Reader.Get(ctx, key, secret)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, markClient(name, fmt.Errorf("reading Secret %s: %w", key, err))
		default:
			found[name] = secret
		}
	}
	return found, nil
}

// markClient marks an error with the client's Secret.
func markClient(name string, err error) error {
	if name == ClientSecret {
		return &clientError{err}
	}
	return err
}

func (k *Keeper) execute(ctx context.Context, found secrets, step Step, now time.Time) error {
	after, err := k.Rules.Apply(found.bundle(), step, now)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	name := step.Op.Secret()
	data := map[string]Data{CASecret: after.CA, ServerSecret: after.Server, ClientSecret: after.Client}[name]

	key := k.Rules.Names.secret(name)
	secret, err := writer{k.Client}.write(ctx, found[name], key, data)
	if err != nil {
		return markClient(name, fmt.Errorf("writing Secret %s (%s): %w", key, step.Op, err))
	}
	log.FromContext(ctx).Info("changed certificates", "step", step.Op.String(), "secret", key, "why", step.Why)
	if k.Recorder != nil {
		k.Recorder.Eventf(secret, nil, corev1.EventTypeNormal, step.Op.String(), "KeepCertificates", "%s", step.Why)
	}
	return nil
}

func (k *Keeper) reportDigest(b Bundle) {
	text := shortDigest(b.Client)
	if text == k.lastDigest {
		return
	}
	k.lastDigest = text
	if k.OnClientMaterial != nil {
		k.OnClientMaterial(text)
	}
}

// problemLog logs trouble when it begins and when it changes, not every time it
// is met. So reconcilers don't hand their errors on: the controller would log
// each, and in the end wait for a quarter of an hour between two attempts.
// Reconciles run one at a time.
type problemLog struct{ last string }

func (t *problemLog) report(ctx context.Context, message string, err error) {
	if err == nil {
		t.last = ""
		return
	}
	if ctx.Err() != nil {
		return // we were told to stop
	}
	t.logOnce(err.Error(), func() { log.FromContext(ctx).Error(err, message) })
}

func (t *problemLog) logOnce(problem string, write func()) {
	if problem != t.last {
		write()
	}
	t.last = problem
}
