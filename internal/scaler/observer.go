package scaler

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Observer evaluates every InferenceSet that a ScaledObject scales, whether or not
// KEDA asks this replica of the scaler about it, and hands what comes of it to the
// Notifier. KEDA keeps to one replica for minutes and then to another, so that what
// a replica is asked says little about what was told before; the triggers and the
// pods are known to all of them alike.
type Observer struct {
	fleets      Fleets
	recommender Recommender
	objects     ScaledObjects
	notifier    *Notifier
	metrics     *Metrics
	// started tells whether the fleets have been looked at once.
	started func() bool
	// KEDA is what is known of it. It is set before anything runs.
	KEDA KEDA

	// mu guards sets and what they hold.
	mu   sync.Mutex
	sets map[types.NamespacedName]*observedSet
	// heartbeat is the end of the newest turn.
	heartbeat heartbeat
}

// observedSet is an InferenceSet with the digests of the triggers in force, by
// ScaledObject, and what is known of KEDA's asking for each of these.
type observedSet struct {
	turn    uint32
	digests map[string][]uint64
	polling map[string]*pollHistory
}

// NewObserver makes an Observer, which begins with Run. Metrics may be nil.
func NewObserver(fleets Fleets, recommendations Recommender, objects ScaledObjects, notifier *Notifier, metrics *Metrics, started func() bool) *Observer {
	return &Observer{
		fleets: fleets, recommender: recommendations, objects: objects, notifier: notifier, metrics: metrics, started: started,
		sets: map[types.NamespacedName]*observedSet{},
	}
}

// SetTriggers implements kaito.Asked. A trigger of no ScaledObject is one that KEDA doesn't
// ask for yet.
func (o *Observer) SetTriggers(key types.NamespacedName, triggers []policy.Trigger) {
	set := &observedSet{turn: turnOf(key), digests: map[string][]uint64{}, polling: map[string]*pollHistory{}}
	n := 0
	for _, trigger := range triggers {
		digest := trigger.Digest()
		if trigger.ScaledObject == "" || n == maxTriggers || slices.Contains(set.digests[trigger.ScaledObject], digest) {
			continue
		}
		n++
		set.digests[trigger.ScaledObject] = append(set.digests[trigger.ScaledObject], digest)
	}
	for _, digests := range set.digests {
		slices.Sort(digests)
	}
	o.mu.Lock()
	for name := range set.digests {
		set.polling[name] = &pollHistory{}
		if before := o.sets[key]; before != nil && before.polling[name] != nil {
			set.polling[name] = before.polling[name]
		}
	}
	if n == 0 {
		delete(o.sets, key)
	} else {
		o.sets[key] = set
	}
	o.mu.Unlock()
	o.notifier.setTriggers(key, set.digests)
}

// Run observes until ctx is done.
func (o *Observer) Run(ctx context.Context) error {
	runTurns(ctx, &o.heartbeat, func(now time.Time, last, this int64) {
		if !o.started() {
			return
		}
		for key, set := range o.due(last, this) {
			for name, digests := range set.digests {
				o.observe(ctx, ScaledObjectRef{key, name}, digests, now)
			}
		}
	})
	return nil
}

// OnTime tells whether the loop keeps its pace, as EvaluationLoop.OnTime does.
func (o *Observer) OnTime() bool { return o.heartbeat.within(maxLag) }

// due are the InferenceSets whose turn is after last and not after this.
func (o *Observer) due(last, this int64) map[types.NamespacedName]*observedSet {
	o.mu.Lock()
	defer o.mu.Unlock()
	due := map[types.NamespacedName]*observedSet{}
	for key, set := range o.sets {
		if inTurn(set.turn, int64(observeEvery/turn), last, this) {
			due[key] = set
		}
	}
	return due
}

// observe evaluates the triggers of a ScaledObject, and tells what comes of it as
// far as its HPA goes by that, and whether KEDA asks.
func (o *Observer) observe(ctx context.Context, of ScaledObjectRef, digests []uint64, now time.Time) {
	object, found := o.objects.ScaledObject(ctx, types.NamespacedName{Namespace: of.InferenceSet.Namespace, Name: of.ScaledObject})
	if !found {
		return
	}
	if object.DeletionTimestamp != nil || object.NeedToBePausedByAnnotation() {
		o.resetPolling(of)
		o.metrics.forget(of.InferenceSet, digests)
		return
	}
	recommendations := o.evaluate(object, of.InferenceSet, digests, now)
	if len(recommendations) == 0 {
		return
	}
	recommendation := combine(recommendations)
	hpa := findHPA(ctx, o.objects, object)
	state := hpaStateOf(object, hpa)
	state.poll = o.pollStateOf(of, object, hpa, recommendation, now)
	o.notifier.notify(of, recommendation, state)
}

// evaluate is the recommendations on a ScaledObject's triggers with these digests; none
// while a page of theirs isn't read yet.
func (o *Observer) evaluate(object *kedav1alpha1.ScaledObject, key types.NamespacedName, digests []uint64, now time.Time) []decision.Recommendation {
	triggers := triggersIn(object, key, digests)
	recommendations := make([]decision.Recommendation, 0, len(triggers))
	for _, trigger := range triggers {
		fleet, known := o.fleets.Fleet(key, trigger.Page)
		if !known {
			return nil
		}
		recommendation := o.recommender.Recommend(trigger, fleet, now)
		o.metrics.refresh(triggerIDOf(trigger), recommendation)
		recommendations = append(recommendations, recommendation)
	}
	return recommendations
}

// OnRecommendation implements RecommendationObserver: what KEDA is told just now is told its owner at once,
// by the replica that leads, whatever stands in the HPA's status.
func (o *Observer) OnRecommendation(ctx context.Context, scaledObject string, trigger policy.Trigger, recommendation decision.Recommendation) {
	key := keyOf(trigger)
	metric, _ := trigger.Published()
	o.notifier.Log.V(1).Info("answered", "inferenceSet", key, "metric", metric, "confidence", recommendation.Confidence.String(),
		"value", recommendation.Value, "reason", recommendation.Reason)
	if !o.notifier.leads() {
		// The leader tells it within its interval: what it has told by now is known
		// of evaluations at the same times alone.
		return
	}
	o.mu.Lock()
	var digests []uint64
	if set := o.sets[key]; set != nil {
		digests = set.digests[scaledObject]
	}
	o.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(digests), func(d uint64) bool { return d == trigger.Digest() })
	if len(others) == len(digests) {
		return // it isn't known yet, or not answered for
	}
	recommendations := []decision.Recommendation{recommendation}
	if len(others) > 0 {
		object, found := o.objects.ScaledObject(ctx, types.NamespacedName{Namespace: key.Namespace, Name: scaledObject})
		if !found {
			return
		}
		recommendations = append(recommendations, o.evaluate(object, key, others, time.Now())...)
	}
	o.notifier.notify(ScaledObjectRef{key, scaledObject}, combine(recommendations), hpaState{active: true, poll: pollState{polls: true}})
}

// combine is what the recommendations on the triggers of one ScaledObject come to. The
// HPA takes the greatest number of replicas, and goes down only if it knows what
// each of them asks for.
func combine(recommendations []decision.Recommendation) decision.Recommendation {
	if len(recommendations) == 1 {
		return recommendations[0]
	}
	all := slices.MaxFunc(recommendations, func(a, b decision.Recommendation) int {
		return cmp.Or(cmp.Compare(priority(a), priority(b)), cmp.Compare(a.Replicas, b.Replicas))
	})
	all.Read, all.Unreadable, all.MissingMetrics = nil, nil, nil
	for _, v := range recommendations {
		all.Read = union(all.Read, v.Read, func(pod string) string { return pod })
		all.Unreadable = union(all.Unreadable, v.Unreadable, func(u aggregate.UnreadablePod) string { return u.Pod })
		all.MissingMetrics = union(all.MissingMetrics, v.MissingMetrics, func(m aggregate.MissingMetric) string { return m.Metric })
		all.Advice = cmp.Or(all.Advice, v.Advice)
		all.Load = cmp.Or(all.Load, v.Load)
	}
	// What one trigger can't read isn't readable for another's page being so.
	all.Read = slices.DeleteFunc(all.Read, func(pod string) bool {
		return slices.ContainsFunc(all.Unreadable, func(u aggregate.UnreadablePod) bool { return u.Pod == pod })
	})
	return all
}

// union adds what isn't there yet, by key.
func union[T any](all, more []T, key func(T) string) []T {
	there := make(map[string]bool, len(all)+len(more))
	for _, one := range all {
		there[key(one)] = true
	}
	for _, one := range more {
		if !there[key(one)] {
			there[key(one)] = true
			all = append(all, one)
		}
	}
	return all
}

// priority orders recommendations by which of them the HPA goes by.
func priority(v decision.Recommendation) int {
	switch {
	case v.Confidence == decision.Unknown:
		return 3
	case v.Replicas > v.Desired:
		return 4
	case v.Confidence == decision.Held && !v.Waiting:
		return 2
	case v.Confidence == decision.Held:
		return 1
	}
	return 0
}

// pollStateOf is whether KEDA asks for a ScaledObject that was just looked at.
func (o *Observer) pollStateOf(of ScaledObjectRef, so *kedav1alpha1.ScaledObject, hpa *autoscalingv2.HorizontalPodAutoscaler, v decision.Recommendation, now time.Time) pollState {
	o.mu.Lock()
	defer o.mu.Unlock()
	set := o.sets[of.InferenceSet]
	if set == nil || set.polling[of.ScaledObject] == nil {
		return pollState{}
	}
	a := set.polling[of.ScaledObject]
	c := pollState{polls: a.observe(so, hpa, v, now)}
	if a.overdue {
		since := a.lastPollText(so)
		c.overdueReason = func() string {
			return "KEDA has not asked for this InferenceSet since " + since + ": " + o.KEDA.whyNoPolls(so, hpa)
		}
	}
	return c
}

// OnCall notes that KEDA asks for a ScaledObject's trigger, whatever it is told.
func (o *Observer) OnCall(of ScaledObjectRef) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if set := o.sets[of.InferenceSet]; set != nil {
		if a := set.polling[of.ScaledObject]; a != nil {
			a.lastPoll, a.known, a.overdue = time.Now(), true, false
		}
	}
}

// resetPolling notes that KEDA needn't ask for a ScaledObject: it is paused, or on its end.
func (o *Observer) resetPolling(of ScaledObjectRef) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if set := o.sets[of.InferenceSet]; set != nil && set.polling[of.ScaledObject] != nil {
		set.polling[of.ScaledObject] = &pollHistory{}
	}
}

// UnpolledMetric is a metric of how many ScaledObjects KEDA doesn't ask for, on the
// replica that leads; it is there from the start, so that an alert can fire though
// KEDA has never asked.
func (o *Observer) UnpolledMetric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keda_kaito_scaler_unasked_scaledobjects",
		Help: "ScaledObjects that KEDA doesn't ask for, although there is an answer, on the replica that leads.",
	}, func() float64 {
		if !o.notifier.leads() {
			return 0
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		n := 0
		for _, set := range o.sets {
			for _, a := range set.polling {
				if a.overdue && time.Since(a.lastObserved) <= maxObservationGap {
					n++
				}
			}
		}
		return float64(n)
	})
}
