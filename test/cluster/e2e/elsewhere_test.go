package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// told is within what time it has to be told that KEDA doesn't ask.
const toldWithin = 5*time.Minute + 20*time.Second

// apart is a cluster of its own with KEDA in namespace keda and the scaler in
// kaito-workspace, behind one address.
type apart struct {
	*testing.T
	stack  *stack.Stack
	front  *stack.Front
	scaler *stack.Scaler
	leave  context.CancelFunc
	follow sync.WaitGroup
}

var phi4Key = types.NamespacedName{Namespace: "default", Name: "phi-4"}

// install runs a scaler with these flags, and then takes away the one before, as a
// rolling upgrade does.
func (a *apart) install(name string, args ...string) {
	a.Helper()
	scaler, err := a.stack.StartScaler(a.Context(), name, append(args, "--scaler-address="+a.front.Address())...)
	if err != nil {
		a.Fatal(err)
	}
	ctx, leave := context.WithCancel(context.WithoutCancel(a.Context()))
	a.follow.Go(func() { _ = a.front.Follow(ctx, scaler) })
	if err := a.stack.AwaitReady(a.Context(), scaler); err != nil {
		a.Fatal(err)
	}
	a.remove()
	a.scaler, a.leave = scaler, leave
}

func (a *apart) remove() {
	a.Helper()
	if a.scaler == nil {
		return
	}
	if err := a.scaler.Stop(20 * time.Second); err != nil {
		a.Errorf("the scaler ends with %v\n%s", err, a.scaler.Tail(20))
	}
	a.leave()
	a.scaler = nil
}

// until waits for a condition, which says in its error what it still lacks.
func (a *apart) until(what string, within time.Duration, condition func() error) {
	a.Helper()
	began := time.Now()
	last := errors.New("not looked at")
	err := wait.PollUntilContextTimeout(a.Context(), 200*time.Millisecond, within, true, func(context.Context) (bool, error) {
		last = condition()
		return last == nil, nil
	})
	if err != nil {
		a.Fatalf("%s: not within %s: %v\n%s", what, within, last, a.scaler.Tail(30))
	}
	a.Logf("%s after %s", what, time.Since(began).Round(time.Second))
}

// told waits for an event on the InferenceSet with all these words.
func (a *apart) told(within time.Duration, reason string, words ...string) {
	a.Helper()
	a.until("event "+reason, within, func() error {
		var list eventsv1.EventList
		if err := a.stack.Client.List(a.Context(), &list, client.InNamespace(phi4Key.Namespace)); err != nil {
			return err
		}
		found := "none"
		for i := range list.Items {
			if list.Items[i].Reason != reason || list.Items[i].Regarding.Kind != "InferenceSet" {
				continue
			}
			found = list.Items[i].Note
			missing := 0
			for _, word := range words {
				if !strings.Contains(found, word) {
					missing++
				}
			}
			if missing == 0 {
				a.Logf("%s: %s", reason, found)
				return nil
			}
		}
		return fmt.Errorf("the event is %q, want %q", found, words)
	})
}

// unasked waits for the metric that an alert looks at.
func (a *apart) unasked(want string) {
	a.Helper()
	a.until("the metric is "+want, patience, func() error {
		request, err := http.NewRequestWithContext(a.Context(), http.MethodGet, "http://"+a.scaler.Metrics+"/metrics", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err == nil && !strings.Contains(string(text), "\nkeda_kaito_scaler_unasked_scaledobjects "+want+"\n") {
			err = errors.New("it isn't")
		}
		return err
	})
}

func (a *apart) desired(n int64) {
	a.Helper()
	a.until(fmt.Sprintf("%d replicas are desired", n), patience, func() error {
		u := (&set{T: a.T, namespace: phi4Key.Namespace, name: phi4Key.Name}).object()
		if err := a.stack.Client.Get(a.Context(), phi4Key, u); err != nil {
			return err
		}
		got, _, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
		if err == nil && got != n {
			err = fmt.Errorf("%d are", got)
		}
		return err
	})
}

// says logs what KEDA says of the ScaledObject.
func (a *apart) says() {
	a.Helper()
	so := &kedav1alpha1.ScaledObject{}
	if err := a.stack.Client.Get(a.Context(), phi4Key, so); err != nil {
		a.Fatal(err)
	}
	for _, c := range so.Status.Conditions {
		a.Logf("ScaledObject %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
	}
}

// keda is the Secret that KEDA reads.
func (a *apart) keda() error {
	key := types.NamespacedName{Namespace: stack.Namespace, Name: "keda-kaito-scaler-client-certs"}
	return a.stack.Client.Get(a.Context(), key, &corev1.Secret{})
}

// newApart is such a cluster, with no scaler yet.
func newApart(t *testing.T) *apart {
	t.Helper()
	apartStack, err := stack.Start(t.Context(), stack.Options{
		HPASync: 2 * time.Second, ScalerNamespace: "kaito-workspace", NoScaler: true, Race: raceDetector, Oldest: oldest,
		KAITO:      kaito.Options{Startup: quick, Termination: time.Second},
		ScalerArgs: []string{"--scrape-interval=1s", "--scrape-timeout=900ms"},
	})
	if err != nil {
		t.Fatal(err)
	}
	front, err := stack.NewFront(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := &apart{T: t, stack: apartStack, front: front}
	t.Cleanup(func() {
		a.remove()
		a.follow.Wait()
		front.Close()
		if err := apartStack.Stop(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// fleet makes an InferenceSet that scales at once.
func (a *apart) fleet() {
	a.Helper()
	object := phi4()
	annotations := object.GetAnnotations()
	annotations["scaledobject.kaito.sh/downguard"] = "false"
	annotations["scaledobject.kaito.sh/evaluationwindow"] = "0"
	object.SetAnnotations(annotations)
	if err := a.stack.Client.Create(a.Context(), object); err != nil {
		a.Fatal(err)
	}
	if err := a.stack.KAITO.AwaitReady(a.Context(), phi4Key.Namespace, phi4Key.Name, 1); err != nil {
		a.Fatal(err)
	}
	a.until("the ScaledObject", patience, func() error {
		return a.stack.Client.Get(a.Context(), phi4Key, &kedav1alpha1.ScaledObject{})
	})
}

func (a *apart) queueEach(waiting int) {
	for _, pod := range a.stack.KAITO.Serving(phi4Key.Namespace, phi4Key.Name) {
		pod.SetWaiting(waiting)
	}
}

// The scaler is installed where KAITO's documentation has it, in kaito-workspace,
// and KEDA in keda. Told nothing of that, the scaler tells the InferenceSet's owner
// within five minutes why nothing scales it; told where KEDA is, it scales.
func TestKEDAInAnotherNamespace(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	// In a namespace that there isn't, or where it has no right, it can't write KEDA's
	// certificate: it is ready, and ScaledObjects are written, all the same.
	a.install("told-nonsense", "--keda-namespace=nowhere")
	a.unasked("0")
	a.fleet()
	if log := a.scaler.Tail(100); !strings.Contains(log, "can't keep the certificates") || !strings.Contains(log, "Secret nowhere/keda-kaito-scaler-client-certs") {
		t.Errorf("the log doesn't tell of the Secret that can't be written:\n%s", log)
	}

	a.install("told-nothing")
	a.told(toldWithin, "NotAskedByKEDA", "KEDA has not asked for this InferenceSet since 20", ", when ScaledObject phi-4 was made",
		"KEDA finds no Secret keda-kaito-scaler-client-certs if it doesn't run in namespace kaito-workspace")
	a.says()
	a.unasked("1")
	if err := a.keda(); err == nil {
		t.Error("KEDA's certificate is in its namespace: this shows nothing")
	}

	a.install("told-where-KEDA-is", "--keda-namespace="+stack.Namespace)
	a.until("KEDA's certificate in its namespace", patience, a.keda)
	if oldest {
		a.restart("keda-operator") // which keeps the connection of before, as the event says
	}
	a.queueEach(15)
	a.desired(2)
	a.unasked("0")
}

// That KEDA asks another replica of the scaler is known by what it notes in the
// ScaledObject at each poll that is answered.
func TestKEDANotesEachPollThatIsAnswered(t *testing.T) {
	t.Parallel()
	s := apply(t, brisk())
	s.awaitReady(1)
	s.published("0")
	var last time.Time
	for range 3 {
		s.eventually("lastActiveTime moves on", func() error {
			so, err := s.scaledObject()
			switch {
			case err != nil:
				return err
			case so.Status.LastActiveTime == nil:
				return errors.New("there is none")
			case !so.Status.LastActiveTime.After(last):
				return fmt.Errorf("it is %s still", last)
			}
			last = so.Status.LastActiveTime.Time
			return nil
		})
	}
}

func (a *apart) restart(component string) {
	a.Helper()
	p := a.stack.Process(component)
	if err := p.Kill(); err != nil {
		a.Fatal(err)
	}
	if err := a.stack.Again(a.Context(), p); err != nil {
		a.Fatal(err)
	}
}
