package engine

import (
	"errors"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// SlowGPU is slow enough that a CPU keeps up with several of them: with 16 sequences
// a step takes 46 ms, of which the CPU works a sixth.
func SlowGPU() simulate.Engine {
	return simulate.Engine{
		Name: "slow-gpu", Source: "made up, for tests on two cores",
		Alpha: 0.030, Beta: 0.0003, Gamma: 0.001,
		MaxSeqs: 16, KVTokens: 65536, Block: blockSize, Chunk: 2048,
	}
}

// check refuses what the plugin can't emulate, or what no engine would start with.
func check(p simulate.Engine) error {
	switch {
	case p.Speculation.Tokens > 0:
		return errors.New("speculation isn't emulated: the acceptance would be that of random weights")
	case p.KVTokens < blockSize, p.MaxSeqs < 1, p.Chunk < p.MaxSeqs, p.Alpha <= 0:
		return errors.New("the description isn't one that simulate.ReadEngine takes")
	}
	return nil
}
