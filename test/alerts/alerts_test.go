package alerts

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/apimachinery/pkg/types"
)

var (
	threshold = map[string]string{"threshold": "10", "max-replicas": "4"}
	automatic = map[string]string{"max-replicas": "2"}
	list      = map[string]string{
		"max-replicas": "4", "metrics": `[{"name": "vllm:num_requests_waiting", "type": "gauge", "upthreshold": 10, "downthreshold": 1}]`,
	}
)

// usual is a cluster in which all is well: two InferenceSets of one name, one
// of another, and two replicas of the scaler.
func usual(w *world) {
	w.inferenceSet("team-a", "phi-4", 2, threshold)
	w.inferenceSet("team-b", "phi-4", 2, automatic)
	w.inferenceSet("team-b", "qwen", 2, list)
	w.starts("scaler-a")
	w.starts("scaler-b")
	w.passes(5 * time.Minute)
}

// teamA is its InferenceSet.
func (w *world) teamA() *inferenceSet {
	return w.sets[types.NamespacedName{Namespace: "team-a", Name: "phi-4"}]
}

// set changes an InferenceSet.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// Whatever a healthy cluster goes through, nobody is woken.
func TestAHealthyScalerIsSilent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		story func(w *world)
	}{
		{"two replicas for half an hour", func(w *world) { usual(w); w.passes(25 * time.Minute) }},
		{"a new installation with nothing to scale", func(w *world) {
			w.starts("scaler-a")
			w.starts("scaler-b")
			w.passes(30 * time.Minute)
		}},
		{"the first pods of the scaler take five minutes", func(w *world) {
			w.passes(5 * time.Minute)
			usual(w)
		}},
		{"load comes and goes, and replicas with it", func(w *world) {
			usual(w)
			for range 2 {
				w.set(func() { w.teamA().waiting = []float64{30, 20} })
				w.passes(5 * time.Minute)
				w.set(func() { w.teamA().waiting, w.teamA().desired = []float64{15, 15, 15, 0}, 4 })
				w.passes(5 * time.Minute)
				w.set(func() { w.teamA().waiting, w.teamA().desired = []float64{0, 0}, 2 })
				w.passes(10 * time.Minute)
			}
		}},
		{"a fleet at its limit that has what it needs", func(w *world) {
			usual(w)
			w.set(func() { w.teamA().waiting, w.teamA().desired = []float64{10, 10, 10, 10}, 4 })
			w.passes(25 * time.Minute)
		}},
		{"the first replica of an InferenceSet starts for 25 minutes", func(w *world) {
			usual(w)
			w.set(func() { w.teamA().starting, w.teamA().waiting, w.teamA().desired = time.Now(), nil, 1 })
			w.passes(25 * time.Minute)
		}},
		{"one upgrade after another", func(w *world) {
			usual(w)
			for i, pods := 0, []string{"scaler-a", "scaler-b"}; i < 4; i++ {
				next := "scaler-" + string(rune('c'+i))
				w.starts(next)
				w.passes(30 * time.Second)
				w.stops(pods[0])
				pods = append(pods[1:], next)
				w.passes(6 * time.Minute)
			}
		}},
		{"an installation with a single replica is upgraded", func(w *world) {
			w.inferenceSet("team-a", "phi-4", 2, threshold)
			w.starts("scaler-a")
			w.passes(20 * time.Minute)
			w.stops("scaler-a")
			w.passes(3 * time.Minute)
			w.starts("scaler-b")
			w.passes(20 * time.Minute)
		}},
		{"an InferenceSet is deleted, and its ScaledObject a minute later", func(w *world) {
			usual(w)
			key := types.NamespacedName{Namespace: "team-b", Name: "qwen"}
			w.set(func() { w.sets[key].deleted = true })
			w.passes(time.Minute)
			w.set(func() { delete(w.sets, key) })
			w.passes(25 * time.Minute)
		}},
		{"a ScaledObject is paused", func(w *world) {
			usual(w)
			w.set(func() { w.teamA().paused = true })
			w.passes(25 * time.Minute)
		}},
		{"a ScaledObject is paused because its pods can't be read", func(w *world) {
			usual(w)
			w.set(func() { w.teamA().hung = true })
			w.passes(2 * time.Minute)
			w.set(func() { w.teamA().paused = true })
			w.passes(10 * time.Minute)
		}},
		{"certificates of an hour are renewed when a third of it is left", func(w *world) {
			renew := func() {
				for name := range w.certificates {
					w.certificates[name] = life{time.Now().Add(-2 * time.Hour), time.Now().Add(time.Hour)}
				}
			}
			renew()
			w.starts("scaler-a")
			w.passes(40 * time.Minute)
			renew()
			w.passes(40 * time.Minute)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, from, to := live(t, tt.story)
			for _, rule := range theAlerts(t) {
				if got := server.alerts(t, rule, from, to); len(got) > 0 {
					t.Errorf("fired:%s", text(got))
				}
			}
		})
	}
}

// stories are of what an alert is for: breaks breaks it, and mends mends it.
var stories = []struct {
	alert         string
	name          string
	breaks, mends func(w *world)
	// want is the summary.
	want string
	// also are other alerts that it may bring.
	also []string
}{
	{
		"KEDAKaitoScalerDown", "all replicas are gone",
		func(w *world) { w.stops("scaler-a"); w.stops("scaler-b") },
		func(w *world) { w.starts("scaler-c") },
		"no replica of keda-kaito-scaler is seen: InferenceSets keep their replicas, whatever their load", nil,
	},
	{
		"KEDAKaitoScalerWithoutLeader", "no replica gets the Lease",
		func(w *world) { w.leader.set("") }, func(w *world) { w.leader.set("scaler-b") },
		"no replica of keda-kaito-scaler leads: no ScaledObject is written and no certificate renewed", nil,
	},
	{
		"KEDADoesNotAsk", "KEDA's operator is gone",
		func(w *world) { w.kedaAway = true }, func(w *world) { w.kedaAway = false },
		"KEDA doesn't ask for 3 ScaledObjects: nothing scales their InferenceSets", nil,
	},
	{
		"InferenceSetLoadUnknown", "no pod can be read",
		func(w *world) { w.teamA().hung = true }, func(w *world) { w.teamA().hung = false },
		"no pod of team-a/phi-4 can be read: it keeps its replicas, whatever its load", nil,
	},
	{
		"KEDAKaitoScalerCannotReadPods", "a replica of the scaler has no more descriptors",
		func(w *world) {
			w.edit = func(pod string, page []*dto.MetricFamily) {
				if pod == "scaler-b" {
					raise(w.T, page, "keda_kaito_scaler_scrape_unreadable_targets", "local", 7)
				}
			}
		},
		func(w *world) { w.edit = nil },
		"scaler-b lacks file descriptors, ports, memory or a right of its own to read inference pods", nil,
	},
	{
		"InferenceSetReplicaStuck", "a replica gets no node",
		func(w *world) { w.teamA().broken = true }, func(w *world) { w.teamA().broken = false },
		"1 replicas of team-a/phi-4 are ordered, perhaps paid for, and don't serve", nil,
	},
	{
		"InferenceSetMetricMissing", "the pods' version has another metric",
		func(w *world) { w.teamA().renamed = true }, func(w *world) { w.teamA().renamed = false },
		"team-a/phi-4 is scaled by 1 metrics that its pods don't have",
		[]string{"InferenceSetLoadUnknown"},
	},
	{
		"InferenceSetAtItsLimit", "the queue asks for more than the maximum",
		func(w *world) { w.teamA().waiting, w.teamA().desired = []float64{20, 20, 20, 20}, 4 },
		func(w *world) { w.teamA().waiting = []float64{1, 1, 1, 1} },
		"team-a/phi-4 needs 8 replicas, more than its maximum", nil,
	},
	{
		"InferenceSetAtItsLimit", "a metric list asks for one more than the maximum",
		func(w *world) {
			set := w.sets[types.NamespacedName{Namespace: "team-b", Name: "qwen"}]
			set.waiting, set.desired = []float64{20, 20, 20, 20}, 4
		},
		func(w *world) {
			w.sets[types.NamespacedName{Namespace: "team-b", Name: "qwen"}].waiting = []float64{5, 5, 5, 5}
		},
		"team-b/qwen needs 5 replicas, more than its maximum", nil,
	},
	{
		"InferenceSetAtItsLimit", "automatic mode estimates more than the maximum",
		func(w *world) {
			w.sets[types.NamespacedName{Namespace: "team-b", Name: "phi-4"}].rate = 14
		},
		func(w *world) {
			w.sets[types.NamespacedName{Namespace: "team-b", Name: "phi-4"}].rate = .2
		},
		"team-b/phi-4 needs 3 replicas, more than its maximum", nil,
	},
	{
		"InferenceSetScalingRefused", "annotations that were right are changed for wrong ones",
		func(w *world) { w.provisioned["outdated"] = 2 }, func(w *world) { w.provisioned["outdated"] = 0 },
		"2 InferenceSets are not scaled as their annotations ask: outdated", nil,
	},
	{
		"InferenceSetScalingRefused", "somebody else scales it",
		func(w *world) { w.provisioned["conflicting"] = 1 }, func(w *world) { w.provisioned["conflicting"] = 0 },
		"1 InferenceSets are not scaled as their annotations ask: conflicting", nil,
	},
	{
		"InferenceSetProvisioningFailed", "an admission webhook refuses the ScaledObject",
		func(w *world) { w.provisioned["failed"] = 1 }, func(w *world) { w.provisioned["failed"] = 0 },
		"the ScaledObjects of 1 InferenceSets can't be written", nil,
	},
	{
		"KEDATriggerRefused", "a trigger by hand names an InferenceSet that isn't there",
		func(w *world) { w.teamA().deleted = true }, func(w *world) { w.teamA().deleted = false },
		"KEDA asks with triggers that get an error, NotFound: their ScaledObjects don't scale", nil,
	},
	{
		"KEDAKaitoScalerCertificateEnds", "the client's certificate isn't renewed",
		func(w *world) {
			w.certificates["client"] = life{time.Now().Add(-336 * 24 * time.Hour), time.Now().Add(29 * 24 * time.Hour)}
		},
		func(w *world) {
			w.certificates["client"] = life{time.Now(), time.Now().Add(365 * 24 * time.Hour)}
		},
		"the client certificate ends in 28d 23h 55m 0s and was not renewed", nil,
	},
	{
		"KEDAKaitoScalerCertificateEnds", "one replica doesn't load the server's",
		func(w *world) {
			w.edit = func(pod string, page []*dto.MetricFamily) {
				if pod == "scaler-b" {
					ends := float64(time.Now().Add(time.Hour).Unix())
					raise(w.T, page, "keda_kaito_scaler_certificate_expiry_timestamp_seconds", "server", ends)
				}
			}
		},
		func(w *world) { w.edit = nil },
		"the server certificate ends in 1h 0m 0s and was not renewed", nil,
	},
}

// raise sets the one series of a family that has a label of that value.
func raise(t *testing.T, page []*dto.MetricFamily, name, label string, to float64) {
	t.Helper()
	for _, family := range page {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, l := range metric.GetLabel() {
				if l.GetValue() == label {
					metric.Gauge, metric.Untyped = &dto.Gauge{Value: &to}, nil
					kind := dto.MetricType_GAUGE
					family.Type = &kind
					return
				}
			}
		}
	}
	t.Errorf("no page has %s of %s", name, label)
}

// What KEDA has never asked for has no series of its own.
func TestAKEDAThatNeverPolledIsCounted(t *testing.T) {
	server, from, to := live(t, func(w *world) {
		w.kedaAway = true
		usual(w)
		w.passes(10 * time.Minute)
	})
	for _, rule := range theAlerts(t) {
		got := server.alerts(t, rule, from, to)
		if fired := len(got) > 0; fired != (rule.Alert == "KEDADoesNotAsk") {
			t.Errorf("%s fired: %t%s", rule.Alert, fired, text(got))
		}
	}
}

// Each alert fires once what it is for has lasted for its time, names what it is
// about, brings no other alerts, and ends when it is mended.
func TestEachAlertFires(t *testing.T) {
	rules := theAlerts(t)
	told := map[string]bool{}
	for _, tt := range stories {
		told[tt.alert] = true
		t.Run(tt.alert+" when "+tt.name, func(t *testing.T) {
			rule, found := rules[tt.alert]
			if !found {
				t.Fatal("there is no such alert")
			}
			var broke, mended time.Time
			server, from, to := live(t, func(w *world) {
				usual(w)
				broke = time.Now()
				w.set(func() { tt.breaks(w) })
				w.passes(20 * time.Minute)
				mended = time.Now()
				w.set(func() { tt.mends(w) })
				w.passes(15 * time.Minute)
			})
			got := server.alerts(t, rule, from, to)
			var summaries []string
			for _, f := range got {
				summaries = append(summaries, f.summary)
			}
			if diff := cmp.Diff([]string{tt.want}, summaries); diff != "" {
				t.Fatalf("fired (-want +got):\n%s%s", diff, text(got))
			}
			// KEDA's four minutes, readings that stay fresh, and the scrapes themselves.
			const slack = 5 * time.Minute
			if after := got[0].first.Sub(broke); after < time.Duration(rule.For) || after > time.Duration(rule.For)+slack {
				t.Errorf("fired %s after it broke, for is %s", after, time.Duration(rule.For))
			}
			// A rate's window on top.
			if after := got[0].last.Sub(mended); after > 10*time.Minute+slack || after < -time.Minute {
				t.Errorf("ended %s after it was mended", after)
			}
			for _, other := range rules {
				if other.Alert == tt.alert || slices.Contains(tt.also, other.Alert) {
					continue
				}
				if got := server.alerts(t, other, from, to); len(got) > 0 {
					t.Errorf("fired too:%s", text(got))
				}
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if !told[name] {
			t.Errorf("no story has %s fire", name)
		}
	}
}
