package policy

import (
	"fmt"
	"math"
	"time"
)

// Saturation asks for as many replicas as the load needs while users are served
// as promised. What a replica can do is learned from the pods.
type Saturation struct {
	// TTFT is what users are promised until the first token, 100 ms to 1 min.
	TTFT time.Duration
	// ITL is the mean time between tokens that they are promised, 5 ms to 1 s.
	ITL time.Duration
}

// The SLOs unless others are given: as fast as people read on, and begin to wonder.
// They are bounds of vLLM's histograms, so that they are judged as they are.
const (
	DefaultTTFT = 2500 * time.Millisecond
	DefaultITL  = 75 * time.Millisecond
)

// The bounds of FamilyTTFT and of FamilyTPOT (and FamilyITL) on vLLM's page, in
// seconds, without +Inf. They are the same from vLLM 0.12 to 0.25.
var (
	TTFTBounds = [...]float64{
		.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
	}
	TPOTBounds = [...]float64{.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
)

const (
	minTTFT = 100 * time.Millisecond
	maxTTFT = time.Minute
	minITL  = 5 * time.Millisecond
	maxITL  = time.Second
)

// GuardQueues is whether an InferenceSet's queue has a Guard unless its owner
// says otherwise. A trigger written by hand has none unless it asks for one.
const GuardQueues = true

// FamilyKV is the KV cache's usage, a ratio: in a frozen engine it stands still.
const FamilyKV = usagePerc

// The families that automatic mode learns from, beside FamilyRunning and FamilyWaiting.
const (
	FamilyPrompt    = "vllm:prompt_tokens_total"
	FamilyGenerated = "vllm:generation_tokens_total"
	// FamilyCached counts tokens of prompts that a prefix cache had, which cost the
	// engine nothing, when FamilyPrompt does: at the first token. FamilyHits counts them
	// at scheduling, and stands for the former where that isn't on a page (vLLM 0.12).
	FamilyCached = "vllm:prompt_tokens_cached_total"
	FamilyHits   = "vllm:prefix_cache_hits_total"
	FamilyTTFT   = "vllm:time_to_first_token_seconds"
	// FamilyITL is of pieces of answers after the first. With speculation a piece is
	// several tokens.
	FamilyITL = "vllm:inter_token_latency_seconds"
	// FamilyTPOT counts answers by the mean time between their tokens, once they are
	// served.
	FamilyTPOT = "vllm:request_time_per_output_token_seconds"
	// FamilyRejected counts requests that KAITO's guard turned away, and is on no
	// page without it.
	FamilyRejected = "kaito_ratelimit_rejected_total"
)

// limits are what the histograms are read for: answers that were later than the SLO,
// or than a greater one, which is judged where an idle replica can't keep it or prompts
// are long; of the time between pieces of answers the sum alone. Whole, a page takes a
// third more CPU and memory.
func (s *Saturation) limits() map[string]float64 {
	limits := map[string]float64{}
	for metric, limit := range map[string]float64{
		FamilyTTFT: s.TTFT.Seconds(), FamilyTPOT: s.ITL.Seconds(), FamilyITL: math.Inf(1),
	} {
		for _, name := range Names(metric) {
			limits[name] = limit
		}
	}
	return limits
}

var saturationFamilies = []string{
	FamilyRunning, FamilyWaiting, FamilyPrompt, FamilyCached, FamilyGenerated, FamilyTTFT, FamilyITL, FamilyTPOT, FamilyRejected,
}

// Learned is what is promised where a verdict rests on what was learned, nil for
// a trigger that learns nothing.
func (t Trigger) Learned() *Saturation {
	switch {
	case t.List != nil:
		return nil
	case t.Saturation != nil:
		return t.Saturation
	}
	return t.Queue.Guard
}

// saturationUp is no brake: the decision has one of its own. A replica may be
// ordered for each that there may be. The HPA adds it to the replicas in an int32:
// a step of 2147483647 would come out below zero and stop the way up.
func saturationUp(bounds Bounds) Pace {
	return Pace{Cooldown: 15 * time.Second, Step: min(max(1, bounds.Max), math.MaxInt16)}
}

// saturationDown has the HPA see a step down twice, perhaps from two replicas of
// the scaler. One is of a tenth of the fleet, one replica at least.
func saturationDown(bounds Bounds) Pace {
	return Pace{Window: 30 * time.Second, Cooldown: time.Minute, Step: max(1, bounds.Max/10)}
}

// promise reads what users are promised.
func (p *parser) promise(ttft, itl string) *Saturation {
	return &Saturation{
		TTFT: p.within(ttft, minTTFT, maxTTFT, DefaultTTFT),
		ITL:  p.within(itl, minITL, maxITL, DefaultITL),
	}
}

// within reads a duration within [low, high], or takes the usual one.
func (p *parser) within(key string, low, high, usual time.Duration) time.Duration {
	value, given := p.get(key)
	if !given {
		return usual
	}
	d, err := duration(value)
	if err != nil || d < low || d > high {
		p.refuse(key, value, fmt.Sprintf("must be from %s to %s, such as %s", told(low), told(high), told(usual)))
		return usual
	}
	// What is learned is of one SLO: nobody means another by a microsecond.
	if d%time.Millisecond != 0 {
		p.refuse(key, value, "must be whole milliseconds, such as "+told(usual))
	}
	return d
}

// told is a promise as people write it: 1m, not 1m0s.
func told(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// AtBounds is the SLO as it is judged: no page tells two times of one bucket apart, so
// each is the smallest bound that isn't below it.
func (s *Saturation) AtBounds() Saturation {
	return Saturation{TTFT: atBound(s.TTFT, TTFTBounds[:]), ITL: atBound(s.ITL, TPOTBounds[:])}
}

// atBound rounds up to a bound; every SLO within its range has one.
func atBound(d time.Duration, bounds []float64) time.Duration {
	for _, bound := range bounds {
		if at := time.Duration(math.Round(bound*1e6)) * time.Microsecond; at >= d {
			return at
		}
	}
	return d
}

// Judged says where the SLO is judged, "" if that is at itself.
func (s *Saturation) Judged() string {
	at := s.AtBounds()
	if at == *s {
		return ""
	}
	return fmt.Sprintf("judged at %s and %s, the next bounds of vLLM's histograms", told(at.TTFT), told(at.ITL))
}

// write adds what is promised to a trigger's metadata.
func (s *Saturation) write(metadata map[string]string) {
	metadata[metaTTFT], metadata[metaITL] = told(s.TTFT), told(s.ITL)
}

// explain says what the policy will do. Its constants are those of the
// decision, which docs/automatic-mode.md explains.
func (s *Saturation) explain(p Policy) []string {
	up := "Up: straight to what the load needs"
	if p.Up.Step < min(p.Bounds.Max-p.Bounds.Min, math.MaxInt16) {
		up = "Up: towards what the load needs, " + p.Up.step()
	}
	return []string{
		fmt.Sprintf("SLO: %s, on average in an answer%s. Up to 1 %% of the requests may miss it.", s.inWords(), s.judged()),
		"Learned from the pods: what a replica serves while the SLO holds, what a request costs, how far forecasts were off, how long a replica takes to start.",
		"Need: the load forecast for when a replica ordered now would serve, as replicas that are as busy as the SLO allows.",
		up + p.Up.seen() + ". Replicas that are starting count.",
		fmt.Sprintf("Down: %s, if fewer would have been enough for three cold starts, at least 15 min, seen by the HPA%s.", p.Down.step(), p.Down.seen()),
		"Until traffic shows more it goes by KAITO's benchmark. Nothing is released before the first such window is over.",
		"Nothing is released while a replica can't be read.",
	}
}

// guarded says what a queue's guard does.
func (s *Saturation) guarded() string {
	return fmt.Sprintf("Guarded: it doesn't go down while what was learned says that one replica less can't keep %s%s.", s.inWords(), s.judged())
}

func (s *Saturation) inWords() string {
	return fmt.Sprintf("%s until the first token and %s between tokens", told(s.TTFT), told(s.ITL))
}

// judged is Judged within a sentence.
func (s *Saturation) judged() string {
	if at := s.Judged(); at != "" {
		return " (" + at + ")"
	}
	return ""
}

// stepOf is a number of replicas at a time.
func stepOf(n int32) string {
	if n <= 1 {
		return "one replica"
	}
	return replicas(n)
}
