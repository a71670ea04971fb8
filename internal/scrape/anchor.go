package scrape

import (
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

// anchor puts the times of replicas, which are the API server's and of the wall
// clock, on this process's own clock: a time that was seen once is so long ago
// from then on, whatever becomes of the wall clock. Otherwise a clock that jumps
// an hour ahead would make every replica that starts an overdue one, of which 30
// minutes are too many.
func anchor(replicas, before []kaito.Replica, now time.Time) {
	for i := range replicas {
		r := &replicas[i]
		old := predecessor(before, r.Workspace, i)
		r.Ordered = anchored(r.Ordered, old.Ordered, now)
		r.Since = anchored(r.Since, old.Since, now)
		r.Overdue = anchored(r.Overdue, old.Overdue, now)
	}
}

// predecessor is the replica of that Workspace among those before, most likely at the
// same place; without one it is the zero value.
func predecessor(before []kaito.Replica, workspace string, at int) kaito.Replica {
	if at < len(before) && before[at].Workspace == workspace {
		return before[at]
	}
	i := slices.IndexFunc(before, func(r kaito.Replica) bool { return r.Workspace == workspace })
	if i < 0 {
		return kaito.Replica{}
	}
	return before[i]
}

// anchored is a time with the reading of now's monotonic clock; what it was
// before, if it is the same time of the wall clock.
func anchored(t, before, now time.Time) time.Time {
	switch {
	case t.IsZero():
		return t
	case before.Round(0).Equal(t):
		return before
	}
	return now.Add(t.Sub(now))
}
