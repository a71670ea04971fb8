package simulate

import (
	"embed"
	"fmt"
	"math"
	"slices"
)

// Engine is the physics of one replica's engine. A step of its continuous batch
// takes Alpha + Beta × prompt tokens + Gamma × sequences + Delta × context
// tokens. Its JSON is a file that ReadEngine takes, and that a real engine whose
// steps are timed by a plugin takes too, so that both are the same machine.
type Engine struct {
	Name string `json:"name"`
	// Source says where the numbers are from.
	Source string `json:"source,omitempty"`
	// Alpha is the time of an empty step in seconds, > 0. Beta is of a prompt
	// token that the step works off, Gamma of a request in it, Delta of a token
	// of context that a request in it already has: each in seconds, ≥ 0.
	Alpha float64 `json:"alphaSeconds"`
	Beta  float64 `json:"betaSecondsPerPromptToken"`
	Gamma float64 `json:"gammaSecondsPerSequence"`
	Delta float64 `json:"deltaSecondsPerContextToken,omitempty"`
	// Knee is the number of running requests beyond which each takes GammaKnee
	// instead; 0 for none.
	Knee      int     `json:"kneeSequences,omitempty"`
	GammaKnee float64 `json:"gammaSecondsBeyondKnee,omitempty"`
	// MaxSeqs is how many requests run at most. As many may wait; beyond, the
	// answer is 429, as KAITO's guard has it.
	MaxSeqs int `json:"maxSequences"`
	// KVTokens is how many tokens the KV cache holds, Block how many a block of
	// it; 0 for vLLM's 16.
	KVTokens int `json:"kvTokens"`
	Block    int `json:"blockTokens,omitempty"`
	// Chunk is how many tokens one step takes at most.
	Chunk       int         `json:"tokensPerStep"`
	Speculation Speculation `json:"speculation,omitzero"`
}

// Speculation is decoding with drafts: a step gives a request one token and the
// drafts that are accepted. Its price is in Alpha and Gamma.
type Speculation struct {
	// Tokens are drafted for each step, 0 for no speculation. Each is accepted
	// with the probability Acceptance if all before it were.
	Tokens     int     `json:"tokens"`
	Acceptance float64 `json:"acceptance"`
}

// mean is how many tokens a step gives a request on average, ≥ 1.
func (s Speculation) mean() float64 {
	mean, all := 1.0, 1.0
	for range s.Tokens {
		all *= s.Acceptance
		mean += all
	}
	return mean
}

//go:embed engines/*.json
var engineFiles embed.FS

// Engines are the presets, in the order of tables: engines/NAME.json, each with
// its source. In a steady batch each step works off in/out prompt tokens for
// each running request, so a published slope is Gamma + Beta × in/out.
var Engines = presets("phi-4-mini-a100", "phi-4-mini-h100", "llama-3.1-8b-a100", "llama-3.1-8b-h100", "llama-3.3-70b-2x2-h100")

func presets(names ...string) []Engine {
	engines := make([]Engine, len(names))
	for i, name := range names {
		file := "engines/" + name + ".json"
		data, err := engineFiles.ReadFile(file)
		if err == nil {
			engines[i], err = ParseEngine(data)
		}
		if err != nil {
			panic(fmt.Sprintf("%s: %v", file, err)) // of this very package: a test reads each
		}
	}
	return engines
}

// EngineNamed is the preset of that name.
func EngineNamed(name string) (Engine, error) {
	i := slices.IndexFunc(Engines, func(e Engine) bool { return e.Name == name })
	if i < 0 {
		return Engine{}, fmt.Errorf("engine %q is not known: it must be one of %q", name, EngineNames())
	}
	return Engines[i], nil
}

// EngineNames are the presets' names.
func EngineNames() []string {
	names := make([]string, len(Engines))
	for i := range Engines {
		names[i] = Engines[i].Name
	}
	return names
}

// step is the time of a step with so many running and no prompt.
func (e *Engine) step(running int) float64 {
	if e.Knee > 0 && running > e.Knee {
		return e.Alpha + e.Gamma*float64(e.Knee) + e.GammaKnee*float64(running-e.Knee)
	}
	return e.Alpha + e.Gamma*float64(running)
}

// Cost is the engine time that a request takes from all others, in seconds:
// work arriving at one second a second saturates a replica.
func (e *Engine) Cost(in, out float64) float64 {
	steps := out / e.Speculation.mean()
	return e.Beta*in + e.Gamma*steps + e.Delta*(in+out/2)*steps
}

// Capacity is how many requests a second one replica serves in a steady batch
// at an inter-token latency of itl seconds, or, if empty steps take longer already,
// with the batch full.
func (e *Engine) Capacity(in, out, itl float64) float64 {
	mean := e.Speculation.mean()
	// What a request more makes a step longer, below the knee.
	slope := e.Gamma + e.Beta*mean*in/out + e.Delta*(in+out/2)
	limit := min(float64(e.MaxSeqs), float64(e.KVTokens)/(in+out/2))
	running := (itl*mean - e.Alpha) / slope
	if running > 0 && running <= limit && (e.Knee == 0 || running <= float64(e.Knee)) {
		return (1 - e.Idle(itl)) / e.Cost(in, out)
	}
	at := func(running float64) float64 {
		step := e.Alpha + slope*running
		if e.Knee > 0 {
			step += (e.GammaKnee - e.Gamma) * max(0, running-float64(e.Knee))
		}
		return running * mean / out / step
	}
	if knee := float64(e.Knee); e.Knee > 0 && running > knee && knee < limit {
		beyond := (itl*mean - e.Alpha - slope*knee) / (slope - e.Gamma + e.GammaKnee)
		return max(at(knee), at(min(knee+beyond, limit)))
	}
	return at(limit)
}

// idleTTFT is the time to a request's first token on an idle replica, in seconds.
func (e *Engine) idleTTFT(r *Request) float64 {
	in := float64(r.In)
	steps := math.Ceil(in / float64(e.Chunk))
	return steps*e.step(1) + e.Beta*in + e.Delta*in*steps/2
}

// idleITL is the mean time between a request's tokens there.
func (e *Engine) idleITL(r *Request) float64 {
	return (e.step(1) + e.Delta*(float64(r.In)+float64(r.Out)/2)) / e.Speculation.mean()
}

// Idle is the share of a replica's time that empty steps take at an inter-token
// latency of itl seconds: at 1 or above, nothing is left for requests.
func (e *Engine) Idle(itl float64) float64 { return e.Alpha / (itl * e.Speculation.mean()) }

// PeakTokensPerMinute is what KAITO's start-up benchmark would find: 2048 tokens
// in and 256 out, with as many running as may, or as the KV cache has room for.
func (e *Engine) PeakTokensPerMinute() float64 {
	const in, out = 2048, 256
	full := min(float64(e.MaxSeqs), max(1, float64(e.KVTokens)/(in+out/2)))
	mean := e.Speculation.mean()
	step := e.step(int(full)) + e.Beta*full*mean*in/out + e.Delta*full*(in+out/2)
	return full * mean / step * (in + out) / out * 60
}

// Scaled is the engine made as fast as KAITO's benchmark found a replica to be,
// in tokens a minute.
func (e *Engine) Scaled(peakTokensPerMinute float64) Engine {
	slower := e.PeakTokensPerMinute() / peakTokensPerMinute
	scaled := *e
	scaled.Alpha, scaled.Beta, scaled.Delta = e.Alpha*slower, e.Beta*slower, e.Delta*slower
	scaled.Gamma, scaled.GammaKnee = e.Gamma*slower, e.GammaKnee*slower
	return scaled
}

// needsSteps says what of it the fluid engine doesn't have; "" if nothing.
func (e *Engine) needsSteps() string {
	switch {
	case e.Delta > 0:
		return "deltaSecondsPerContextToken"
	case e.Speculation.Tokens > 0:
		return "speculation"
	}
	return ""
}
