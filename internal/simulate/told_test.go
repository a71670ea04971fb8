package simulate

import (
	"testing"
	"time"
)

// What an owner must be told is looked for in the newest reason, as a number that is
// near the true one.
func TestWhatAnOwnerMustBeTold(t *testing.T) {
	slow := calm(1)
	slow.Engine.Alpha, slow.Engine.Gamma = .08, .001
	for reason, want := range map[string][2]bool{
		"3 is right; 1.2 % of the requests are late at any load":        {true, false},
		"3 is right; 12 % of the requests are late at any load":         {false, false},
		"3 is right (each 81.5 % busy); an idle replica takes 80 ms":    {false, true},
		"3 is right; an idle replica takes 60 ms":                       {false, false},
		"3 is right; 0.9 % are late at any load, an idle one 85 ms off": {true, true},
		"": {false, false},
	} {
		r := &Result{Requests: 1000, Incurable: 11, Reason: reason}
		if got := [2]bool{tellsIncurable(r, slow) == "", tellsSlowTokens(r, slow) == ""}; got != want {
			t.Errorf("%q tells %v, want %v", reason, got, want)
		}
	}
}

// A step that goes further than it was decided is found, in either direction; one that
// the HPA's rules shorten isn't.
func TestAStepBeyondTheDecision(t *testing.T) {
	for reason, wrong := range map[string][2]bool{
		"40 → 39: enough":     {true, true},
		"40 → 36: enough":     {false, true},
		"40 → 20: enough":     {false, true},
		"40 → 41: too little": {true, true},
		"40 → 48: too little": {true, false},
		"":                    {false, false},
	} {
		for i, to := range []int32{36, 44} {
			r := &Result{Moves: []Move{{At: time.Hour, From: 40, To: to, Reason: reason}}}
			down := i == 0
			want := wrong[i]
			if got := asDecided(r, Setting{}) != ""; got != want {
				t.Errorf("%q, down %t: found %t, want %t", reason, down, got, want)
			}
		}
	}
}

// The name of one family that is missing is enough.
func TestAMissingFamilyIsReported(t *testing.T) {
	s := calm(1)
	s.Missing = []string{"vllm:a", "vllm:b"}
	if tellsMissing(&Result{Reason: "2 is right; no page has vllm:b"}, s) != "" || tellsMissing(&Result{Reason: "2 is right"}, s) == "" {
		t.Error("what is told isn't found, or what isn't is")
	}
}
