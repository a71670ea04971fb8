package decision

import (
	"fmt"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// evidence is what is known of replicas that time out under load.
type evidence struct {
	// pods are they, the first of them last read so long ago.
	pods []string
	age  time.Duration
	// limit is the most replicas that they may bring the fleet to.
	limit int32
}

// add counts a replica whose last reading was loaded, if that leaves room for more.
func (e *evidence) add(r *sample.Replica, fleet sample.Fleet, now time.Time) bool {
	limit, ok := fleet.Room(r.Last.At)
	if !ok {
		return false
	}
	if len(e.pods) == 0 {
		e.age = now.Sub(r.Last.At)
	}
	e.pods = append(e.pods, r.Pod)
	e.limit = max(e.limit, limit)
	return true
}

// words say what was taken for load, and how far that goes.
func (e *evidence) words() string {
	who, stands := e.pods[0]+" times out", "it stands for that reading, which"
	if more := len(e.pods) - 1; more > 0 {
		who, stands = fmt.Sprintf("%s and %d more time out", e.pods[0], more), "they stand for those readings, which"
	}
	return fmt.Sprintf("%s since a loaded reading %s ago: %s brings two steps up at most", who, duration(e.age), stands)
}

// lately is the value of a replica that times out, if its last reading is above the
// threshold. Over a window it goes on as it was read last.
func (m measurement) lately(r *sample.Replica, now time.Time) (value float64, loaded bool) {
	read := r.Last.At
	m.window.Now = read
	was := m.of(r, 0, read)
	if was.why != "" || was.warming {
		return 0, false
	}
	if m.statistic != mean {
		return was.value, exceeds(was.value, m.threshold)
	}
	family, _ := find(r.Last, m.metric)
	last := family.Value()
	since := now.Sub(read)
	before := m.window.Length - since
	if before <= 0 {
		return last, exceeds(last, m.threshold)
	}
	m.window.Length = before
	sum := m.over(r, &family)*before.Seconds() + last*since.Seconds()
	return sum / (before + since).Seconds(), exceeds(last, m.threshold)
}

// loaded tells whether an engine was full when it was read last: requests waited, or
// more ran than do at the promised time between tokens.
func loaded(r *sample.Replica, s Saturation) bool {
	if value(r.Last, familyWaiting) > 0 {
		return true
	}
	first, last := r.History.Ends(r.Last.At.Add(-sight))
	running := value(last, familyRunning)
	d := stretch{first, last}
	return running > 0 && d.seconds() > 0 && running >= d.gain(familyGenerated)/d.seconds()*s.ITL.Seconds()
}

// goesOn is the replica as if it had been read just now as it was read last.
func goesOn(r sample.Replica, now time.Time) sample.Replica {
	by := now.Sub(r.Last.At)
	var lately []*sample.Sample
	for s := range r.History.Backward() {
		if r.Last.At.Sub(s.At) <= 2*sight {
			lately = append(lately, s)
		}
	}
	r.History, r.Failure = sample.History{}, ""
	for _, s := range slices.Backward(lately) {
		later := *s
		later.At = s.At.Add(by)
		r.History.Add(&later, time.Hour)
	}
	r.Last = r.History.Newest()
	return r
}

// underLoad is the least load that the fleet could have if those of the lost that time
// out since a loaded reading still have it, and who they are.
func underLoad(fleet sample.Fleet, lost []Unread, s Saturation, now time.Time) (sample.Fleet, evidence) {
	var e evidence
	least := unburdened(fleet, lost)
	for i := range fleet.Replicas {
		r := &fleet.Replicas[i]
		if r.TimesOut(fleet.Freshness, now) && mute(r, now.Sub(r.Last.At), now) == "" && loaded(r, s) && e.add(r, fleet, now) {
			least.Replicas[i] = goesOn(*r, now)
		}
	}
	return least, e
}

// evidently is the verdict with that evidence, where it asks for more.
func (v Verdict) evidently(likely Verdict, e evidence) Verdict {
	to := min(likely.Replicas, e.limit)
	if likely.Answer == Unknown || to <= max(v.Replicas, v.Desired) {
		return v
	}
	v.Answer, v.Waiting, v.Replicas, v.Load = Bounded, false, to, likely.Load
	v.Reason = fmt.Sprintf("%d → %d: %s; %s", v.Desired, to, facts(likely.Reason), e.words())
	return v
}
