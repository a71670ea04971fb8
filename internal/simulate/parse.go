package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
)

// maxEngineFile is more than a description of an engine ever takes, in bytes.
const maxEngineFile = 1 << 20

// ReadEngine reads an engine's description: a JSON object as in engines/*.json.
func ReadEngine(from io.Reader) (Engine, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxEngineFile+1))
	if err != nil {
		return Engine{}, err
	}
	if len(data) > maxEngineFile {
		return Engine{}, fmt.Errorf("more than %d bytes: this is no description of an engine", maxEngineFile)
	}
	return ParseEngine(data)
}

// ParseEngine reads an engine's description. It is strict: a key that it doesn't
// know is a typing error, and a number that is missing is no zero. Errors name the
// key and the rule; there may be several.
func ParseEngine(data []byte) (Engine, error) {
	var e Engine
	var speculation json.RawMessage
	errs := parseObject(data, fields{
		"name":                        {into: &e.Name, required: true},
		"source":                      {into: &e.Source},
		"alphaSeconds":                {into: &e.Alpha, required: true, low: 1e-6, high: 60},
		"betaSecondsPerPromptToken":   {into: &e.Beta, required: true, high: 1},
		"gammaSecondsPerSequence":     {into: &e.Gamma, required: true, high: 1},
		"deltaSecondsPerContextToken": {into: &e.Delta, high: 1},
		"kneeSequences":               {into: &e.Knee, high: 1 << 16},
		"gammaSecondsBeyondKnee":      {into: &e.GammaKnee, high: 1},
		"maxSequences":                {into: &e.MaxSeqs, required: true, low: 1, high: 1 << 16},
		"kvTokens":                    {into: &e.KVTokens, required: true, low: 1, high: 1e9},
		"blockTokens":                 {into: &e.Block, low: 1, high: 1 << 16},
		"tokensPerStep":               {into: &e.Chunk, required: true, low: 1, high: 1 << 24},
		"speculation":                 {into: &speculation},
	})
	if len(speculation) > 0 {
		for _, err := range parseObject(speculation, fields{
			"tokens":     {into: &e.Speculation.Tokens, required: true, low: 1, high: 64},
			"acceptance": {into: &e.Speculation.Acceptance, required: true, high: 1},
		}) {
			errs = append(errs, fmt.Errorf("speculation: %w", err))
		}
	}
	if len(errs) == 0 {
		errs = e.check()
	}
	if len(errs) > 0 {
		return Engine{}, errors.Join(errs...)
	}
	return e, nil
}

// check holds what several keys must be together.
func (e *Engine) check() []error {
	var errs []error
	if e.Name == "" || len(e.Name) > 100 {
		errs = append(errs, errors.New("name: must have 1 to 100 bytes"))
	}
	if (e.Knee > 0) != (e.GammaKnee > 0) {
		errs = append(errs, fmt.Errorf("kneeSequences %d and gammaSecondsBeyondKnee %g: must both be above 0, or neither", e.Knee, e.GammaKnee))
	}
	if e.Chunk < e.MaxSeqs {
		errs = append(errs, fmt.Errorf("tokensPerStep %d: must be at least maxSequences %d, as vLLM demands", e.Chunk, e.MaxSeqs))
	}
	if e.KVTokens < e.block() {
		errs = append(errs, fmt.Errorf("kvTokens %d: must hold a block of %d tokens", e.KVTokens, e.block()))
	}
	if e.Beta == 0 && e.Gamma == 0 {
		errs = append(errs, errors.New("betaSecondsPerPromptToken and gammaSecondsPerSequence: one of them must be above 0"))
	}
	return errs
}

// block is how many tokens a block of the KV cache holds.
func (e *Engine) block() int {
	if e.Block == 0 {
		return 16
	}
	return e.Block
}

// field is a key of an object: where its value goes, and for a number what it
// must be.
type field struct {
	into      any
	required  bool
	low, high float64
}

type fields map[string]field

// parseObject reads an object's keys, of which each stands once and in its own
// spelling: encoding/json by itself ignores the case and takes the last of two.
func parseObject(data []byte, known fields) []error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return []error{errors.New("must be a JSON object")}
	}
	var errs []error
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return append(errs, err)
		}
		key, _ := token.(string) // a key is nothing else
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return append(errs, fmt.Errorf("%s: %w", key, err))
		}
		f, found := known[key]
		switch {
		case !found:
			errs = append(errs, fmt.Errorf("%q is not known: it must be one of %q", key, slices.Sorted(maps.Keys(known))))
		case seen[key]:
			errs = append(errs, fmt.Errorf("%s: stands there twice", key))
		default:
			if err := f.parse(value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
			}
		}
		seen[key] = true
	}
	if _, err := dec.Token(); err != nil {
		return append(errs, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		errs = append(errs, errors.New("something follows the object"))
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if known[key].required && !seen[key] {
			errs = append(errs, fmt.Errorf("%s: is missing", key))
		}
	}
	return errs
}

// parse reads a value.
func (f *field) parse(value json.RawMessage) error {
	if raw, ok := f.into.(*json.RawMessage); ok {
		*raw = value
		return nil
	}
	kind := map[bool]string{true: "must be a whole number", false: "must be a number"}
	var number float64
	var err error
	switch into := f.into.(type) {
	case *string:
		if value[0] != '"' {
			return fmt.Errorf("%s: must be a string", value)
		}
		return json.Unmarshal(value, into)
	case *int:
		err = json.Unmarshal(value, into)
		number = float64(*into)
	case *float64:
		err = json.Unmarshal(value, into)
		number = *into
	}
	_, whole := f.into.(*int)
	if err != nil || string(value) == "null" {
		return fmt.Errorf("%.40s: %s", value, kind[whole])
	}
	if math.IsNaN(number) || number < f.low || number > f.high {
		return fmt.Errorf("%s: must be from %g to %g", value, f.low, f.high)
	}
	return nil
}
