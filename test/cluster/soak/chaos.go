package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// deedKind is a thing that goes wrong.
type deedKind int

const (
	hang deedKind = iota
	refuse
	garbage
	slow
	flap
	restart
	crash
	deletePod
	deleteReplica
	upgrade
	leave
	deleteSecret
	outage
	killScaler
	stopScaler
)

func (k deedKind) String() string {
	return [...]string{
		"pod hangs", "pod refuses", "pod sends garbage", "pod turns slow", "readiness flaps", "engine restarts",
		"pod crashes", "pod deleted", "replica deleted", "upgrade", "InferenceSet leaves and comes back",
		"Secret deleted", "API server away", "scaler killed", "scaler replaced",
	}[k]
}

// hides tells whether a pod in that state surely can't be read.
func (k deedKind) hides() bool { return k == hang || k == refuse || k == garbage }

// idles tells whether a pod in that state has nothing to do: its users go to the
// others at once.
func (k deedKind) idles() bool { return k == crash || k == deletePod || k == deleteReplica }

// deed is one of them. pick chooses whom it befalls among those that are there.
type deed struct {
	at    time.Duration // since the start
	kind  deedKind
	pick  uint64
	lasts time.Duration
}

// deeds say how often each happens in the mean, and how long it lasts. Of what
// befalls the whole the mean is a third of the soak at most, so that a short one
// has it too.
var deeds = []struct {
	kind        deedKind
	every       time.Duration
	least, most time.Duration
	whole       bool
}{
	{kind: hang, every: 10 * time.Second, least: 10 * time.Second, most: 3 * time.Minute},
	{kind: refuse, every: 15 * time.Second, least: 10 * time.Second, most: 2 * time.Minute},
	{kind: garbage, every: 15 * time.Second, least: 10 * time.Second, most: 2 * time.Minute},
	{kind: slow, every: 10 * time.Second, least: 20 * time.Second, most: 3 * time.Minute},
	{kind: flap, every: 10 * time.Second, least: 5 * time.Second, most: 40 * time.Second},
	{kind: restart, every: 15 * time.Second},
	{kind: crash, every: 30 * time.Second, least: 20 * time.Second, most: 3 * time.Minute},
	{kind: deletePod, every: 30 * time.Second},
	{kind: deleteReplica, every: 30 * time.Second},
	{kind: upgrade, every: time.Minute, least: 30 * time.Second, most: 2 * time.Minute},
	{kind: leave, every: time.Minute, least: 5 * time.Second, most: time.Minute},
	{kind: deleteSecret, every: 3 * time.Minute, whole: true},
	{kind: outage, every: 12 * time.Minute, least: 5 * time.Second, most: 40 * time.Second, whole: true},
	{kind: killScaler, every: 4 * time.Minute, whole: true},
	{kind: stopScaler, every: 8 * time.Minute, whole: true},
}

// schedule is all that goes wrong in a soak of that length, in its order. The
// same seed gives the same.
func schedule(seed uint64, length time.Duration) []deed {
	var all []deed
	for _, d := range deeds {
		random := rand.New(rand.NewPCG(seed, 1000+uint64(d.kind)))
		every := d.every
		if d.whole {
			every = min(every, length/3)
		}
		for at := gap(random, every); at < length; at += gap(random, every) {
			one := deed{at: at, kind: d.kind, pick: random.Uint64(), lasts: d.least}
			if more := d.most - d.least; more > 0 {
				one.lasts += time.Duration(random.Int64N(int64(more)))
			}
			if d.whole {
				one.lasts = min(one.lasts, every/4)
			}
			all = append(all, one)
		}
	}
	slices.SortStableFunc(all, func(a, b deed) int { return int(a.at - b.at) })
	return all
}

// gap is from half to one and a half of the mean: nothing piles up, and nothing
// fails to come.
func gap(random *rand.Rand, mean time.Duration) time.Duration {
	return mean/2 + time.Duration(random.Int64N(int64(mean)))
}
