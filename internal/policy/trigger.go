package policy

import (
	"fmt"
	"slices"
	"strconv"
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
)

// Trigger is what one trigger of a ScaledObject asks of the scaler.
type Trigger struct {
	// Namespace and InferenceSet name whose replicas are read.
	Namespace    string
	InferenceSet string
	// Queue is what is asked for unless there is a List.
	Queue Queue
	List  *List
	Page  Page
	// Bounds are the ScaledObject's, so that a verdict can be explained: KEDA
	// doesn't tell them to a scaler.
	Bounds Bounds
	// Use isn't in the metadata: whoever knows the ScaledObject fills it in.
	Use Use
}

// Trigger is the one trigger that the policy comes to for an InferenceSet.
func (p Policy) Trigger(namespace, name string) Trigger {
	return Trigger{Namespace: namespace, InferenceSet: name, Queue: p.Queue, List: p.List, Bounds: p.Bounds}
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
		metaMetric:       t.Queue.Metric,
		metaThreshold:    strconv.FormatFloat(t.Queue.Target, 'f', -1, 64),
	}
	if t.Bounds != (Bounds{}) {
		metadata[metaMin] = strconv.Itoa(int(t.Bounds.Min))
		metadata[metaMax] = strconv.Itoa(int(t.Bounds.Max))
	}
	return metadata
}

// ParseTrigger reads the metadata of a trigger, of ours or written by hand, in
// a ScaledObject of the given namespace. The error is a RefusalError.
func ParseTrigger(namespace string, metadata map[string]string) (Trigger, error) {
	t := Trigger{
		Namespace:    metadata[metaNamespace],
		InferenceSet: metadata[metaInferenceSet],
		Queue:        Queue{Metric: metadata[metaMetric]},
	}
	if t.InferenceSet == "" {
		return Trigger{}, refuse(metaInferenceSet, "", "required: the InferenceSet whose replicas are read")
	}
	if t.Namespace == "" {
		t.Namespace = namespace
	}
	if t.Namespace != namespace {
		return Trigger{}, refuse(metaNamespace, t.Namespace,
			fmt.Sprintf("must be the ScaledObject's own namespace %q", namespace))
	}
	if t.Queue.Metric == "" {
		t.Queue.Metric = DefaultMetric
	}
	if !metricName.MatchString(t.Queue.Metric) {
		return Trigger{}, refuse(metaMetric, t.Queue.Metric, ruleMetric)
	}
	target, err := ParseTarget(metadata[metaThreshold])
	if err != nil {
		return Trigger{}, refuse(metaThreshold, metadata[metaThreshold], err.Error())
	}
	t.Queue.Target = target
	if err := supported(metadata); err != nil {
		return Trigger{}, err
	}
	t.Bounds = bounds(metadata)
	return t, nil
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

// handWritten are keys of triggers in the field with the values that mean what
// this version does anyway. Anything else must not be passed over in silence.
var handWritten = []struct {
	key       string
	supported []string
}{
	{"metricProtocol", []string{"http"}},
	{"metricPort", []string{"80", "5000"}},
	{"metricPath", []string{"/metrics"}},
	{"aggregation", []string{"sum"}},
}

func supported(metadata map[string]string) error {
	for _, h := range handWritten {
		value := metadata[h.key]
		if value != "" && !slices.Contains(h.supported, value) {
			return refuse(h.key, value, fmt.Sprintf("this version supports %q only", h.supported))
		}
	}
	return nil
}
