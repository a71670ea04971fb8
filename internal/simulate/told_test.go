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

// A fleet that shrinks for good hasn't collapsed, nor has one that is small.
func TestAFleetThatCollapses(t *testing.T) {
	course := func(desired ...int32) *Result {
		r := &Result{}
		for _, n := range desired {
			for range 15 {
				r.Minutes = append(r.Minutes, Minute{Desired: n})
			}
		}
		return r
	}
	for name, tt := range map[string]struct {
		course    *Result
		collapses bool
	}{
		"24 → 3 → 24":      {course(24, 3, 24), true},
		"24 → 3":           {course(24, 3, 4, 3), false},
		"24 → 20 → 24":     {course(24, 20, 24), false},
		"3 → 1 → 3":        {course(3, 1, 3), false},
		"slowly, and back": {course(24, 18, 12, 8, 6, 12, 24), false},
	} {
		if got := collapsed(tt.course, Setting{}); (got != "") != tt.collapses {
			t.Errorf("%s: %q", name, got)
		}
	}
}
