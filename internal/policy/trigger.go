package policy

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TriggerName is the name of the one trigger in a ScaledObject of ours.
const TriggerName = "keda-kaito-scaler"

// The keys of a trigger's metadata. KEDA reads scalerAddress and enableTLS
// itself, and hands all of them to the scaler with each call.
const (
	metaAddress      = "scalerAddress"
	metaEnableTLS    = "enableTLS"
	metaScaler       = "scalerName"
	metaInferenceSet = "inferenceSetName"
	metaNamespace    = "inferenceSetNamespace"
	metaMetric       = "metricName"
	metaThreshold    = "threshold"
	metaMin          = "minReplicas"
	metaMax          = "maxReplicas"

	metaAggregation  = "aggregation"
	metaQuantile     = "quantile"
	metaWindow       = "metricCacheWindow"
	metaMetrics      = "metrics"
	metaCombine      = "combinePolicy"
	metaUpCooldown   = "scaleUpCooldown"
	metaDownCooldown = "scaleDownCooldown"

	metaSaturation = "saturation"
	metaTTFT       = "ttftSLO"
	metaITL        = "itlSLO"
	metaDownGuard  = "downGuard"
)

// aggregations are the words of Aggregation, in its order. Two are gates, see
// asksReadiness.
var aggregations = [...]string{
	Sum: "sum", ServiceAvg: "service-avg", WindowedAvg: "windowed-avg", Gate: "gate", Rate: "rate",
	Quantile: "quantile", Readiness: "gate",
}

const (
	// metricReadiness is what version 0.6 called its readiness gate.
	metricReadiness = "readiness_gate"
	// DefaultQuantile is that of versions 0.6.0 and 0.6.1.
	DefaultQuantile = 0.95
)

func (a Aggregation) String() string { return aggregations[a] }

// Trigger is what one trigger of a ScaledObject asks of the scaler.
type Trigger struct {
	// Namespace and InferenceSet name whose replicas are read.
	Namespace    string
	InferenceSet string
	// Queue is what is asked for unless there is a List or Saturation.
	Queue      Queue
	List       *List
	Saturation *Saturation
	Page       Page
	// Bounds are the ScaledObject's, so that a verdict can be explained: KEDA
	// doesn't tell them to a scaler.
	Bounds Bounds
	// Use, Tolerances and ScaledObject aren't in the metadata: whoever knows the
	// ScaledObject fills them in. ScaledObject is its name.
	ScaledObject string
	Use          Use
	// Tolerances are the HPA's, nil for those that ScaledObjects of ours have.
	Tolerances *Tolerances
	// DownWindow is for how long the HPA has to see a step down of a List before it
	// makes it, 0 if that isn't known.
	DownWindow time.Duration
}

// Trigger is the one trigger that the policy comes to for an InferenceSet.
func (p Policy) Trigger(namespace, name string) Trigger {
	t := Trigger{Namespace: namespace, InferenceSet: name, Queue: p.Queue, List: p.List, Saturation: p.Saturation, Bounds: p.Bounds}
	if p.List != nil {
		t.DownWindow = p.Down.Window
	}
	return t
}

// Metadata writes the trigger for KEDA, which is to reach the scaler at
// address, host:port.
func (t Trigger) Metadata(address string) map[string]string {
	metadata := map[string]string{
		metaAddress: address,
		// Without it KEDA falls back to plaintext when the certificates can't
		// be found, and only logs that.
		metaEnableTLS:    "true",
		metaScaler:       TriggerName,
		metaInferenceSet: t.InferenceSet,
		metaNamespace:    t.Namespace,
	}
	switch {
	case t.List != nil:
		metadata[metaMetrics] = t.List.text()
		metadata[metaCombine] = t.List.Combine.String()
		metadata[metaUpCooldown] = wholeSeconds(t.List.UpCooldown)
		metadata[metaDownCooldown] = wholeSeconds(t.List.DownCooldown)
	case t.Saturation != nil:
		metadata[metaSaturation] = "true"
		t.Saturation.write(metadata)
	default:
		t.Queue.write(metadata)
	}
	t.Page.write(metadata)
	if t.Bounds != (Bounds{}) {
		metadata[metaMin] = strconv.Itoa(int(t.Bounds.Min))
		metadata[metaMax] = strconv.Itoa(int(t.Bounds.Max))
	}
	return metadata
}

// write adds the queue to a trigger's metadata.
func (q Queue) write(metadata map[string]string) {
	metadata[metaMetric] = q.Metric
	if q.Aggregation != Readiness {
		metadata[metaThreshold] = strconv.FormatFloat(q.Target, 'f', -1, 64)
	}
	if q.Aggregation != Sum {
		metadata[metaAggregation] = q.Aggregation.String()
	}
	if q.Aggregation == Quantile {
		metadata[metaQuantile] = strconv.FormatFloat(q.Quantile, 'f', -1, 64)
	}
	if q.Window != 0 {
		metadata[metaWindow] = wholeSeconds(q.Window)
	}
	if q.Guard != nil {
		metadata[metaDownGuard] = "true"
		q.Guard.write(metadata)
	}
}

// What else a trigger's metadata may have at most, beside MaxMetadata: more keys than
// there are, and the longest names of Kubernetes' objects and namespaces.
const (
	maxMetadataKeys = 64
	maxObjectName   = 253
	maxNamespace    = 63
)

// ParseTrigger reads the metadata of a trigger, of ours or written by hand, in
// a ScaledObject of the given namespace. The error is a RefusalError.
func ParseTrigger(namespace string, metadata map[string]string) (Trigger, error) {
	if MetadataSize(metadata) > MaxMetadata {
		return Trigger{}, refuse("metadata", "", fmt.Sprintf("must have at most %d bytes in all", MaxMetadata))
	}
	if len(metadata) > maxMetadataKeys {
		return Trigger{}, refuse("metadata", "", fmt.Sprintf("must have at most %d keys; this has %d", maxMetadataKeys, len(metadata)))
	}
	p := parser{values: map[string]string{}}
	for key, value := range metadata {
		if strings.TrimSpace(value) != "" { // what is empty isn't given
			p.values[key] = value
		}
	}
	if p.values[metaInferenceSet] == "" { // whatever else it says is about nothing
		return Trigger{}, refuse(metaInferenceSet, "", "required: the InferenceSet whose replicas are read")
	}
	t := Trigger{
		Namespace:    cmp.Or(p.values[metaNamespace], namespace),
		InferenceSet: p.values[metaInferenceSet],
		Bounds:       bounds(metadata),
	}
	if t.Namespace != namespace {
		p.refuse(metaNamespace, t.Namespace, fmt.Sprintf("must be the ScaledObject's own namespace %q", namespace))
	}
	if len(t.InferenceSet) > maxObjectName || len(t.Namespace) > maxNamespace {
		return Trigger{}, refuse(metaInferenceSet, t.InferenceSet, fmt.Sprintf(
			"must have at most %d characters, and its namespace %d", maxObjectName, maxNamespace))
	}
	switch {
	case p.any(metaMetrics):
		t.List = p.list(metaMetrics, metaCombine)
		t.List.UpCooldown = p.cooldown(metaUpCooldown)
		t.List.DownCooldown = p.cooldown(metaDownCooldown)
	case p.yes(metaSaturation, false):
		if value, given := p.get(metaThreshold); given {
			p.refuse(metaThreshold, value, "must not be given with "+metaSaturation)
		}
		t.Saturation = p.promise(metaTTFT, metaITL)
	default:
		t.Queue = p.measured()
	}
	if t.Page = NoPage; t.Queue.Aggregation != Readiness {
		t.Page = p.page()
	}
	if len(p.problems) > 0 {
		return Trigger{}, RefusalError(p.problems)
	}
	return t, nil
}

// cooldown reads one of a list's, which has KAITO's unless it is given.
func (p *parser) cooldown(key string) time.Duration {
	if cooldown, given := p.seconds(key, minCooldown, maxCooldown, ""); given {
		return cooldown
	}
	return listUp().Cooldown
}

// asksReadiness tells whether a trigger is the readiness gate of version 0.6: a
// gate of that name, or one that says nothing of how much of a metric opens it.
func (p *parser) asksReadiness() bool {
	how, _ := p.get(metaAggregation)
	metric, _ := p.get(metaMetric)
	return strings.EqualFold(how, Gate.String()) && (metric == metricReadiness || !p.any(metaThreshold))
}

// measured reads a queue with the ways to add it up that only a trigger written
// by hand, or by version 0.6, has.
func (p *parser) measured() Queue {
	if p.asksReadiness() {
		queue := Queue{Metric: metricReadiness, Target: 1, Aggregation: Readiness}
		if p.any(metaMetric) {
			queue.Metric = p.metric(metaMetric)
		}
		return queue
	}
	how := p.aggregation(metaAggregation, Sum, ServiceAvg, WindowedAvg, Gate, Rate, Quantile)
	queue := p.queue(metaMetric, metaThreshold, how, metaWindow)
	if how == Quantile {
		queue.Quantile = DefaultQuantile
		if q, given := p.fraction(metaQuantile); given {
			queue.Quantile = q
		}
	}
	// A mean or a gate isn't what the HPA holds on.
	if p.yes(metaDownGuard, false) {
		queue.Guard = p.promise(metaTTFT, metaITL)
		if how != Sum && how != Rate {
			p.refuse(metaDownGuard, "true", "must not be given with an "+metaAggregation+" but "+Sum.String()+" or "+Rate.String())
		}
	}
	return queue
}

// bounds are those of a trigger of ours. Without them, or with such that make no
// sense, a verdict is only explained less well.
func bounds(metadata map[string]string) Bounds {
	low, err1 := strconv.ParseInt(metadata[metaMin], 10, 32)
	high, err2 := strconv.ParseInt(metadata[metaMax], 10, 32)
	if err1 != nil || err2 != nil || low < 1 || high < low {
		return Bounds{}
	}
	return Bounds{Min: int32(low), Max: int32(high)}
}
