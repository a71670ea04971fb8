package policy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Prefix is what every annotation that asks for scaling begins with.
const Prefix = "scaledobject.kaito.sh/"

// ManagedBy is the annotation that marks a ScaledObject as ours. KEDA copies it
// to the HPA. It is never an InferenceSet's.
const ManagedBy = Prefix + "managed-by"

// The annotations of an InferenceSet, without Prefix.
const (
	keyAutoProvision     = "auto-provision"
	keyThreshold         = "threshold"
	keyMetricName        = "metricName"
	keyMetrics           = "metrics"
	keyCombine           = "combinepolicy"
	keyMin               = "min-replicas"
	keyMax               = "max-replicas"
	keyWindow            = "evaluationwindow"
	keyScaleUpCooldown   = "scaleupcooldown"
	keyScaleDownCooldown = "scaledowncooldown"
	keyTTFT              = "ttft-slo"
	keyITL               = "itl-slo"
	keyDownGuard         = "downguard"
	keyAggregation       = "aggregation"
	keyMetricWindow      = "metriccachewindow"
	keyCooldown          = "cooldownperiod"
)

// known are the keys an InferenceSet may carry, in the order of documentation.
var known = []string{
	keyAutoProvision, keyThreshold, keyMetricName, keyMetrics, keyCombine, keyMin, keyMax,
	keyWindow, keyScaleUpCooldown, keyScaleDownCooldown, keyTTFT, keyITL, keyDownGuard,
	keyAggregation, keyMetricWindow, keyCooldown,
}

// Limits of the HPA's API on behaviour: stabilizationWindowSeconds and
// periodSeconds of autoscaling/v2.
const (
	maxWindow   = time.Hour
	minCooldown = time.Second
	maxCooldown = 30 * time.Minute
	ofTheHPA    = ", the HPA's limits"
)

// MaxName is the longest name that KEDA takes: its HPA is keda-hpa-<name>, and
// the name stands in a label of 63 characters.
const MaxName = 54

// Request is what an InferenceSet says about its scaling.
type Request struct {
	// Name is the InferenceSet's, "" if it doesn't matter.
	Name        string
	Annotations map[string]string
	// NodeCountLimit is spec.nodeCountLimit, nil if it isn't given.
	NodeCountLimit *int64
	// NodesPerReplica is a Workspace's status.targetNodeCount, 0 until KAITO
	// has worked it out. It is 1 until then, and corrected after.
	NodesPerReplica int32
}

// Wanted tells whether the annotations ask for a ScaledObject at all. An
// InferenceSet without auto-provision doesn't, whatever else it carries.
func Wanted(annotations map[string]string) (bool, error) {
	value := strings.TrimSpace(annotations[Prefix+keyAutoProvision])
	if value == "" {
		return false, nil
	}
	wanted, err := strconv.ParseBool(value)
	if err != nil {
		return false, refuse(Prefix+keyAutoProvision, value, `must be "true" or "false"`)
	}
	return wanted, nil
}

// Parse checks a request and completes it with the defaults. The error is a
// RefusalError with everything that is wrong, so that a user mends it in one go.
// The notes tell what was understood otherwise than written, in words.
func Parse(req Request) (Policy, []string, error) {
	p := parser{values: req.Annotations, prefix: Prefix}
	p.unknownKeys()
	p.tooLong()
	policy := p.policy()
	policy.Bounds = p.bounds(req)
	if policy.Saturation != nil {
		policy.Up, policy.Down = saturationUp(policy.Bounds), saturationDown(policy.Bounds)
	}
	p.ignored(noZero, keyCooldown)
	if window, given := p.seconds(keyWindow, 0, maxWindow, ofTheHPA); given {
		policy.Up.Window, policy.Down.Window = window, window
	}
	if cooldown, given := p.seconds(keyScaleUpCooldown, minCooldown, maxCooldown, ofTheHPA); given {
		policy.Up.Cooldown, policy.Up.Step = cooldown, 1
	}
	if cooldown, given := p.seconds(keyScaleDownCooldown, minCooldown, maxCooldown, ofTheHPA); given {
		policy.Down.Cooldown, policy.Down.Step = cooldown, 1
	}
	if policy.List != nil {
		policy.List.UpCooldown, policy.List.DownCooldown = policy.Up.Cooldown, policy.Down.Cooldown
		// As in version 0.6, where evaluationwindow is of the way up alone.
		policy.Down.Window = policy.Down.Cooldown
	}
	if len(req.Name) > MaxName {
		p.problems = append(p.problems, Problem{
			Key: "metadata.name", Value: req.Name,
			Rule: fmt.Sprintf("must have at most %d characters to be scaled by KEDA", MaxName),
		})
	}
	if len(p.problems) > 0 {
		return Policy{}, nil, RefusalError(p.problems)
	}
	return policy, p.notes, nil
}

// policy reads what is asked for, in either of KAITO's dialects or in neither,
// with the pace that is the dialect's own.
func (p *parser) policy() Policy {
	switch {
	case p.any(keyMetrics):
		p.ignored(keyMetrics+" is given", keyThreshold, keyMetricName, keyAggregation, keyMetricWindow, keyTTFT, keyITL, keyDownGuard)
		return Policy{List: p.list(keyMetrics, keyCombine), Up: listUp(), Down: listDown()}
	case !p.any(keyThreshold, keyMetricName, keyCombine, keyAggregation):
		p.ignored("there is no "+keyThreshold, keyDownGuard, keyMetricWindow)
		return Policy{Saturation: p.promise(keyTTFT, keyITL)}
	}
	// A metric without a threshold, or the rule for a list without the list, is
	// half of what its author meant: what is missing is refused.
	p.ignored("there is no "+keyMetrics, keyCombine)
	queue := p.queue(keyMetricName, keyThreshold, p.aggregation(keyAggregation, Sum, Rate), keyMetricWindow)
	if queue.Aggregation != Rate {
		p.ignored(keyAggregation+" isn't "+Rate.String(), keyMetricWindow)
	}
	if p.yes(keyDownGuard, GuardQueues) {
		queue.Guard = p.promise(keyTTFT, keyITL)
	} else {
		p.ignored(keyThreshold+" is given and "+keyDownGuard+" is false", keyTTFT, keyITL)
	}
	return Policy{Queue: queue, Up: defaultUp(), Down: defaultDown()}
}

// ignored notes which keys are given in vain, and why.
func (p *parser) ignored(why string, keys ...string) {
	for _, key := range keys {
		if value, given := p.get(key); given {
			p.note("%s %q is ignored, because %s", key, shorten(value), why)
		}
	}
}

func (p *parser) unknownKeys() {
	for _, full := range slices.Sorted(maps.Keys(p.values)) {
		key, ours := strings.CutPrefix(full, Prefix)
		if _, given := p.get(key); !ours || !given || slices.Contains(known, key) {
			continue
		}
		problem := Problem{Key: shorten(full), Value: p.values[full], Rule: "no such annotation"}
		if len(p.problems) < maxTold { // nobody is told of more
			if near, ok := Nearest(key, known); ok {
				problem.Nearest = Prefix + near
			}
		}
		p.problems = append(p.problems, problem)
	}
}

// aggregation reads one of these, the first of which is the default.
func (p *parser) aggregation(key string, allowed ...Aggregation) Aggregation {
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = a.String()
	}
	return allowed[slices.Index(words, p.oneOf(key, words...))]
}

// queue reads a metric, how much of it one replica should have, and how far back
// the aggregation looks.
func (p *parser) queue(metric, threshold string, how Aggregation, window string) Queue {
	queue := Queue{Metric: p.metric(metric), Aggregation: how}
	if length, given := p.seconds(window, minMetricWindow, maxMetricWindow, ""); how.windowed() {
		queue.Window = DefaultMetricWindow
		if how == Rate {
			queue.Window = DefaultRateWindow
		}
		if given {
			queue.Window = length
		}
	}
	kind := Gauge
	if how == Rate {
		kind = Counter
		if !p.any(metric) {
			p.refuse(metric, "", "required beside "+Rate.String()+": a counter, such as "+FamilyPrompt)
		}
	}
	value, given := p.get(threshold)
	if usual, optional := how.usualTarget(); optional && !given {
		queue.Target = usual
		return queue
	}
	if !given {
		p.refuse(threshold, "", "required: how much of "+DefaultMetric+" (or metricName) one replica should have, such as 10")
		return queue
	}
	var err error
	if queue.Target, err = ParseTarget(value); err != nil {
		p.refuse(threshold, value, err.Error())
	}
	p.noteMetric(queue.Metric, queue.Target, kind)
	return queue
}

func (p *parser) bounds(req Request) Bounds {
	before := len(p.problems)
	low := p.least(keyMin)
	high, annotated := p.count(keyMax)
	if len(p.problems) > before {
		return Bounds{}
	}
	if req.NodeCountLimit == nil {
		if !annotated {
			p.refuse(keyMax, "", "required unless spec.nodeCountLimit is given: scaling needs an upper bound")
			return Bounds{}
		}
	} else if !p.capToNodes(req, &high, annotated) {
		return Bounds{}
	}
	if low > high {
		p.refuse(keyMin, strconv.Itoa(int(low)), fmt.Sprintf("must not be above the maximum of %d replicas", high))
	}
	return Bounds{Min: low, Max: high}
}

// capToNodes lowers high to what spec.nodeCountLimit has nodes for. KAITO
// enforces that limit nowhere, so it is up to us.
func (p *parser) capToNodes(req Request, high *int32, annotated bool) bool {
	per := max(req.NodesPerReplica, 1)
	allowed := *req.NodeCountLimit / int64(per)
	if allowed < 1 {
		p.problems = append(p.problems, Problem{
			Key: "spec.nodeCountLimit", Value: strconv.FormatInt(*req.NodeCountLimit, 10),
			Rule: fmt.Sprintf("must have nodes for at least one replica, which takes %s", nodes(per)),
		})
		return false
	}
	if annotated && int64(*high) <= allowed {
		return true
	}
	if annotated {
		p.note("max-replicas %d but nodeCountLimit %d allows %d at %s per replica",
			*high, *req.NodeCountLimit, allowed, nodes(per))
	}
	*high = int32(min(allowed, math.MaxInt32))
	return true
}

func nodes(n int32) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}
