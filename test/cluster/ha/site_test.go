package ha

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/await"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// patience is how long a test waits for what should come within seconds: long
// enough for two busy cores.
const patience = time.Minute

// site is a number of scalers behind one address.
type site struct {
	*testing.T
	front *stack.Front
	args  []string
	// binary is the scaler's, "" for the usual one.
	binary  string
	scalers map[string]*stack.Scaler
	leaving map[string]context.CancelFunc
	follows sync.WaitGroup
}

// newSite has no scalers yet. It ends all of them with the test, whatever came
// of them.
func newSite(t *testing.T, args ...string) *site {
	t.Helper()
	front, err := stack.NewFront(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	s := &site{T: t, front: front, scalers: map[string]*stack.Scaler{}, leaving: map[string]context.CancelFunc{}}
	s.args = append([]string{"--scaler-address=" + front.Address()}, args...)
	t.Cleanup(func() {
		for name := range s.scalers {
			if t.Failed() {
				t.Logf("the end of %s's log:\n%s", name, s.scalers[name].Tail(25))
			}
			s.kill(name)
		}
		s.follows.Wait()
	})
	return s
}

// start starts a scaler and puts it behind the address once it is ready.
func (s *site) start(name string) *stack.Scaler {
	s.Helper()
	scaler, err := shared.StartScalerOf(s.Context(), s.binary, s.Name()+"-"+name, s.args...)
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.scalers[name], s.leaving[name] = scaler, cancel
	s.follows.Go(func() {
		if err := s.front.Follow(ctx, scaler); err != nil {
			s.Errorf("the probe of %s: %v", name, err)
		}
	})
	return scaler
}

// ready starts scalers and waits until they are ready.
func (s *site) ready(names ...string) {
	s.Helper()
	for _, name := range names {
		s.start(name)
	}
	for _, name := range names {
		if err := shared.AwaitReady(s.Context(), s.scalers[name]); err != nil {
			s.Fatal(err)
		}
	}
	s.eventually("all are behind the address", func() error {
		if n := s.front.Ready(); n < len(names) {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// kill is a crash.
func (s *site) kill(name string) {
	s.Helper()
	if err := s.scalers[name].Kill(); err != nil {
		s.Error(err)
	}
	s.gone(name)
}

// stop is what a kubelet does to a pod that is deleted.
func (s *site) stop(name string) {
	s.Helper()
	if err := s.scalers[name].Stop(20 * time.Second); err != nil {
		s.Errorf("%v\n%s", err, s.scalers[name].Tail(20))
	}
	s.gone(name)
}

func (s *site) gone(name string) {
	s.leaving[name]()
	delete(s.scalers, name)
}

// leader waits for one of the scalers to lead, by its Lease.
func (s *site) leader() string {
	s.Helper()
	var found string
	s.eventually("one leads", func() error {
		var lease coordinationv1.Lease
		if err := shared.Client.Get(s.Context(), types.NamespacedName{Namespace: stack.Namespace, Name: "keda-kaito-scaler"}, &lease); err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil {
			return errors.New("nobody does")
		}
		for name, scaler := range s.scalers {
			if strings.Contains(logOf(s.T, scaler), *lease.Spec.HolderIdentity) {
				found = name
				return nil
			}
		}
		return fmt.Errorf("%q is none of ours", *lease.Spec.HolderIdentity)
	})
	return found
}

func logOf(t *testing.T, scaler *stack.Scaler) string {
	t.Helper()
	data, err := os.ReadFile(scaler.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// eventually waits for a condition, which says in its error what it still
// lacks.
func (s *site) eventually(what string, condition func() error) {
	s.Helper()
	eventually(s.T, patience, what, condition)
}

func eventually(t *testing.T, within time.Duration, what string, condition func() error) {
	t.Helper()
	await.Until(t, within, what, condition)
}

// pause lets the real system go on for so long.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}

func secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	found, err := secretOf(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func secretOf(ctx context.Context, name string) (*corev1.Secret, error) {
	found := &corev1.Secret{}
	return found, shared.Client.Get(ctx, types.NamespacedName{Namespace: stack.Namespace, Name: name}, found)
}

// write sets the data of a Secret, whether it is there or not.
func write(t *testing.T, name string, data certs.Data) {
	t.Helper()
	object, err := secretOf(t.Context(), name)
	object.Namespace, object.Name, object.Data = stack.Namespace, name, data
	switch {
	case apierrors.IsNotFound(err):
		err = shared.Client.Create(t.Context(), object)
	case err == nil:
		object.ResourceVersion = "" // whoever else writes meanwhile
		err = shared.Client.Update(t.Context(), object)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		object := &corev1.Secret{}
		object.Namespace, object.Name = stack.Namespace, name
		if err := client.IgnoreNotFound(shared.Client.Delete(t.Context(), object)); err != nil {
			t.Fatal(err)
		}
	}
}
