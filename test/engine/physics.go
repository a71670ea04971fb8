package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Physics describes an engine on its GPU. A step takes
//
//	α + β × prompt tokens + γ × sequences + δ × context tokens
//
// where a sequence beyond the knee costs GammaBeyondKnee instead of γ. The JSON is
// that of `keda-kaito-scaler simulate --engine FILE`.
type Physics struct {
	Name   string `json:"name"`
	Source string `json:"source,omitempty"`
	// Alpha to Delta are in seconds.
	Alpha float64 `json:"alphaSeconds"`
	Beta  float64 `json:"betaSecondsPerPromptToken"`
	Gamma float64 `json:"gammaSecondsPerSequence"`
	Delta float64 `json:"deltaSecondsPerContextToken"`
	// Knee is a number of sequences, 0 for none.
	Knee            int     `json:"kneeSequences"`
	GammaBeyondKnee float64 `json:"gammaSecondsBeyondKnee"`
	// MaxSequences run at once; KVTokens fit into the KV cache; a step works off
	// TokensPerStep at most.
	MaxSequences  int `json:"maxSequences"`
	KVTokens      int `json:"kvTokens"`
	TokensPerStep int `json:"tokensPerStep"`
}

// SlowGPU is slow enough that a CPU keeps up with several of them: with 16 sequences
// a step takes 46 ms, of which the CPU works a sixth.
func SlowGPU() Physics {
	return Physics{
		Name: "slow", Source: "made up, for tests on two cores",
		Alpha: 0.030, Beta: 0.0003, Gamma: 0.001,
		MaxSequences: 16, KVTokens: 65536, TokensPerStep: 2048,
	}
}

// ReadPhysics reads a description from a file.
func ReadPhysics(path string) (Physics, error) {
	content, err := os.ReadFile(path) //nolint:gosec // The user's own choice.
	if err != nil {
		return Physics{}, fmt.Errorf("reading an engine's physics: %w", err)
	}
	var p Physics
	if err := json.Unmarshal(content, &p); err != nil {
		return Physics{}, fmt.Errorf("reading an engine's physics from %s: %w", path, err)
	}
	if err := p.check(); err != nil {
		return Physics{}, fmt.Errorf("an engine's physics in %s: %w", path, err)
	}
	return p, nil
}

func (p Physics) check() error {
	switch {
	case p.Alpha < 0, p.Beta < 0, p.Gamma < 0, p.Delta < 0, p.GammaBeyondKnee < 0:
		return errors.New("a time is negative")
	case p.Alpha+p.Gamma == 0:
		return errors.New("a step takes no time: alphaSeconds and gammaSecondsPerSequence are 0")
	case p.MaxSequences < 1:
		return fmt.Errorf("maxSequences is %d, must be at least 1", p.MaxSequences)
	case p.KVTokens < blockSize:
		return fmt.Errorf("kvTokens is %d, must be at least %d", p.KVTokens, blockSize)
	case p.TokensPerStep < p.MaxSequences:
		return fmt.Errorf("tokensPerStep is %d, must be at least maxSequences, %d", p.TokensPerStep, p.MaxSequences)
	}
	return nil
}
