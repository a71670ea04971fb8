package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheSameSeedGivesTheSameSchedule(t *testing.T) {
	one, again, other := schedule(1, time.Hour), schedule(1, time.Hour), schedule(2, time.Hour)
	if diff := cmp.Diff(one, again, cmp.AllowUnexported(deed{})); diff != "" {
		t.Errorf("the schedule of the same seed differs:\n%s", diff)
	}
	if cmp.Equal(one, other, cmp.AllowUnexported(deed{})) {
		t.Error("another seed gives the same schedule")
	}
}

func TestEvenAShortSoakHasEverything(t *testing.T) {
	length := 5 * time.Minute
	seen := map[deedKind]int{}
	for _, d := range schedule(1, length) {
		seen[d.kind]++
		if d.at > length {
			t.Errorf("%s after %s", d.kind, d.at)
		}
	}
	for _, d := range deeds {
		if seen[d.kind] == 0 {
			t.Errorf("no %s within %s", d.kind, length)
		}
	}
	t.Logf("%v", seen)
}
