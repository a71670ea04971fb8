package decision

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

const queueTime = "vllm:request_queue_time_seconds"

// The two metrics of KAITO's documentation: what waits, and for how long.
var (
	waitingList = policy.Metric{Name: waitingMetric, Kind: policy.Gauge, Up: 10, Down: 1, Window: time.Minute}
	queueList   = policy.Metric{Name: queueTime, Kind: policy.Histogram, Up: 30, Down: 1, Quantile: .95, Window: time.Minute}
)

func listOf(combine policy.Combine, metrics ...policy.Metric) policy.Trigger {
	return policy.Trigger{List: &policy.List{
		Metrics: metrics, Combine: combine, UpCooldown: 5 * time.Minute, DownCooldown: 10 * time.Minute,
	}}
}

// story is a fleet that is read every 5 s and evaluated when a test wants to know.
type story struct {
	*testing.T
	trigger policy.Trigger
	began   time.Time
	now     time.Time
	fleet   sample.Fleet
	pods    []*pod
}

// pod is a replica's pod with what its pages say.
type pod struct {
	sample.Replica
	name string
	// silent pods answer nothing; lacks are families that their pages lack.
	silent bool
	lacks  []string
	gauges map[string]float64
	// each is how many requests end between two scrapes, and took how long
	// they had been queued, in seconds.
	each, took float64
	counts     [4]float64
	sum        float64
	restarts   int32
	// finished is how many requests were ever served to their end, and generated how
	// many tokens of answers.
	finished, generated float64
}

// does is a change to a pod.
type does func(s *story, p *pod)

func pending(n float64) does { return func(_ *story, p *pod) { p.gauges[waitingMetric] = n } }
func running(n float64) does { return func(_ *story, p *pod) { p.gauges[policy.FamilyRunning] = n } }
func hangs(_ *story, p *pod) { p.silent, p.Failure = true, "no answer within 2s" }

// turnsSlow takes connections and doesn't answer in time.
func turnsSlow(s *story, p *pod) {
	hangs(s, p)
	p.TimedOut = s.now
}

func answers(_ *story, p *pod) {
	p.silent, p.Failure, p.TimedOut = false, "", time.Time{}
}

func misses(family string) does { return func(_ *story, p *pod) { p.lacks = append(p.lacks, family) } }

// ends makes so many requests end between two scrapes, after so many seconds in
// the queue.
func ends(each, took float64) does {
	return func(_ *story, p *pod) { p.each, p.took = each, took }
}

func starts(s *story, p *pod) {
	p.Phase, p.Ordered, p.Why = sample.Starting, s.now, "ModelMirrorPending"
}

func breaks(s *story, p *pod) {
	p.Phase, p.Ordered, p.Why = sample.Broken, s.now, "ImagePullError: no such image"
}
func leaves(_ *story, p *pod) { p.Phase = sample.Terminating }

// joins turns Ready now, with what KAITO's benchmark left in its counters.
func turnsReady(s *story, p *pod) {
	p.Phase, p.ReadySince, p.Expected, p.Ordered = sample.Serving, s.now, s.now, s.now.Add(-5*time.Minute)
	p.counts, p.sum = [4]float64{0, 0, 0, 4000}, 4000*300
}

// restarts begins a new process: its counters anew, the benchmark's in them.
func restarts(s *story, p *pod) {
	turnsReady(s, p)
	p.restarts++
}

// stands has been serving for an hour.
func stands(s *story, p *pod) {
	p.Phase = sample.Serving
	p.Ordered, p.ReadySince, p.Expected = s.now.Add(-time.Hour), s.now.Add(-time.Hour), s.now
}

func tell(t *testing.T, desired int32, trigger policy.Trigger) *story {
	t.Helper()
	return &story{T: t, trigger: trigger, began: t0, now: t0, fleet: sample.Fleet{
		Desired: desired, Freshness: 15 * time.Second, Interval: step5, Grace: 10 * time.Minute,
	}}
}

// pod is what a pod does from now on; one that is new has been standing.
func (s *story) pod(name string, changes ...does) *story {
	var found *pod
	for _, p := range s.pods {
		if p.name == name {
			found = p
		}
	}
	if found == nil {
		found = &pod{name: name, gauges: map[string]float64{waitingMetric: 0, policy.FamilyRunning: 0}}
		stands(s, found)
		s.pods = append(s.pods, found)
	}
	for _, change := range changes {
		change(s, found)
	}
	return s
}

// without a pod any more.
func (s *story) without(name string) *story {
	for i, p := range s.pods {
		if p.name == name {
			s.pods = append(s.pods[:i:i], s.pods[i+1:]...)
			break
		}
	}
	return s
}

// scaled is the HPA's doing.
func (s *story) scaled(to int32) *story {
	if to > s.fleet.Desired {
		s.fleet.Raised = s.now
		s.fleet.Rises = append(s.fleet.Rises, sample.Rise{At: s.now, From: s.fleet.Desired})
	} else {
		s.fleet.Lowered = s.now
	}
	s.fleet.Desired = to
	return s
}

// at goes on until so long after the beginning, reading every pod on the way.
func (s *story) at(d time.Duration) *story {
	s.Helper()
	until := s.began.Add(d)
	if until.Before(s.now) {
		s.Fatalf("%v is over", d)
	}
	for s.now.Before(until) {
		s.now = s.now.Add(time.Second)
		if s.now.Sub(s.began)%step5 == 0 {
			for _, p := range s.pods {
				p.read(s.now)
			}
		}
	}
	return s
}

func (p *pod) read(now time.Time) {
	for i, le := range []float64{.1, 1, 10, math.Inf(1)} {
		if p.took <= le {
			p.counts[i] += p.each
			break
		}
	}
	p.sum += p.each * p.took
	if p.Phase != sample.Serving || p.silent {
		return
	}
	families := []sample.Family{latencies(p.counts[0], p.counts[1], p.counts[2], p.counts[3], p.sum)}
	families[0].Name = queueTime
	families = append(families, sample.Family{Name: policy.FamilyFinished, Kind: sample.Counter, Sum: p.finished, Engines: 1},
		sample.Family{Name: policy.FamilyGenerated, Kind: sample.Counter, Sum: p.generated, Engines: 1})
	for name, value := range p.gauges {
		families = append(families, sample.Family{Name: name, Kind: sample.Gauge, Sum: value, Engines: 1})
	}
	families = slices.DeleteFunc(families, func(f sample.Family) bool { return slices.Contains(p.lacks, f.Name) })
	s := sample.NewSample(now.Add(-time.Second), families, p.Last)
	s.Restarts = p.restarts
	for _, f := range families {
		s.Names = append(s.Names, f.Name)
	}
	p.History.Add(s, time.Hour)
	p.Last = s
}

func (s *story) recommendation() Recommendation {
	s.fleet.Replicas = nil
	for _, p := range s.pods {
		r := p.Replica
		r.Pod = "phi-4-" + p.name + "-0"
		s.fleet.Replicas = append(s.fleet.Replicas, r)
	}
	return Evaluate(s.trigger, s.fleet, s.now)
}

// wants is what is published as wanted, and how the reason begins.
func (s *story) wants(replicas float64, answer Confidence, reason string) *story {
	s.Helper()
	v := s.recommendation()
	if v.Value != replicas || v.Confidence != answer || !strings.HasPrefix(v.Reason, reason) {
		s.Errorf("at %v: %s %v\n got %s\nwant %s %v\n     %s", s.now.Sub(s.began), v.Confidence, v.Value, v.Reason, answer, replicas, reason)
	}
	return s
}

// wantHold is a hold at what is desired.
func (s *story) wantHold(reason string) *story {
	s.Helper()
	return s.wants(float64(s.fleet.Desired), Held, reason)
}

// stays fails if the fleet is moved at any reading until then.
func (s *story) stays(until time.Duration, what string) *story {
	s.Helper()
	for s.now.Before(s.began.Add(until)) {
		s.at(s.now.Sub(s.began) + step5)
		if v := s.recommendation(); v.Value != float64(s.fleet.Desired) {
			s.Fatalf("%s: at %v %s", what, s.now.Sub(s.began), v.Reason)
		}
	}
	return s
}
