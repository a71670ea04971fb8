package scaler

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

// neverAsked is a cluster in which KEDA has not touched the ScaledObject.
func neverAsked(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	s.hpa = nil
	s.object.Status = kedav1alpha1.ScaledObjectStatus{}
	s.object.CreationTimestamp = metav1.Now()
	return s
}

// readyIs is a ScaledObject's condition Ready.
func readyIs(status metav1.ConditionStatus, reason, message string) kedav1alpha1.Conditions {
	return kedav1alpha1.Conditions{{Type: kedav1alpha1.ConditionReady, Status: status, Reason: reason, Message: message}}
}

// polls has KEDA poll another replica of the scaler every 30 s for so long, and
// note that in the ScaledObject.
func (s *stage) polls(d time.Duration) {
	s.Helper()
	for range d / (30 * time.Second) {
		s.set(func() { s.object.Status.LastActiveTime = new(metav1.Now()) })
		time.Sleep(30 * time.Second)
	}
}

// unasked is the metric of a replica.
func (r *replica) unasked() float64 {
	r.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.observer.UnpolledMetric())
	found, err := registry.Gather()
	if err != nil || len(found) != 1 {
		r.Fatalf("%v, %v", found, err)
	}
	return found[0].GetMetric()[0].GetGauge().GetValue()
}

func TestAKEDAThatNeverPolledIsReportedWithinFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := neverAsked(t)
		s.load(25)
		a, b := s.scaler("a"), s.scaler("b")
		defer s.ends()
		if a.unasked() != 0 {
			t.Error("the metric isn't there from the start, at 0")
		}
		time.Sleep(3*time.Minute + 50*time.Second)
		s.wants()
		time.Sleep(time.Minute)
		s.wants("a: NotAskedByKEDA: KEDA has not asked for this InferenceSet since 2000-01-01T00:00:00Z, when ScaledObject phi-4 was made: " +
			"KEDA has not looked at ScaledObject phi-4 at all. Either KEDA isn't running, or it doesn't watch namespace default")
		if a.unasked() != 1 || b.unasked() != 0 {
			t.Errorf("the metric is %g on the leader, %g on the other: want 1 and 0", a.unasked(), b.unasked())
		}
		time.Sleep(time.Hour)
		s.wants() // once

		// The next leader knows that it was told, and tells of the end.
		a.dies()
		b.leads()
		time.Sleep(10 * time.Minute)
		s.wants()
		if b.unasked() != 1 {
			t.Errorf("the metric is %g on the next leader", b.unasked())
		}
		s.set(func() { s.hpa = hpaThat(corev1.ConditionTrue, "") })
		time.Sleep(10 * time.Second)
		s.wants("b: AskedByKEDA: KEDA asks for this InferenceSet again", "b: "+up3)
		if b.unasked() != 0 {
			t.Errorf("the metric is %g while KEDA asks", b.unasked())
		}
	})
}

// KEDA did ask, and stops: the time is when it last did.
func TestAKEDAThatStopsPollingIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		a := s.scaler("a")
		defer s.ends()
		s.object.Status.Conditions = readyIs(metav1.ConditionTrue, "ScaledObjectReady", "")
		s.calls(a, 10*time.Minute) // until 00:09:45, and the HPA is content until 00:10:00
		s.set(func() { s.hpa = hpaThat(corev1.ConditionFalse, "no matching metrics") })
		time.Sleep(5 * time.Minute)
		seen := s.events()
		if len(seen) != 1 || !strings.HasPrefix(seen[0], "a: NotAskedByKEDA: KEDA has not asked for this InferenceSet since 2000-01-01T00:09:5") ||
			!strings.Contains(seen[0], `the HPA says: "no matching metrics". Is KEDA's operator running`) {
			t.Errorf("told %q", seen)
		}
		// One call to the leader is enough.
		s.calls(a, 15*time.Second)
		s.wants("a: AskedByKEDA: KEDA asks for this InferenceSet again")
	})
}

// Whatever looks like it: while KEDA asks, or has no reason to, it isn't told.
func TestPollsOfOtherReplicasCount(t *testing.T) {
	blind := func(s *stage) { s.hpa = hpaThat(corev1.ConditionFalse, "FailedGetExternalMetric") }
	for _, tt := range []struct {
		story  string
		change func(*stage)
		live   func(*stage)
	}{
		{"the HPA gets metrics from another replica", func(*stage) {}, nil},
		{"only KEDA's operator asks, and another replica", blind, func(s *stage) { s.polls(time.Hour) }},
		{"only KEDA's operator asks, and this replica", blind, func(s *stage) { s.calls(s.scalers["a"], time.Hour) }},
		{"it gets errors, which it asks for", func(s *stage) { blind(s); s.hung[0] = true }, nil},
		{"paused", func(s *stage) {
			s.hpa = nil
			s.object.Annotations = map[string]string{kedav1alpha1.PausedAnnotation: "true"}
		}, nil},
		{"paused at a number", func(s *stage) {
			s.hpa = nil
			s.object.Annotations = map[string]string{kedav1alpha1.PausedReplicasAnnotation: "2"}
		}, nil},
		{"about to be deleted", func(s *stage) { s.hpa = nil; s.object.DeletionTimestamp = &metav1.Time{Time: time.Now()} }, nil},
		{"no replicas are desired", func(s *stage) { blind(s); s.queue, s.desired = nil, 0 }, nil},
		{"another trigger of the ScaledObject fails", func(s *stage) {
			blind(s)
			s.object.Spec.Triggers = append(s.object.Spec.Triggers, kedav1alpha1.ScaleTriggers{Type: "prometheus"})
			s.object.Status.Conditions = readyIs(metav1.ConditionUnknown, "PartialTriggerError", "")
		}, nil},
		{"KEDA is upgraded", func(*stage) {}, func(s *stage) {
			for range 6 {
				s.set(func() { s.hpa = hpaThat(corev1.ConditionTrue, "") })
				time.Sleep(7 * time.Minute)
				s.set(func() { blind(s) })
				time.Sleep(3 * time.Minute)
			}
		}},
		{"the API server is away, and everything is old when it is back", func(*stage) {}, func(s *stage) {
			time.Sleep(time.Minute)
			s.set(func() { s.away = true })
			time.Sleep(time.Hour)
			s.set(func() { s.away = false; blind(s) })
			time.Sleep(3 * time.Minute)
			s.set(func() { s.hpa = hpaThat(corev1.ConditionTrue, "") })
		}},
		{"the scaler is replaced every few minutes", blind, func(s *stage) {
			for range 10 {
				time.Sleep(3 * time.Minute)
				s.scalers["a"].dies()
				s.scaler("a").leads()
			}
		}},
	} {
		t.Run(tt.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				s.load(8)
				tt.change(s)
				a := s.scaler("a")
				defer s.ends()
				if tt.live != nil {
					tt.live(s)
				} else {
					time.Sleep(time.Hour)
				}
				for _, told := range s.events() {
					if strings.Contains(told, "AskedByKEDA") {
						t.Errorf("told %s", told)
					}
				}
				if a.unasked() != 0 {
					t.Errorf("the metric is %g", a.unasked())
				}
			})
		})
	}
}

// What was paused begins anew when the pause ends.
func TestAfterAPauseKEDAHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := neverAsked(t)
		s.object.Annotations = map[string]string{kedav1alpha1.PausedAnnotation: "true"}
		s.scaler("a")
		defer s.ends()
		time.Sleep(time.Hour)
		s.set(func() { s.object.Annotations = nil })
		time.Sleep(3 * time.Minute)
		s.wants()
		time.Sleep(2 * time.Minute)
		if seen := s.events(); len(seen) != 1 {
			t.Errorf("told %q", seen)
		}
	})
}

// The metric counts what is there.
func TestAScaledObjectThatIsGoneIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := neverAsked(t)
		a := s.scaler("a")
		defer s.ends()
		time.Sleep(5 * time.Minute)
		if a.unasked() != 1 {
			t.Errorf("the metric is %g", a.unasked())
		}
		a.observer.SetTriggers(phi4, nil)
		if a.unasked() != 0 {
			t.Errorf("the metric is %g after its end", a.unasked())
		}
	})
}

func TestTheLikelyCauseOfSilence(t *testing.T) {
	const away = "KEDA finds no Secret client-certs if it doesn't run in namespace keda (--keda-namespace, keda.namespace in the chart); if it does, restart its operator"
	unready := func(message string) func(*stage) {
		return func(s *stage) {
			s.object.Status.Conditions = readyIs(metav1.ConditionFalse, "ScaledObjectCheckFailed", message)
		}
	}
	for _, tt := range []struct {
		story  string
		change func(*stage)
		keda   KEDA
		want   []string
	}{
		{"KEDA doesn't run", func(*stage) {}, KEDA{}, []string{"KEDA has not looked at ScaledObject phi-4 at all", "doesn't watch namespace default"}},
		{"the certificate can't be written", unready(""), KEDA{Trouble: func() string { return "secrets is forbidden" }}, []string{`isn't where KEDA would read it ("secrets is forbidden")`, "--keda-namespace"}},
		{"KEDA refuses the scaler", unready("failed to ensure HPA"), KEDA{Handshakes: after("remote error: tls: bad certificate")}, []string{"doesn't trust the scaler's certificate. " + away}},
		{"KEDA shows no certificate", unready("failed to ensure HPA"), KEDA{Handshakes: after("tls: client didn't provide a certificate")}, []string{"shows no certificate. " + away}},
		{"a trigger by hand without TLS", unready("x"), KEDA{Handshakes: after("first record does not look like a TLS handshake")}, []string{`enableTLS: "true"`, "ClusterTriggerAuthentication creds"}},
		{"an old certificate", unready("x"), KEDA{Handshakes: after("tls: failed to verify certificate: x509: certificate signed by unknown authority")}, []string{"shows a certificate that isn't the scaler's. " + away}},
		{"KEDA says so", unready("transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"), KEDA{}, []string{"KEDA says of ScaledObject phi-4: \"transport: authentication handshake", away}},
		{"it isn't reached", unready("dial tcp 10.0.0.1:10450: i/o timeout"), KEDA{}, []string{"i/o timeout", "a NetworkPolicy, or no ready pod behind its Service"}},
		{"nothing is said", unready("failed to ensure HPA is correctly created for ScaledObject"), KEDA{}, []string{"failed to ensure HPA", away, "Or a NetworkPolicy keeps KEDA from the scaler"}},
		{"a condition of many words", unready(strings.Repeat("word ", 400)), KEDA{}, []string{"word …", away}},
		{"ready, and no HPA", func(s *stage) { s.object.Status.Conditions = readyIs(metav1.ConditionTrue, "", "") }, KEDA{}, []string{"ready, but there is no HPA"}},
		{"an HPA that nobody looks at", func(s *stage) {
			s.object.Status.Conditions = readyIs(metav1.ConditionTrue, "", "")
			s.hpa = hpaThat("", "")
		}, KEDA{}, []string{"the HPA has no status", "kube-controller-manager"}},
		{"KEDA's operator is gone, says its metrics server", func(s *stage) {
			s.object.Status.Conditions = readyIs(metav1.ConditionTrue, "", "")
			s.hpa = hpaThat(corev1.ConditionFalse, "timeout while waiting to establish gRPC connection to KEDA Metrics Service server")
		}, KEDA{}, []string{"KEDA's operator isn't running"}},
		{"an HPA of many words", func(s *stage) {
			s.object.Status.Conditions = readyIs(metav1.ConditionTrue, "", "")
			s.hpa = hpaThat(corev1.ConditionFalse, "unable to get external metric default/s0-vllm:num_requests_waiting/"+strings.Repeat("&LabelSelector{} ", 20)+
				": unable to fetch metrics from external metrics API: the server is currently unable to handle the request")
		}, KEDA{}, []string{`the HPA says: "the server is currently unable to handle the request"`, "Is KEDA's operator running, and its metrics server?"}},
		{"KEDA's operator gets no answer", func(s *stage) {
			s.object.Status.Conditions = readyIs(metav1.ConditionTrue, "", "")
			s.hpa = hpaThat(corev1.ConditionFalse, "metric:s0-vllm:num_requests_waiting encountered error")
		}, KEDA{}, []string{away, "Or a NetworkPolicy"}},
		{"KEDA's metrics server is gone too", func(s *stage) {
			s.object.Status.Conditions = readyIs(metav1.ConditionTrue, "", "")
			s.hpa = hpaThat(corev1.ConditionFalse, "unable to fetch metrics from external metrics API")
		}, KEDA{}, []string{"the HPA says: \"unable to fetch", "Is KEDA's operator running"}},
	} {
		t.Run(tt.story, func(t *testing.T) {
			s := neverAsked(t)
			tt.change(s)
			tt.keda.Namespace, tt.keda.Secret, tt.keda.Authentication = "keda", "client-certs", "creds"
			got := tt.keda.whyNoPolls(s.object, s.hpa)
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("it is %q, want %q", got, want)
				}
			}
			if len(got) > kube.MaxNote-100 {
				t.Errorf("%d bytes are too long for an event: %s", len(got), got)
			}
		})
	}
}

// after are handshakes of which the newest failed so.
func after(text string) *Handshakes {
	h := &Handshakes{}
	if strings.HasPrefix(text, "first record") {
		h.recordFailure(tls.RecordHeaderError{Msg: text})
	} else {
		h.recordFailure(errors.New(text))
	}
	return h
}

func TestAHandshakeThatSaysNothingIsNoCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := after("EOF")
		h.recordFailure(fmt.Errorf("read: %w", errors.New("connection reset by peer")))
		if got := h.lastFailure(time.Minute); got != "" {
			t.Errorf("it is %q", got)
		}
		h.recordFailure(fmt.Errorf("handshake: %w", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}))
		if got := h.lastFailure(time.Minute); got != "a client that calls doesn't use TLS" {
			t.Errorf("it is %q", got)
		}
		time.Sleep(2 * time.Minute)
		if got := h.lastFailure(time.Minute); got != "" {
			t.Errorf("it is still %q", got)
		}
		(*Handshakes)(nil).recordFailure(errors.New("tls: client didn't provide a certificate"))
		if got := (*Handshakes)(nil).lastFailure(time.Minute); got != "" {
			t.Errorf("nobody's is %q", got)
		}
	})
}

// Every call counts as asking, whatever it is answered.
func TestEachCallIsNoted(t *testing.T) {
	var asked []ScaledObjectRef
	s, _ := service(fleets{}) // which knows no InferenceSet: an error
	s.OnCall = func(of ScaledObjectRef) { asked = append(asked, of) }
	_, _ = s.GetMetricSpec(t.Context(), trigger())
	_, _ = s.IsActive(t.Context(), trigger())
	_, _ = ask(t, s, trigger())
	if len(asked) != 3 || asked[0] != (ScaledObjectRef{phi4, trigger().GetName()}) {
		t.Errorf("noted %v", asked)
	}
}
