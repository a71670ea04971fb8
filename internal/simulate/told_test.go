package simulate

import "testing"

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
