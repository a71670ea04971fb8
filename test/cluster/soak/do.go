package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// misbehave does what the schedule says, each deed beside the others, until ctx
// ends.
func (s *soak) misbehave(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	for _, d := range schedule(s.options.seed, s.options.length) {
		if !pause(ctx, time.Until(s.start.Add(d.at))) {
			return
		}
		under.Go(func() {
			err := s.do(ctx, d)
			if ctx.Err() != nil {
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				s.futile++
				return
			}
			s.done[d.kind]++
		})
	}
	<-ctx.Done()
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// errNobody is a deed that befalls nobody: the replica is gone already.
var errNobody = errors.New("nobody is there")

// do does one deed, to its end.
func (s *soak) do(ctx context.Context, d deed) error {
	f := s.fleets[d.pick%uint64(len(s.fleets))]
	switch d.kind {
	case deleteSecret:
		return s.deleteSecret(ctx, secrets[d.pick%uint64(len(secrets))])
	case outage:
		s.away.Lock()
		defer s.away.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.say("  the API server is away for %s", d.lasts.Round(time.Second))
		_, err := s.stack.Outage(ctx, func() { pause(ctx, d.lasts) })
		if err != nil && ctx.Err() == nil {
			s.site.note(err)
		}
		return err
	case killScaler, stopScaler:
		return s.site.replace(ctx, d.pick, d.kind == killScaler)
	case leave:
		return s.leaveAndJoin(ctx, f, d.lasts)
	case upgrade:
		s.stack.KAITO.Surge(f.Namespace, f.Name, true)
		pause(ctx, d.lasts)
		s.stack.KAITO.Surge(f.Namespace, f.Name, false)
		return nil
	default:
		r, ok := s.pick(f, d.pick/uint64(len(s.fleets)))
		if !ok {
			return errNobody
		}
		return s.befall(ctx, f, r, d)
	}
}

// deleteSecret takes a Secret away and waits until there is another.
func (s *soak) deleteSecret(ctx context.Context, name string) error {
	key := client.ObjectKey{Namespace: stack.Namespace, Name: name}
	old := &corev1.Secret{}
	if err := s.stack.Client.Get(ctx, key, old); err != nil {
		return err
	}
	if err := s.stack.Client.Delete(ctx, old); err != nil {
		return err
	}
	// The API server may be away, and so may whoever leads.
	const patience = 3 * time.Minute
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
		again := &corev1.Secret{}
		if s.stack.Client.Get(ctx, key, again) == nil && again.UID != old.UID && len(again.Data["tls.crt"]) > 0 {
			return nil
		}
	}
	err := fmt.Errorf("%s: Secret %s was deleted %s ago and isn't back", time.Now().Format(time.TimeOnly), name, patience)
	s.site.note(err)
	return err
}

// pick chooses a replica that serves and that nothing else has befallen.
func (s *soak) pick(f *fleet, pick uint64) (kaito.Replica, bool) {
	var healthy []kaito.Replica
	for _, r := range s.stack.KAITO.Replicas(f.Namespace, f.Name) {
		if r.Ready && f.healthy(r.Workspace) {
			healthy = append(healthy, r)
		}
	}
	if len(healthy) == 0 {
		return kaito.Replica{}, false
	}
	return healthy[pick%uint64(len(healthy))], true
}

// failures are the deeds that the stand-in for KAITO can do to a replica.
var failures = map[deedKind]kaito.Failure{
	hang: kaito.Hung, refuse: kaito.Refused, garbage: kaito.Garbage, crash: kaito.Crash, restart: kaito.Restart,
}

// befall does something to one replica, and undoes it.
func (s *soak) befall(ctx context.Context, f *fleet, r kaito.Replica, d deed) error {
	switch d.kind {
	case deletePod, deleteReplica:
		return s.remove(ctx, f, r, d.kind)
	case restart:
		return r.Fail(kaito.Restart)
	default:
	}
	f.ail(r.Workspace, d.kind)
	defer f.heal(r.Workspace)
	switch d.kind {
	case slow:
		r.VLLM.SetDelay(500*time.Millisecond + time.Duration(d.pick%uint64(4*time.Second)))
		pause(ctx, d.lasts)
		r.VLLM.SetDelay(0)
		return nil
	case flap:
		for range 3 {
			if err := r.Fail(kaito.NotReady); err != nil {
				return err
			}
			pause(ctx, d.lasts/6)
			if err := r.Recover(); err != nil {
				return err
			}
			pause(ctx, d.lasts/6)
		}
		return nil
	default:
	}
	if err := r.Fail(failures[d.kind]); err != nil {
		return err
	}
	pause(ctx, d.lasts)
	_ = r.Recover() // unless it is gone
	return nil
}

// remove deletes a replica or its pod, and waits until that is begun anew or gone.
func (s *soak) remove(ctx context.Context, f *fleet, r kaito.Replica, kind deedKind) error {
	f.ail(r.Workspace, kind)
	defer f.heal(r.Workspace)
	var object client.Object = workspace(f, r)
	if kind == deletePod {
		pod := &corev1.Pod{}
		pod.Namespace, pod.Name = f.Namespace, r.Pod
		object = pod
	}
	if err := s.stack.Client.Delete(ctx, object); err != nil {
		return err
	}
	for s.ready(f, r.Workspace) {
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
	return nil
}

// ready tells whether a replica serves.
func (s *soak) ready(f *fleet, workspace string) bool {
	return slices.ContainsFunc(s.stack.KAITO.Replicas(f.Namespace, f.Name), func(r kaito.Replica) bool {
		return r.Workspace == workspace && r.Stage == kaito.Ready
	})
}

func workspace(f *fleet, r kaito.Replica) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("kaito.sh/v1beta1")
	u.SetKind("Workspace")
	u.SetNamespace(f.Namespace)
	u.SetName(r.Workspace)
	return u
}

// leaveAndJoin takes an InferenceSet away and makes it again, whatever happens to
// the API server meanwhile.
func (s *soak) leaveAndJoin(ctx context.Context, f *fleet, away time.Duration) error {
	f.leaving.Lock()
	defer f.leaving.Unlock()
	if err := client.IgnoreNotFound(s.stack.Client.Delete(ctx, f.key())); err != nil {
		return err
	}
	for !apierrors.IsNotFound(s.stack.Client.Get(ctx, f.NamespacedName, f.key())) {
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
	f.gone() // for the API server may be away before anybody sees that
	pause(ctx, away)
	for {
		err := s.join(ctx, f)
		if err == nil || apierrors.IsAlreadyExists(errors.Unwrap(err)) {
			return nil
		}
		if !pause(ctx, 2*time.Second) {
			return ctx.Err()
		}
	}
}
