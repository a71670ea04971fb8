package scaler

import (
	"context"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
)

// Metrics are the service's own: the newest verdict on each InferenceSet that
// KEDA asks about, and the calls. Its zero value and nil count nothing.
//
// Verdicts are collected from memory, so the series of an InferenceSet end with
// it. Their labels are the InferenceSet's and the metric's names.
type Metrics struct {
	// fleets knows which InferenceSets are still there.
	fleets Fleets

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec

	// mu guards last and pruned.
	mu     sync.Mutex
	last   map[Subject]answered
	pruned time.Time
}

// answered is a verdict and when it was given.
type answered struct {
	at      time.Time
	verdict decision.Verdict
}

const (
	// maxSubjects bounds the series, at some 20 for each: ten times the
	// InferenceSets of a large cluster.
	maxSubjects = 20_000
	// superseded is when a subject is dropped while others of its InferenceSet
	// are asked for: the metric or the threshold was changed. KEDA asks every
	// 15 s.
	superseded = 2 * time.Minute
)

// NewMetrics makes the metrics and registers them.
func NewMetrics(registry prometheus.Registerer, fleets Fleets) *Metrics {
	m := &Metrics{
		fleets: fleets,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keda_kaito_scaler_grpc_requests_total",
			Help: "Calls by KEDA that were answered, by method and gRPC code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keda_kaito_scaler_grpc_request_duration_seconds",
			Help:    "How long KEDA's calls took to answer, by method.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"method"}),
		last: map[Subject]answered{},
	}
	registry.MustRegister(m.requests, m.duration, m)
	return m
}

func (m *Metrics) heard(subject Subject, verdict decision.Verdict) {
	if m == nil {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	// Collecting prunes too, but perhaps nobody collects.
	if _, known := m.last[subject]; !known && len(m.last) >= maxSubjects {
		if now.Sub(m.pruned) > time.Minute {
			m.prune(now)
		}
		if len(m.last) >= maxSubjects {
			return
		}
	}
	m.last[subject] = answered{now, verdict}
}

// prune drops what nobody asks about any more. It needs mu.
func (m *Metrics) prune(now time.Time) {
	m.pruned = now
	newest := map[types.NamespacedName]time.Time{}
	for subject, a := range m.last {
		if a.at.After(newest[subject.InferenceSet]) {
			newest[subject.InferenceSet] = a.at
		}
	}
	for subject, a := range m.last {
		if now.Sub(a.at) > forgetAfter || newest[subject.InferenceSet].Sub(a.at) > superseded {
			delete(m.last, subject)
		}
	}
}

func (m *Metrics) observe(method string, err error, began time.Time) {
	method = path.Base(method)
	m.requests.WithLabelValues(method, status.Code(err).String()).Inc()
	m.duration.WithLabelValues(method).Observe(time.Since(began).Seconds())
}

// unary counts a call. Calls to methods that don't exist never come here, so
// that the methods are KEDA's few.
func (m *Metrics) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if m == nil {
		return handler(ctx, req)
	}
	began := time.Now()
	response, err := handler(ctx, req)
	m.observe(info.FullMethod, err, began)
	return response, err
}

func (m *Metrics) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if m == nil {
		return handler(service, stream)
	}
	began := time.Now()
	err := handler(service, stream)
	m.observe(info.FullMethod, err, began)
	return err
}

var ofSubject = []string{"namespace", "inferenceset", "metric"}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, slices.Concat(ofSubject, labels), nil)
}

// The metrics of a verdict.
var (
	publishedValue = describe("keda_kaito_scaler_published_value",
		"What KEDA was told last; absent when it was told an error.")
	targetValue = describe("keda_kaito_scaler_target_value",
		"What the HPA compares the published value with, for each replica.")
	desiredReplicas = describe("keda_kaito_scaler_desired_replicas",
		"The InferenceSet's spec.replicas.")
	wantedReplicas = describe("keda_kaito_scaler_wanted_replicas",
		"What the HPA makes of the published value within the bounds, before its windows and its pace.")
	verdictAnswer = describe("keda_kaito_scaler_verdict",
		"1 for what the verdict rests on: answer is unknown, measured, bounded or held.", "answer")
	verdictDirection = describe("keda_kaito_scaler_verdict_direction",
		"1 if the verdict is more replicas, -1 if fewer, else 0.")
	replicasByState = describe("keda_kaito_scaler_replicas",
		"Replicas by state: starting, readable, unreadable, terminating or broken. Those that serve are readable or not.", "state")
	stuckReplicas = describe("keda_kaito_scaler_stuck_replicas",
		"Replicas that are broken, or have been starting for over 30 minutes.")
	asleepReplicas = describe("keda_kaito_scaler_asleep_replicas",
		"Serving replicas whose engine sleeps.")
	missingMetrics = describe("keda_kaito_scaler_missing_metrics",
		"Metrics asked for that no serving replica's page has.")
	demandReplicas = describe("keda_kaito_scaler_demand_replicas",
		"The load in replicas that are filled as far as is safe; for saturation and guarded queues.")
	neededReplicas = describe("keda_kaito_scaler_needed_replicas",
		"The demand with what waits and what it is expected to grow, before rounding and bounds.")
	safeLoad = describe("keda_kaito_scaler_safe_load_ratio",
		"The share of its time that a replica can give to tokens while latencies are as promised, as learned.")
	coldStart = describe("keda_kaito_scaler_cold_start_seconds",
		"How long a replica takes from its order to serving, as learned.")
	learning = describe("keda_kaito_scaler_learning",
		"1 until enough was seen to go by more than the prior.")
	lastAnswer = describe("keda_kaito_scaler_last_answer_timestamp_seconds",
		"When KEDA asked last, in seconds since the epoch.")
)

// Describe implements prometheus.Collector.
func (*Metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		publishedValue, targetValue, desiredReplicas, wantedReplicas, verdictAnswer, verdictDirection,
		replicasByState, stuckReplicas, asleepReplicas, missingMetrics, lastAnswer,
		demandReplicas, neededReplicas, safeLoad, coldStart, learning,
	} {
		descs <- d
	}
}

// series is what tells a subject's series from another's.
type series struct {
	types.NamespacedName
	metric string
}

// Collect implements prometheus.Collector. Subjects with one metric, such as
// gates at two thresholds, show the one that was asked about last.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	m.prune(time.Now())
	newest := make(map[series]Subject, len(m.last))
	for subject, a := range m.last {
		s := series{subject.InferenceSet, subject.Metric}
		if other, found := newest[s]; !found || a.at.After(m.last[other].at) {
			newest[s] = subject
		}
	}
	verdicts := make(map[Subject]answered, len(newest))
	for _, subject := range newest {
		verdicts[subject] = m.last[subject]
	}
	m.mu.Unlock()
	for subject, a := range verdicts {
		if _, there := m.fleets.Fleet(subject.InferenceSet, subject.Page); there {
			collect(out, subject, a)
		}
	}
}

func collect(out chan<- prometheus.Metric, subject Subject, a answered) {
	v := a.verdict
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		labels = append([]string{subject.InferenceSet.Namespace, subject.InferenceSet.Name, subject.Metric}, labels...)
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	if v.Answer != decision.Unknown {
		send(publishedValue, v.Value)
	}
	send(targetValue, subject.Target)
	send(desiredReplicas, float64(v.Desired))
	send(wantedReplicas, float64(v.Replicas))
	for answer := decision.Unknown; answer <= decision.Held; answer++ {
		send(verdictAnswer, one(v.Answer == answer), answer.String())
	}
	send(verdictDirection, one(v.Replicas > v.Desired)-one(v.Replicas < v.Desired))
	states := map[string]int{"starting": 0, "readable": 0, "unreadable": len(v.Unreadable), "terminating": 0, "broken": 0}
	stuck, asleep := 0, 0
	for _, member := range v.Members {
		if member.Phase == decision.Serving {
			states["readable"]++
		} else {
			states[member.Phase.String()]++
		}
		if member.Stuck != "" {
			stuck++
		}
		if member.Asleep {
			asleep++
		}
	}
	states["readable"] -= len(v.Unreadable)
	for state, n := range states {
		send(replicasByState, float64(n), state)
	}
	send(stuckReplicas, float64(stuck))
	send(asleepReplicas, float64(asleep))
	send(missingMetrics, float64(len(v.Missing)))
	if load := v.Load; load != nil {
		send(demandReplicas, load.Demand)
		send(neededReplicas, load.Need)
		send(safeLoad, load.Safe)
		send(coldStart, load.ColdStart.Seconds())
		send(learning, one(load.Learning))
	}
	send(lastAnswer, float64(a.at.UnixMilli())/1000)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
