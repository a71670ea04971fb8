package alerts

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc/status"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
	"github.com/kaito-project/keda-kaito-scaler/internal/scrape"
)

const (
	askEvery   = 15 * time.Second
	scrapePods = 5 * time.Second
	// connectionAge is when KEDA turns to another replica of the scaler.
	connectionAge = 5 * time.Minute
)

// world is a cluster in a bubble of time: InferenceSets with their pods, KEDA,
// replicas of the scaler with its real registry, and a Prometheus.
type world struct {
	*testing.T
	*server

	// mu guards the InferenceSets.
	mu   sync.Mutex
	sets map[types.NamespacedName]*inferenceSet
	// began is when the cluster did.
	began    time.Time
	replicas []*replica
	// asked is the replica that KEDA is connected with, at since.
	asked int
	since time.Time
	// kedaAway is set while KEDA asks nobody.
	kedaAway bool
	// leader is the pod that leads, "" if none does.
	leader name
	// provisioned are InferenceSets by what became of them, on the leader's page.
	provisioned map[string]int
	// certificates are on the page of the leader, but for the server's, which is
	// on each replica's.
	certificates map[string]life
	// edit changes what a pod's page says, nil for nothing.
	edit func(pod string, page []*dto.MetricFamily)
}

// life is a certificate's.
type life struct{ begins, ends time.Time }

// inferenceSet is one with a ScaledObject.
type inferenceSet struct {
	desired int32
	// waiting are the requests that wait on each serving pod.
	waiting []float64
	// rate is of requests a second on each serving pod.
	rate float64
	// hung is set while its pods can't be read, renamed while they lack the
	// metrics, and broken while one more replica doesn't come.
	hung, renamed, broken bool
	pods                  map[int]*pod
	trigger               policy.Trigger
	// answered is set if KEDA was given a value the last time.
	answered bool
	metadata map[string]string
	paused   bool
	// deleted is set while nothing is read of it, though it is asked for.
	deleted bool
	// starting is since when another replica does.
	starting time.Time
}

// replica is one of the scaler's.
type replica struct {
	pod        string
	registry   *prometheus.Registry
	service    *scaler.Service
	observer   *scaler.Observer
	evaluation *scaler.EvaluationLoop
	calls      map[string]int
	stop       context.CancelFunc
	running    sync.WaitGroup
}

// name is a name that the scaler's goroutines read while a story changes it.
type name struct{ text atomic.Value }

func (n *name) get() string { text, _ := n.text.Load().(string); return text }

func (n *name) set(text string) { n.text.Store(text) }

// live has a cluster live through a story, and leaves what Prometheus has of it.
func live(t *testing.T, story func(w *world)) (p *server, from, to time.Time) {
	t.Helper()
	p = newServer(t)
	synctest.Test(t, func(t *testing.T) {
		from = time.Now()
		w := &world{
			T: t, server: p, sets: map[types.NamespacedName]*inferenceSet{}, began: from, since: from,
			provisioned: map[string]int{}, certificates: map[string]life{},
		}
		year := life{from.Add(-65 * 24 * time.Hour), from.Add(300 * 24 * time.Hour)}
		w.certificates["server"], w.certificates["client"] = year, year
		w.certificates["ca"] = life{year.begins, from.Add(9 * 365 * 24 * time.Hour)}
		story(w)
		for len(w.replicas) > 0 {
			w.stops(w.replicas[0].pod)
		}
		to = time.Now()
	})
	return p, from, to
}

// inferenceSet adds one that is scaled as its annotations say.
func (w *world) inferenceSet(namespace, name string, desired int32, annotations map[string]string) *inferenceSet {
	w.Helper()
	request := policy.Request{Name: name, Annotations: map[string]string{}}
	for key, value := range annotations {
		request.Annotations[policy.Prefix+key] = value
	}
	p, _, err := policy.Parse(request)
	if err != nil {
		w.Fatal(err)
	}
	set := &inferenceSet{desired: desired, rate: .2, pods: map[int]*pod{}, trigger: p.Trigger(namespace, name)}
	set.waiting = make([]float64, desired)
	set.trigger.ScaledObject = name
	set.metadata = set.trigger.Metadata("keda-kaito-scaler-svc.keda:10450")
	w.sets[types.NamespacedName{Namespace: namespace, Name: name}] = set
	w.provisioned["provisioned"]++
	return set
}

// starts starts a replica of the scaler, which leads if nobody does.
func (w *world) starts(pod string) {
	w.Helper()
	r := &replica{pod: pod, registry: prometheus.NewPedanticRegistry(), calls: map[string]int{}}
	scrape.New(scrape.Config{Registerer: r.registry})
	ready := func() bool { return true }
	metrics := scaler.NewMetrics(r.registry, w)
	r.evaluation = scaler.NewEvaluationLoop(w, ready, logr.Discard())
	notifier := &scaler.Notifier{
		Lookup:   func(types.NamespacedName) (runtime.Object, bool) { return &corev1.Pod{}, true },
		Recorder: events.NewFakeRecorder(10_000), Log: logr.Discard(), Leads: func() bool { return w.leader.get() == pod }, Metrics: metrics,
	}
	r.observer = scaler.NewObserver(w, r.evaluation, w, notifier, metrics, ready)
	r.service = &scaler.Service{Fleets: w, Recommender: r.evaluation, Observer: r.observer, Metrics: metrics, OnCall: r.observer.OnCall, ScaledObjects: w, Started: ready}
	r.registry.MustRegister(r.observer.UnpolledMetric())
	for key, set := range w.sets {
		r.observer.SetTriggers(key, []policy.Trigger{set.trigger})
		r.evaluation.SetTriggers(key, []policy.Trigger{set.trigger})
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(w.Context())
	r.running.Go(func() { _ = r.observer.Run(ctx) })
	r.running.Go(func() { _ = r.evaluation.Run(ctx) })
	w.replicas = append(w.replicas, r)
	if w.leader.get() == "" {
		w.leader.set(pod)
	}
}

// stops ends one. Another one leads from then on.
func (w *world) stops(pod string) {
	i := slices.IndexFunc(w.replicas, func(r *replica) bool { return r.pod == pod })
	r := w.replicas[i]
	r.stop()
	r.running.Wait()
	w.gone(pod, time.Now())
	w.replicas = slices.Delete(w.replicas, i, i+1)
	if w.leader.get() == pod {
		w.leader.set("")
		if len(w.replicas) > 0 {
			w.leader.set(w.replicas[0].pod)
		}
	}
}

// passes lets time pass.
func (w *world) passes(d time.Duration) {
	w.Helper()
	for range d / askEvery {
		if len(w.replicas) > 0 && !w.kedaAway {
			w.asks()
		}
		if now := time.Now(); now.Sub(w.began)%scrapeEvery == 0 {
			for _, r := range w.replicas {
				w.scrape(w.T, r.pod, now, w.page(r))
			}
		}
		time.Sleep(askEvery)
	}
}

// asks has KEDA ask about each InferenceSet, whichever replica it is connected with.
func (w *world) asks() {
	if time.Since(w.since) >= connectionAge || w.asked >= len(w.replicas) {
		w.asked, w.since = (w.asked+1)%len(w.replicas), time.Now()
	}
	r := w.replicas[w.asked]
	for key, set := range w.sets {
		if set.paused {
			continue
		}
		metric, _ := set.trigger.Published()
		_, err := r.service.GetMetrics(w.Context(), &pb.GetMetricsRequest{
			MetricName: metric, ScaledObjectRef: &pb.ScaledObjectRef{Name: key.Name, Namespace: key.Namespace, ScalerMetadata: set.metadata},
		})
		r.calls[status.Code(err).String()]++
		w.set(func() { set.answered = err == nil })
	}
}

// page is a replica's: what its registry has, and what is registered with a
// manager on a real one.
func (w *world) page(r *replica) []*dto.MetricFamily {
	w.Helper()
	page, err := r.registry.Gather()
	if err != nil {
		w.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	more, err := parser.TextToMetricFamilies(bytes.NewBufferString(w.managed(r)))
	if err != nil {
		w.Fatal(err)
	}
	page = slices.AppendSeq(page, maps.Values(more))
	if w.edit != nil {
		w.edit(r.pod, page)
	}
	return page
}

// managed is the page of what is registered with a manager, in text.
func (w *world) managed(r *replica) string {
	var b strings.Builder
	leads := w.leader.get() == r.pod
	fmt.Fprintf(&b, "leader_election_master_status{name=\"keda-kaito-scaler\"} %d\n", map[bool]int{true: 1}[leads])
	for code, n := range r.calls {
		fmt.Fprintf(&b, "keda_kaito_scaler_grpc_requests_total{method=\"GetMetrics\",code=%q} %d\n", code, n)
	}
	for name, c := range w.certificates {
		if !leads && name != "server" {
			continue
		}
		fmt.Fprintf(&b, "keda_kaito_scaler_certificate_not_before_timestamp_seconds{certificate=%q} %d\n", name, c.begins.Unix())
		fmt.Fprintf(&b, "keda_kaito_scaler_certificate_expiry_timestamp_seconds{certificate=%q} %d\n", name, c.ends.Unix())
	}
	if leads {
		for _, state := range []string{"provisioned", "refused", "outdated", "conflicting", "failed"} {
			fmt.Fprintf(&b, "keda_kaito_scaler_provision_inferencesets{state=%q} %d\n", state, w.provisioned[state])
		}
	}
	// Families have their samples together.
	lines := slices.Sorted(strings.Lines(b.String()))
	return strings.Join(lines, "")
}

// ScaledObject implements scaler.ScaledObjects.
func (w *world) ScaledObject(_ context.Context, key types.NamespacedName) (*kedav1alpha1.ScaledObject, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	set, found := w.sets[key]
	if !found {
		return nil, false
	}
	object := &kedav1alpha1.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Annotations: map[string]string{}},
		Spec: kedav1alpha1.ScaledObjectSpec{Triggers: []kedav1alpha1.ScaleTriggers{
			{Type: "external", Metadata: set.metadata, MetricType: autoscalingv2.AverageValueMetricType},
		}},
		Status: kedav1alpha1.ScaledObjectStatus{HpaName: "keda-hpa-" + key.Name},
	}
	if set.paused {
		object.Annotations[kedav1alpha1.PausedAnnotation] = "true"
	}
	return object, true
}

// HPA implements scaler.ScaledObjects. KEDA deletes that of a paused ScaledObject.
func (w *world) HPA(_ context.Context, key types.NamespacedName) (*autoscalingv2.HorizontalPodAutoscaler, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key.Name = strings.TrimPrefix(key.Name, "keda-hpa-")
	set, found := w.sets[key]
	if !found || set.paused {
		return nil, false
	}
	active := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[set.answered && !w.kedaAway]
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	hpa.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: active}}
	return hpa, true
}

// Fleet implements scaler.Fleets.
func (w *world) Fleet(key types.NamespacedName, _ policy.Page) (sample.Fleet, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	set, found := w.sets[key]
	if !found || set.deleted {
		return sample.Fleet{}, false
	}
	now := time.Now()
	fleet := sample.Fleet{Desired: set.desired, Freshness: 15 * time.Second, Interval: 5 * time.Second, Grace: 10 * time.Minute}
	for i, waiting := range set.waiting {
		r := sample.Replica{
			Pod: fmt.Sprintf("%s-%d-0", key.Name, i), Phase: sample.Serving,
			Ordered: w.began.Add(-time.Hour), Expected: w.began.Add(-time.Hour), ReadySince: w.began.Add(-time.Hour),
		}
		if set.hung {
			r.Failure = "no answer"
		}
		set.reads(i, now, waiting)
		r.History = set.pods[i].history
		r.Last = r.History.Newest()
		fleet.Replicas = append(fleet.Replicas, r)
	}
	if !set.starting.IsZero() {
		fleet.Replicas = append(fleet.Replicas, sample.Replica{Pod: key.Name + "-starting", Phase: sample.Starting, Ordered: set.starting})
	}
	if set.broken {
		fleet.Replicas = append(fleet.Replicas, sample.Replica{
			Pod: key.Name + "-broken", Phase: sample.Broken, Ordered: w.began.Add(-time.Hour), Why: "no quota",
		})
	}
	return fleet, true
}

// pod is one's pages, and what it has done so far.
type pod struct {
	history sample.History
	// done are requests, spent the time between their tokens.
	done, spent float64
}

// reads adds the pages of a pod that are due, one every 5 s.
func (s *inferenceSet) reads(i int, now time.Time, waiting float64) {
	if s.pods[i] == nil {
		s.pods[i] = &pod{}
	}
	p := s.pods[i]
	at := now.Add(-100 * time.Second)
	if last := p.history.Newest(); last != nil {
		at = last.At.Add(scrapePods)
	}
	for ; !at.After(now); at = at.Add(scrapePods) {
		if !s.hung {
			n := s.rate * scrapePods.Seconds()
			p.done += n
			// Steps of 10 ms, and 64 ms of the replica's time for a request.
			p.spent += n * 99 * .01 / max(.02, 1-.064*s.rate)
			p.history.Add(s.sample(at, p.done, p.spent, waiting), 2*time.Minute)
		}
	}
}

// sample is a page once so many requests are done, with so much time between their tokens.
func (s *inferenceSet) sample(at time.Time, done, spent, waiting float64) *sample.Sample {
	if s.renamed {
		return sample.NewSample(at, []sample.Family{{Name: "other:requests", Kind: sample.Gauge, Sum: 1, Engines: 1}}, nil)
	}
	var families []sample.Family
	for name, value := range map[string]float64{
		policy.FamilyRunning: 5, policy.FamilyWaiting: waiting, policy.FamilyKV: .2,
		policy.FamilyFinished: done, policy.FamilyPrompt: 1000 * done, policy.FamilyGenerated: 100 * done,
	} {
		families = append(families, sample.Family{Name: name, Sum: value, Engines: 1})
	}
	for name, each := range map[string]float64{policy.FamilyTTFT: 1, policy.FamilyITL: 99} {
		n := each * done
		families = append(families, sample.Family{Name: name, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{.01, 2.5, math.Inf(1)}, Cumulative: []float64{n, n, n}, Sum: spent,
		}})
	}
	page := sample.NewSample(at, families, nil)
	page.ProcessStart = 1
	return page
}
