package automatic

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

var begin = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

const tick = 15 * time.Second

// world is a fleet of replicas of 10 ms steps, 0.03 ms a prompt token and 0.1 ms a
// sequence, at so many requests a second of 1000 tokens in and 200 out.
type world struct {
	t      *testing.T
	scaler Scaler
	policy Policy
	fleet  sample.Fleet
	now    time.Time
	rate   float64
	counts map[string]*[6]float64
	last   Recommendation
	// lowest is the least that was recommended in the newest time.
	lowest int32
	// late is the share of answers that are late, refused how many are a second.
	late, refused float64
}

func newWorld(t *testing.T, replicas int) *world {
	t.Helper()
	w := &world{
		t: t, now: begin, counts: map[string]*[6]float64{},
		policy: Policy{Min: 1, Max: 20, Budget: .01, SLO: sample.SLO{FirstToken: 2.5, PerToken: .075}},
		fleet:  sample.Fleet{Freshness: tick, Interval: 5 * time.Second, PeakTokensPerMinute: 1.2e6},
	}
	for range replicas {
		w.order()
		w.fleet.Replicas[len(w.fleet.Replicas)-1].Phase = sample.Serving
	}
	return w
}

func (w *world) order() *sample.Replica {
	n := len(w.counts)
	name := fmt.Sprintf("ws-%d", n)
	w.counts[name+"-0"] = &[6]float64{}
	w.fleet.Replicas = append(w.fleet.Replicas, sample.Replica{Pod: name + "-0", Phase: sample.Starting, Ordered: w.now})
	w.fleet.Desired++
	return &w.fleet.Replicas[len(w.fleet.Replicas)-1]
}

// plays lets time pass at a rate, without moving the fleet.
func (w *world) plays(d time.Duration, rate float64) Recommendation {
	w.rate, w.lowest = rate, math.MaxInt32
	for range d / tick {
		w.now = w.now.Add(tick)
		serving := 0
		for i := range w.fleet.Replicas {
			if r := &w.fleet.Replicas[i]; r.Phase == sample.Serving && !r.Asleep {
				serving++
			}
		}
		for i := range w.fleet.Replicas {
			if r := &w.fleet.Replicas[i]; r.Phase == sample.Serving && !r.Asleep && r.Failure == "" {
				w.read(r, w.rate/float64(serving))
			}
		}
		w.last = w.scaler.Recommend(w.policy, w.fleet, w.now)
		w.lowest = min(w.lowest, w.last.Replicas)
	}
	return w.last
}

func (w *world) read(r *sample.Replica, rate float64) {
	const in, out, seconds = 1000, 200, 15.0
	load := rate * (in*.00003 + out*.0001)
	perToken := .0101 / max(.02, 1-load)
	c := w.counts[r.Pod]
	for i, x := range []float64{rate, rate * in, rate * out, rate * (out - 1) * perToken, rate * w.late, w.refused} {
		c[i] += x * seconds
	}
	histogram := func(name string, late float64) sample.Family {
		return sample.Family{Name: name, Kind: sample.Histogram, Engines: 1, Buckets: sample.Buckets{
			Le: []float64{.075, 2.5, math.Inf(1)}, Cumulative: []float64{c[0] - late, c[0], c[0]}, Sum: c[3],
		}}
	}
	r.History.Add(sample.NewSample(w.now, []sample.Family{
		{Name: policy.FamilyRunning, Kind: sample.Gauge, Sum: rate * out * perToken, Engines: 1},
		{Name: policy.FamilyWaiting, Kind: sample.Gauge, Engines: 1},
		{Name: policy.FamilyPrompt, Kind: sample.Counter, Sum: c[1], Engines: 1},
		{Name: policy.FamilyGenerated, Kind: sample.Counter, Sum: c[2], Engines: 1},
		{Name: policy.FamilyRejected, Kind: sample.Counter, Sum: c[5], Engines: 1},
		histogram(policy.FamilyTTFT, 0), histogram(policy.FamilyITL, 0), histogram(policy.FamilyTPOT, c[4]),
	}, nil), 2*time.Minute)
	r.Last = r.History.Newest()
}

func (w *world) wants(replicas int32, words string) {
	w.t.Helper()
	if w.last.Replicas != replicas || !strings.Contains(w.last.Reason, words) {
		w.t.Errorf("at %s it recommends %d: %s\nwant %d, and the words %q", w.now.Sub(begin), w.last.Replicas, w.last.Reason, replicas, words)
	}
}

// A request costs 50 ms of a replica's time, of which 86 % can be filled at 75 ms a
// token: three serve 45 requests a second, four 60.
func TestALoadGetsWhatItNeeds(t *testing.T) {
	w := newWorld(t, 4)
	if r := w.plays(30*time.Minute, 40); r.Need < 2.5 || r.Need > 3.6 {
		t.Errorf("40 requests a second need %.2f replicas: %s", r.Need, r.Reason)
	}
	if r := w.plays(3*time.Minute, 90); r.Replicas < 6 || r.Replicas > 10 {
		t.Errorf("90 requests a second get %d replicas: %s", r.Replicas, r.Reason)
	}
}

func TestNothingIsReleasedBeforeAWholeWindowWasWatched(t *testing.T) {
	w := newWorld(t, 4)
	for range 2 {
		if w.plays(29*time.Minute, 10); w.lowest != 4 {
			t.Errorf("%d are recommended of 4 that were watched for 29 minutes", w.lowest)
		}
		if w.plays(11*time.Minute, 10); w.lowest != 3 {
			t.Errorf("%d are recommended of 4, of which one would do for 40 minutes", w.lowest)
		}
		w.now = w.now.Add(10 * time.Minute) // the scaler was away
	}
}

func TestOnlyTheFirstReadyTeachesAColdStart(t *testing.T) {
	w := newWorld(t, 2)
	w.plays(time.Minute, 20)
	w.order()
	w.plays(4*time.Minute, 20)
	r := &w.fleet.Replicas[2]
	r.Phase, r.ReadySince = sample.Serving, w.now
	w.plays(time.Minute, 20)
	if got := w.scaler.coldStart(); got != 4*time.Minute {
		t.Errorf("a replica took 4 minutes, known as %v", got)
	}
	w.plays(3*time.Hour, 20)
	w.fleet.Replicas[2].ReadySince = w.now // it flapped
	w.plays(time.Minute, 20)
	if got := w.scaler.coldStart(); got != 4*time.Minute {
		t.Errorf("a pod that was unready for a moment teaches a cold start of %v", got)
	}
}

func TestAStuckReplicaIsReplacedOnce(t *testing.T) {
	w := newWorld(t, 3)
	w.plays(20*time.Minute, 40)
	need := w.last.Replicas
	w.order().Phase = sample.Broken
	w.plays(time.Minute, 40)
	w.wants(need+1, "1 in place of those that don't come")
	w.order().Phase = sample.Broken
	w.plays(time.Minute, 40)
	w.wants(max(need+1, w.last.Replicas), "1 in place of those that don't come")
	if w.last.Replicas > w.fleet.Desired {
		t.Errorf("the replacement is stuck too, and %d are ordered", w.last.Replicas)
	}
}

func TestASleepingEngineIsNoCapacity(t *testing.T) {
	w := newWorld(t, 4)
	w.plays(20*time.Minute, 40)
	w.fleet.Replicas[0].Asleep = true
	w.plays(20*time.Minute, 40)
	if w.last.Replicas < 4 {
		t.Errorf("one of four sleeps, three are needed, and it goes to %d: %s", w.last.Replicas, w.last.Reason)
	}
}

func TestNothingIsReleasedWhileAPodCannotBeRead(t *testing.T) {
	w := newWorld(t, 4)
	w.plays(9*time.Minute, 10)
	w.fleet.Replicas[1].Failure = "no answer within 2s"
	w.plays(10*time.Minute, 10)
	w.wants(4, "4 is right")
	for i := range w.fleet.Replicas {
		w.fleet.Replicas[i].Failure = "connection refused"
	}
	w.plays(time.Minute, 10)
	if w.last.Known || w.last.Replicas != 4 || !strings.Contains(w.last.Reason, ": connection refused)") {
		t.Errorf("with no pod to read it says %+v", w.last)
	}
}

// A pod short of CPU answers late, and its page times out. Two steps may be wrong; more
// would be a bill for a network that is slow.
func TestPagesThatTimeOutUnderLoadBringTwoStepsUpAndNoMore(t *testing.T) {
	w := newWorld(t, 3)
	w.plays(20*time.Minute, 40)
	timesOut := func() {
		for i := range w.fleet.Replicas {
			w.fleet.Replicas[i].Failure, w.fleet.Replicas[i].TimedOut = "its page took too long", w.now.Add(time.Second)
		}
	}
	timesOut()
	for after, want := range map[time.Duration]int32{15 * time.Second: 3, 30 * time.Second: 6, time.Minute: 12, 5 * time.Minute: 12} {
		again := *w
		again.scaler.pods = maps.Clone(w.scaler.pods)
		if again.plays(after, 40); again.last.Replicas != want {
			t.Errorf("%v after all replicas began to time out it recommends %d, want %d: %s", after, again.last.Replicas, want, again.last.Reason)
		}
	}
	// They were ordered, and read, and time out again.
	w.fleet.Raised = w.now
	for range 3 {
		w.order().Phase = sample.Serving
	}
	for i := range w.fleet.Replicas {
		w.fleet.Replicas[i].Failure, w.fleet.Replicas[i].TimedOut = "", time.Time{}
	}
	w.plays(time.Minute, 40)
	timesOut()
	if w.plays(2*time.Minute, 40); w.last.Replicas != 6 {
		t.Errorf("minutes after the last rise it recommends %d of 6: %s", w.last.Replicas, w.last.Reason)
	}
}

// Clients that are refused try again: nobody knows how many of them there are.
func TestRefusalsBringFourTimesTheReplicasAtMost(t *testing.T) {
	for _, refused := range []float64{5, 60, 1000} {
		w := newWorld(t, 2)
		w.plays(30*time.Minute, 20)
		w.refused = refused
		w.plays(45*time.Second, 20)
		least, most := int32(2), int32(4*2+2)
		if refused > 20 {
			least = 8
		}
		if w.last.Replicas < least || w.last.Replicas > most {
			t.Errorf("each of two takes 10 requests a second and refuses %.0f: %d are ordered: %s", refused, w.last.Replicas, w.last.Reason)
		}
	}
}

// A release that is taken back makes the next ones wait twice as long.
func TestAFleetDoesNotFlap(t *testing.T) {
	w := newWorld(t, 4)
	w.fleet.Raised = w.now
	turns, down := 0, false
	for range 24 * 60 * 4 {
		rate := 25.0
		if w.now.Sub(begin)%time.Hour > 50*time.Minute {
			rate = 50
		}
		w.plays(tick, rate)
		switch to := w.last.Replicas; {
		case to > w.fleet.Desired:
			if down {
				turns++
			}
			down, w.fleet.Raised = false, w.now
			for range to - w.fleet.Desired {
				w.order().Phase = sample.Serving
			}
		case to < w.fleet.Desired:
			if !down {
				turns++
			}
			down, w.fleet.Lowered = true, w.now
			w.fleet.Replicas, w.fleet.Desired = w.fleet.Replicas[:to], to
		}
	}
	if turns > 10 {
		t.Errorf("on ten busy minutes an hour the fleet turns %d times a day", turns)
	}
}

func TestWhatIsLateAtAnyLoadIsToldAndNotBoughtOff(t *testing.T) {
	w := newWorld(t, 4)
	w.late = .05
	for range 20 { // at all loads
		w.plays(6*time.Minute, 5)
		w.plays(6*time.Minute, 25)
		w.plays(6*time.Minute, 40)
	}
	if !strings.Contains(w.last.Reason, "late at any load, which no replica more cures") || w.last.Need > 4.5 {
		t.Errorf("5 %% are late at any load: %.1f replicas are needed: %s", w.last.Need, w.last.Reason)
	}
}

// One answer in a hundred is late by a load that no replica cures: in one reading there
// is one, in most there is none.
func TestChanceUsesUpNoBudget(t *testing.T) {
	w := newWorld(t, 4)
	for i := range 800 {
		if i == 400 { // By now it is known what is late at any load.
			w.scaler.Seen, w.scaler.Missed = 0, 0
		}
		w.late = 0
		if i%5 == 0 {
			w.late = .06
		}
		w.plays(tick, 5)
	}
	if share := w.scaler.Missed / w.scaler.Seen; share > .004 {
		t.Errorf("of 1.2 %% that are late at any load %.2f %% count as missed", 100*share)
	}
}

func TestAnSLOThatAnIdleReplicaCannotKeepIsNotBoughtOff(t *testing.T) {
	w := newWorld(t, 4)
	w.policy.SLO.PerToken = .0101
	w.plays(time.Hour, 20)
	if w.last.Replicas > 4 || !strings.Contains(w.last.Reason, "an idle replica takes") {
		t.Errorf("10.1 ms are promised and taken by an idle replica: %d replicas: %s", w.last.Replicas, w.last.Reason)
	}
}

// Eight replicas that have just become Ready have no share of the load yet: what they
// will have, the one that is read has now.
func TestReplicasThatJoinDoNotMultiplyTheLoad(t *testing.T) {
	w := newWorld(t, 1)
	w.plays(10*time.Minute, 12)
	before := w.last
	for range 8 {
		r := w.order()
		r.Phase, r.ReadySince, r.Expected = sample.Serving, w.now, w.now
	}
	readable := w.fleet.Replicas
	w.now = w.now.Add(tick)
	w.read(&readable[0], 12)
	after := w.scaler.Recommend(w.policy, w.fleet, w.now)
	if after.Need > 1.3*before.Need || after.Demand > 1.3*before.Demand || after.Replicas > 9 {
		t.Errorf("a load of %.1f replicas becomes one of %.1f once eight joined: %s", before.Demand, after.Demand, after.Reason)
	}
	// One that was Ready for long and can't be read has its share.
	for i := range readable[1:] {
		readable[i+1].ReadySince = begin
		readable[i+1].Expected = begin
	}
	w.now = w.now.Add(tick)
	w.read(&readable[0], 12)
	if after := w.scaler.Recommend(w.policy, w.fleet, w.now); after.Demand < 5*before.Demand {
		t.Errorf("eight of nine can't be read since the scaler began, and the load is %.1f, of the one %.1f", after.Demand, before.Demand)
	}
}

// Without quota what was ordered doesn't come, and everything is late: that tells nothing of
// how full a replica may be, and more of them don't come either.
func TestWhatIsLateWhileReplicasDoNotComeUsesUpNoBudget(t *testing.T) {
	for _, phase := range []sample.Phase{sample.Starting, sample.Broken} {
		w := newWorld(t, 3)
		w.plays(time.Hour, 40)
		before := w.scaler.allowed(w.policy)
		for range 2 {
			w.order().Phase = phase
		}
		w.late = .5
		w.plays(20*time.Minute, 40)
		if after := w.scaler.allowed(w.policy); after < .99*before {
			t.Errorf("while two are %v, %.4f may miss the SLO, before %.4f", phase, after, before)
		}
	}
}

// Half an hour in which all was late is over: hours later a replica may be as full as before.
func TestAnOutageIsForgottenWithinHours(t *testing.T) {
	w := newWorld(t, 4)
	w.plays(2*time.Hour, 20)
	before := w.scaler.allowed(w.policy)
	w.late = 1
	w.plays(30*time.Minute, 20)
	w.late = 0
	w.plays(3*time.Hour, 20)
	if after := w.scaler.allowed(w.policy); after < .4*before {
		t.Errorf("three hours after an outage %.4f may miss the SLO, before it %.4f", after, before)
	}
}

// Pages that come late for minutes tell, once they come, of all those minutes: what was late
// in them is not filed as if one of them had done it.
func TestWhatLatePagesTellIsNotFiledAsOneMinute(t *testing.T) {
	w := newWorld(t, 4)
	w.plays(time.Hour, 20)
	before := w.scaler.Model.Late
	for i := range w.fleet.Replicas {
		w.fleet.Replicas[i].Failure = "no answer within 2s"
	}
	w.late = 1
	w.plays(6*time.Minute, 20)
	// All of what was done meanwhile is on the first page.
	for i := range w.fleet.Replicas {
		c := w.counts[w.fleet.Replicas[i].Pod]
		w.fleet.Replicas[i].Failure = ""
		for j, x := range []float64{5, 5 * 1000, 5 * 200, 5 * 199 * .02, 5} {
			c[j] += x * 360
		}
	}
	w.late = 0
	w.plays(2*time.Minute, 20)
	for bin, late := range w.scaler.Model.Late {
		if late > before[bin]+1 {
			t.Errorf("%.0f late ones of six minutes are filed at a load of %.2f", late-before[bin], float64(bin)*.05)
		}
	}
}
