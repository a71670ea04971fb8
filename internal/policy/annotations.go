package policy

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
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
	keyMin               = "min-replicas"
	keyMax               = "max-replicas"
	keyWindow            = "evaluationwindow"
	keyScaleUpCooldown   = "scaleupcooldown"
	keyScaleDownCooldown = "scaledowncooldown"
)

// known are the keys an InferenceSet may carry, in the order of documentation.
var known = []string{
	keyAutoProvision, keyThreshold, keyMetricName, keyMin, keyMax,
	keyWindow, keyScaleUpCooldown, keyScaleDownCooldown,
}

// notYet are keys of KAITO's metric lists. They are real, so a user must not be
// told of a typo, but this version can't do what they ask.
var notYet = []string{"metrics", "combinepolicy"}

// Limits of the HPA's API on behaviour: stabilizationWindowSeconds and
// periodSeconds of autoscaling/v2.
const (
	maxWindow   = time.Hour
	minCooldown = time.Second
	maxCooldown = 30 * time.Minute
)

// metricName is what Prometheus allows as a metric's name. It is a path segment
// of the external metrics API too, which every such name is.
var metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

// ruleMetric is what is said of any other name.
const ruleMetric = "must be the name of a Prometheus metric, such as " + DefaultMetric

// Request is what an InferenceSet says about its scaling.
type Request struct {
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
	value, given := annotations[Prefix+keyAutoProvision]
	if !given {
		return false, nil
	}
	wanted, err := strconv.ParseBool(strings.TrimSpace(value))
	if err != nil {
		return false, refuse(Prefix+keyAutoProvision, value, `must be "true" or "false"`)
	}
	return wanted, nil
}

// Parse checks a request and completes it with the defaults. The error is a
// RefusalError with everything that is wrong, so that a user mends it in one go.
// The notes tell what was understood otherwise than written, in words.
func Parse(req Request) (Policy, []string, error) {
	p := parser{annotations: req.Annotations}
	p.unknownKeys()
	policy := Policy{
		Queue: Queue{Metric: p.metric(), Target: p.threshold()},
		Up:    defaultUp(),
		Down:  defaultDown(),
	}
	if window, given := p.seconds(keyWindow, 0, maxWindow); given {
		policy.Up.Window, policy.Down.Window = window, window
	}
	if cooldown, given := p.seconds(keyScaleUpCooldown, minCooldown, maxCooldown); given {
		policy.Up.Cooldown = cooldown
	}
	if cooldown, given := p.seconds(keyScaleDownCooldown, minCooldown, maxCooldown); given {
		policy.Down.Cooldown = cooldown
	}
	policy.Bounds = p.bounds(req)
	if len(p.problems) > 0 {
		return Policy{}, nil, RefusalError(p.problems)
	}
	return policy, p.notes, nil
}

// parser gathers problems and notes while it reads.
type parser struct {
	annotations map[string]string
	problems    []Problem
	notes       []string
}

func (p *parser) refuse(key, value, rule string) {
	p.problems = append(p.problems, Problem{Key: Prefix + key, Value: value, Rule: rule})
}

func (p *parser) get(key string) (string, bool) {
	value, given := p.annotations[Prefix+key]
	return strings.TrimSpace(value), given
}

func (p *parser) unknownKeys() {
	for _, full := range slices.Sorted(maps.Keys(p.annotations)) {
		key, ours := strings.CutPrefix(full, Prefix)
		switch {
		case !ours || slices.Contains(known, key):
		case slices.Contains(notYet, key):
			p.refuse(key, p.annotations[full],
				"metric lists are not supported by this version: use "+Prefix+keyThreshold)
		default:
			problem := Problem{Key: full, Value: p.annotations[full], Rule: "no such annotation"}
			if near, ok := nearest(key, known); ok {
				problem.Nearest = Prefix + near
			}
			p.problems = append(p.problems, problem)
		}
	}
}

func (p *parser) threshold() float64 {
	value, given := p.get(keyThreshold)
	if !given {
		p.refuse(keyThreshold, "", "required: how much of "+DefaultMetric+" (or metricName) one replica should have, such as 10")
		return 0
	}
	target, err := ParseTarget(value)
	if err != nil {
		p.refuse(keyThreshold, value, err.Error())
	}
	return target
}

// ParseTarget reads the amount that one replica should have.
func ParseTarget(value string) (float64, error) {
	target, err := strconv.ParseFloat(value, 64)
	// KEDA hands thousandths to the HPA, which refuses a target of zero.
	if err != nil || math.IsNaN(target) || math.IsInf(target, 0) || target < 0.001 {
		return 0, errors.New("must be a number of at least 0.001, such as 10")
	}
	return target, nil
}

func (p *parser) metric() string {
	value, given := p.get(keyMetricName)
	if !given {
		return DefaultMetric
	}
	if !metricName.MatchString(value) {
		p.refuse(keyMetricName, value, ruleMetric)
	}
	return value
}

// seconds reads a whole number of seconds within [low, high].
func (p *parser) seconds(key string, low, high time.Duration) (time.Duration, bool) {
	value, given := p.get(key)
	if !given {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 32)
	d := time.Duration(n) * time.Second
	if err != nil || d < low || d > high {
		p.refuse(key, value, fmt.Sprintf("must be whole seconds from %d to %d, the HPA's limits",
			int(low.Seconds()), int(high.Seconds())))
		return 0, false
	}
	return d, true
}

// count reads a number of replicas, ≥ 1.
func (p *parser) count(key string) (int32, bool) {
	value, given := p.get(key)
	if !given {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 1 {
		p.refuse(key, value, "must be a whole number of at least 1")
		return 0, false
	}
	return int32(n), true
}

func (p *parser) bounds(req Request) Bounds {
	before := len(p.problems)
	low, given := p.count(keyMin)
	if !given {
		low = DefaultMin
	}
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
		p.notes = append(p.notes, fmt.Sprintf("max-replicas %d but nodeCountLimit %d allows %d at %s per replica",
			*high, *req.NodeCountLimit, allowed, nodes(per)))
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
