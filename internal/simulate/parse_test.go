package simulate

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const minimal = `{"name":"x","alphaSeconds":0.01,"betaSecondsPerPromptToken":0.00003,"gammaSecondsPerSequence":0.0001,"maxSequences":256,"kvTokens":600000,"tokensPerStep":2048}`

// Every file of engines/ is a preset, bears its own name, and says where its
// numbers are from; what is written of it is read as the same.
func TestEveryPresetIsReadAndSaysItsSource(t *testing.T) {
	files, err := os.ReadDir("engines")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(Engines) {
		t.Errorf("%d files in engines/, %d presets", len(files), len(Engines))
	}
	for _, file := range files {
		e, err := EngineNamed(strings.TrimSuffix(file.Name(), ".json"))
		if err != nil {
			t.Errorf("%s: %v", file.Name(), err)
		}
		if len(e.Source) < 100 {
			t.Errorf("%s: its source is %q", file.Name(), e.Source)
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadEngine(strings.NewReader(string(text)))
		if diff := cmp.Diff(e, again); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", file.Name(), err, diff)
		}
	}
}

func TestAnEngineHasAllThatItsFileSays(t *testing.T) {
	got, err := ParseEngine([]byte(`{
		"name": "mine", "source": "measured", "alphaSeconds": 0.0078, "betaSecondsPerPromptToken": 3e-5,
		"gammaSecondsPerSequence": 0.00011, "deltaSecondsPerContextToken": 1e-9, "kneeSequences": 68, "gammaSecondsBeyondKnee": 0.0004,
		"maxSequences": 256, "kvTokens": 600000, "blockTokens": 32, "tokensPerStep": 2048, "speculation": {"tokens": 3, "acceptance": 0.6}}`))
	want := Engine{
		Name: "mine", Source: "measured", Alpha: .0078, Beta: .00003, Gamma: .00011, Delta: 1e-9, Knee: 68, GammaKnee: .0004,
		MaxSeqs: 256, KVTokens: 600_000, Block: 32, Chunk: 2048, Speculation: Speculation{Tokens: 3, Acceptance: .6},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if mean := got.Speculation.mean(); mean < 2.175 || mean > 2.177 {
		t.Errorf("3 drafts at 0.6 give %v tokens a step, want 1 + 0.6 + 0.36 + 0.216", mean)
	}
}

func TestAnEngineIsRefusedInWords(t *testing.T) {
	with := func(old, replacement string) string { return strings.Replace(minimal, old, replacement, 1) }
	for text, why := range map[string]string{
		"":                                       "must be a JSON object",
		"[]":                                     "must be a JSON object",
		minimal + minimal:                        "something follows the object",
		minimal[:len(minimal)-1]:                 "EOF",
		with(`"alphaSeconds":0.01,`, ""):         "alphaSeconds: is missing",
		with(`"maxSequences"`, `"maxsequences"`): `"maxsequences" is not known: it must be one of ["alphaSeconds" `,
		with(`"kvTokens":600000`, `"kvTokens":1,"kvTokens":2`): "kvTokens: stands there twice",
		with(`0.01`, `"10ms"`):                                 `alphaSeconds: "10ms": must be a number`,
		with(`0.01`, `null`):                                   "alphaSeconds: null: must be a number",
		with(`0.01`, `0`):                                      "alphaSeconds: 0: must be from 1e-06 to 60",
		with(`0.01`, `1e999`):                                  "alphaSeconds: 1e999: must be a number",
		with(`256`, `2.5`):                                     "maxSequences: 2.5: must be a whole number",
		with(`256`, `0`):                                       "maxSequences: 0: must be from 1 to 65536",
		with(`"x"`, `7`):                                       "name: 7: must be a string",
		with(`"x"`, `""`):                                      "name: must have 1 to 100 bytes",
		with(`2048`, `128`):                                    "tokensPerStep 128: must be at least maxSequences 256, as vLLM demands",
		with(`600000`, `7`):                                    "kvTokens 7: must hold a block of 16 tokens",
		with(`2048`, `2048,"kneeSequences":8`):                 "kneeSequences 8 and gammaSecondsBeyondKnee 0: must both be above 0",
		with(`2048`, `2048,"speculation":{"tokens":3}`):        "speculation: acceptance: is missing",
		with(`2048`, `2048,"speculation":null`):                "speculation: must be a JSON object",
		with(`2048`, `2048,"speculation":{"tokens":3,"acceptance":1.5}`): "speculation: acceptance: 1.5: must be from 0 to 1",
		`{"name":"` + strings.Repeat("x", maxEngineFile) + `"}`:          "no description of an engine",
	} {
		if _, err := ReadEngine(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.120q: %v, want an error with %q", text, err, why)
		}
	}
	// All that is wrong at once.
	if _, err := ParseEngine([]byte(`{"nmae":"x"}`)); err == nil || strings.Count(err.Error(), "\n") < 6 {
		t.Errorf("got %v", err)
	}
}

// What is taken for an engine has steps that end, and is written as it was read.
func FuzzEngine(f *testing.F) {
	for i := range Engines {
		text, err := json.Marshal(Engines[i])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(minimal))
	f.Add([]byte(`{"name":"x","speculation":{"tokens":1,"acceptance":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEngine(text)
		if err != nil {
			return
		}
		if step := e.step(e.MaxSeqs); !(step > 0 && step < 1e6) {
			t.Fatalf("a step takes %v s: %+v", step, e)
		}
		if rate := e.Capacity(1000, 100, 2*e.Alpha); !(rate > 0) {
			t.Fatalf("it serves %v requests a second: %+v", rate, e)
		}
		written, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseEngine(written); err != nil || again != e {
			t.Fatalf("%+v is read as %+v, %v", e, again, err)
		}
	})
}
