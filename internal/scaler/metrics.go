package scaler

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Metrics are the service's own: the newest recommendation on each InferenceSet that
// KEDA asks about, and the calls. Its zero value and nil count nothing.
//
// Recommendations are collected from memory, so the series of an InferenceSet end with
// it, and those of a trigger with that. Their labels are the InferenceSet's and
// the metric's names, and a digest where triggers share the metric.
type Metrics struct {
	// fleets knows which InferenceSets are still there.
	fleets Fleets

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	limits   *prometheus.CounterVec

	// mu guards last and size.
	mu     sync.Mutex
	newest map[types.NamespacedName]map[TriggerID]lastRecommendation
	// size is the number of subjects in last.
	size   int
	pruned time.Time
}

// lastRecommendation is the newest recommendation, and when one was last given to KEDA.
type lastRecommendation struct {
	at             time.Time
	recommendation decision.Recommendation
}

const (
	// maxSubjects bounds the series, at some 20 for each: ten times the
	// InferenceSets of a large cluster.
	maxSubjects = 20_000
	// maxTriggers bounds those of one InferenceSet, so that no owner's triggers
	// take the series of another's.
	maxTriggers = 18
	// replacedAfter is when a subject is dropped while others of its InferenceSet
	// are asked for: the metric or the threshold was changed. KEDA asks every
	// 15 s.
	replacedAfter = 2 * time.Minute
	// forgetAfter is when a subject is dropped that nobody asks about any more: its
	// InferenceSet or its ScaledObject is gone.
	forgetAfter = time.Hour
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
		limits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keda_kaito_scaler_over_limit_total",
			Help: "What didn't fit a limit of the scaler's memory and was left out, by limit.",
		}, []string{"limit"}),
		newest: map[types.NamespacedName]map[TriggerID]lastRecommendation{},
	}
	for _, limit := range []string{limitSeries, limitFleetScalers, limitCheckpoints, limitEvents} {
		m.limits.WithLabelValues(limit)
	}
	registry.MustRegister(m.requests, m.duration, m.limits, m)
	return m
}

// The limits that something may be left out for.
const (
	limitSeries       = "series"
	limitFleetScalers = "fleet_scalers"
	limitCheckpoints  = "checkpoints"
	limitEvents       = "events"
)

// countDropped counts what didn't fit a limit.
func (m *Metrics) countDropped(limit string, n int) {
	if m != nil && n > 0 {
		m.limits.WithLabelValues(limit).Add(float64(n))
	}
}

func (m *Metrics) set(subject TriggerID, recommendation decision.Recommendation) {
	if m == nil {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	set := m.newest[subject.InferenceSet]
	if _, known := set[subject]; !known {
		if !m.fits(set, now) {
			m.countDropped(limitSeries, 1)
			return
		}
		if set = m.newest[subject.InferenceSet]; set == nil {
			set = map[TriggerID]lastRecommendation{}
			m.newest[subject.InferenceSet] = set
		}
		m.size++
	}
	set[subject] = lastRecommendation{now, recommendation}
}

// refresh keeps what KEDA has been told up to date once it asks another replica of
// the scaler: else the last answer of this one would stand for an hour.
func (m *Metrics) refresh(subject TriggerID, recommendation decision.Recommendation) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	set := m.newest[subject.InferenceSet]
	if a, known := set[subject]; known {
		set[subject] = lastRecommendation{a.at, recommendation}
	}
}

// fits tells whether there is any for another trigger of an InferenceSet.
// Collecting prunes too, but perhaps nobody collects. It needs mu.
func (m *Metrics) fits(set map[TriggerID]lastRecommendation, now time.Time) bool {
	fits := func() bool { return len(set) < maxTriggers && m.size < maxSubjects }
	if !fits() && now.Sub(m.pruned) > time.Minute {
		m.prune(now)
	}
	return fits()
}

// prune drops what nobody asks about any more. It needs mu.
func (m *Metrics) prune(now time.Time) {
	m.pruned = now
	for key, set := range m.newest {
		var newest time.Time
		for _, a := range set {
			if a.at.After(newest) {
				newest = a.at
			}
		}
		m.drop(key, func(_ TriggerID, a lastRecommendation) bool {
			return now.Sub(a.at) > forgetAfter || newest.Sub(a.at) > replacedAfter
		})
	}
}

// drop drops subjects of an InferenceSet. It needs mu.
func (m *Metrics) drop(key types.NamespacedName, which func(TriggerID, lastRecommendation) bool) {
	set := m.newest[key]
	m.size -= len(set)
	maps.DeleteFunc(set, which)
	m.size += len(set)
	if len(set) == 0 {
		delete(m.newest, key)
	}
}

// SetTriggers implements kaito.Asked: the series of triggers that are gone end at once.
func (m *Metrics) SetTriggers(key types.NamespacedName, triggers []policy.Trigger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.newest[key]) == 0 {
		return
	}
	asked := make(map[uint64]bool, len(triggers))
	for _, trigger := range triggers {
		asked[trigger.Digest()] = true
	}
	m.drop(key, func(subject TriggerID, _ lastRecommendation) bool { return !asked[subject.Digest] })
}

// forget ends the series of triggers that KEDA is not to ask for: they would stand
// for an hour as the last answer was, while nobody looks at the fleet.
func (m *Metrics) forget(key types.NamespacedName, digests []uint64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key, func(subject TriggerID, _ lastRecommendation) bool { return slices.Contains(digests, subject.Digest) })
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

var triggerLabels = []string{"namespace", "inferenceset", "metric", "trigger"}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, slices.Concat(triggerLabels, labels), nil)
}

// The metrics of a recommendation.
var (
	publishedValue = describe("keda_kaito_scaler_published_value",
		"What KEDA gets; absent while it gets an error.")
	targetValue = describe("keda_kaito_scaler_target_value",
		"The HPA's target per replica.")
	desiredReplicas = describe("keda_kaito_scaler_desired_replicas",
		"The InferenceSet's spec.replicas.")
	recommendedReplicas = describe("keda_kaito_scaler_recommended_replicas",
		"The replica count that the HPA computes from the published value, within the bounds, before windows and step limits.")
	recommendationConfidence = describe("keda_kaito_scaler_recommendation",
		"1 for how far the readings determine the recommendation: confidence is unknown, measured, bounded or held.", "confidence")
	recommendationDirection = describe("keda_kaito_scaler_recommendation_direction",
		"1 if more replicas are recommended, -1 if fewer, else 0.")
	replicasByState = describe("keda_kaito_scaler_replicas",
		"Replicas by state: starting, readable, unreadable, terminating or broken. Those that serve are readable or not.", "state")
	stuckReplicas = describe("keda_kaito_scaler_stuck_replicas",
		"Replicas that are broken, or have been starting for over 30 minutes.")
	sleepingReplicas = describe("keda_kaito_scaler_sleeping_replicas",
		"Serving replicas whose engine sleeps.")
	missingMetrics = describe("keda_kaito_scaler_missing_metrics",
		"Requested metrics that no serving replica's page has.")
	demandReplicas = describe("keda_kaito_scaler_demand_replicas",
		"The load now, in replicas at their utilization limit; in automatic mode and with the down guard.")
	neededReplicas = describe("keda_kaito_scaler_needed_replicas",
		"Replicas for the load at the forecast horizon, before rounding and bounds.")
	utilizationLimit = describe("keda_kaito_scaler_utilization_limit_ratio",
		"The highest utilization at which a replica keeps the SLO, as learned.")
	coldStart = describe("keda_kaito_scaler_cold_start_seconds",
		"The time from ordering a replica to its first Ready, as learned.")
	learning = describe("keda_kaito_scaler_learning",
		"1 until enough was learned to replace KAITO's benchmark, else 0.")
	lastPollTime = describe("keda_kaito_scaler_last_answer_timestamp_seconds",
		"When KEDA asked last, in seconds since 1970.")
)

// Describe implements prometheus.Collector.
func (*Metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		publishedValue, targetValue, desiredReplicas, recommendedReplicas, recommendationConfidence, recommendationDirection,
		replicasByState, stuckReplicas, sleepingReplicas, missingMetrics, lastPollTime,
		demandReplicas, neededReplicas, utilizationLimit, coldStart, learning,
	} {
		descs <- d
	}
}

// Collect implements prometheus.Collector. Triggers that share a metric, such as
// gates at two thresholds, are told apart by a digest; the label of the others is
// empty, which is as good as none.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	type entry struct {
		subject TriggerID
		lastRecommendation
		label string
	}
	m.mu.Lock()
	m.prune(time.Now())
	entries := make([]entry, 0, m.size)
	for _, set := range m.newest {
		sharing := map[string]int{}
		for subject := range set {
			sharing[subject.Metric]++
		}
		for subject, a := range set {
			e := entry{subject: subject, lastRecommendation: a}
			if sharing[subject.Metric] > 1 {
				e.label = fmt.Sprintf("%016x", subject.Digest)
			}
			entries = append(entries, e)
		}
	}
	m.mu.Unlock()
	for _, e := range entries {
		if _, there := m.fleets.Fleet(e.subject.InferenceSet, e.subject.Page); there {
			collect(out, e.subject, e.label, e.lastRecommendation)
		}
	}
}

func collect(out chan<- prometheus.Metric, subject TriggerID, trigger string, a lastRecommendation) {
	v := a.recommendation
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		labels = append([]string{subject.InferenceSet.Namespace, subject.InferenceSet.Name, subject.Metric, trigger}, labels...)
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	if v.Confidence != decision.Unknown {
		send(publishedValue, v.Value)
	}
	send(targetValue, subject.Target)
	send(desiredReplicas, float64(v.Desired))
	send(recommendedReplicas, float64(v.Replicas))
	for answer := decision.Unknown; answer <= decision.Held; answer++ {
		send(recommendationConfidence, boolValue(v.Confidence == answer), answer.String())
	}
	send(recommendationDirection, boolValue(v.Replicas > v.Desired)-boolValue(v.Replicas < v.Desired))
	states := map[string]int{"starting": 0, "readable": 0, "unreadable": len(v.Unreadable), "terminating": 0, "broken": 0}
	stuck, asleep := 0, 0
	for _, member := range v.ReplicaStates {
		if member.Phase == sample.Serving {
			states["readable"]++
		} else {
			states[member.Phase.String()]++
		}
		if member.Stuck != "" {
			stuck++
		}
		if member.Sleeping {
			asleep++
		}
	}
	states["readable"] -= len(v.Unreadable)
	for state, n := range states {
		send(replicasByState, float64(n), state)
	}
	send(stuckReplicas, float64(stuck))
	send(sleepingReplicas, float64(asleep))
	send(missingMetrics, float64(len(v.MissingMetrics)))
	if load := v.Load; load != nil {
		send(demandReplicas, load.Demand)
		send(neededReplicas, load.Need)
		send(utilizationLimit, load.Fill)
		send(coldStart, load.ColdStart.Seconds())
		send(learning, boolValue(load.Learning))
	}
	send(lastPollTime, float64(a.at.UnixMilli())/1000)
}

func boolValue(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
