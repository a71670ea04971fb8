package decision

import (
	"fmt"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// timeouts is what is known of replicas that time out under load.
type timeouts struct {
	// pods are they, the first of them last read so long ago.
	pods []string
	age  time.Duration
	// limit is the most replicas that they may bring the fleet to.
	limit int32
}

// add counts a replica whose last reading was loaded, if that leaves room for more.
func (e *timeouts) add(r *sample.Replica, fleet sample.Fleet, now time.Time) bool {
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

// describe say what was taken for load, and how far that goes.
func (e *timeouts) describeTimeouts() string {
	who, stands := e.pods[0]+" times out", "it stands for that reading, which"
	if more := len(e.pods) - 1; more > 0 {
		who, stands = fmt.Sprintf("%s and %d more time out", e.pods[0], more), "they stand for those readings, which"
	}
	return fmt.Sprintf("%s since a loaded reading %s ago: %s brings two steps up at most", who, duration(e.age), stands)
}

// lastLoad is the value of a replica that times out, if its last reading is above the
// threshold. Over a window it goes on as it was read last.
func (m measurement) lastLoad(r *sample.Replica, now time.Time) (value float64, loaded bool) {
	read := r.Last.At
	m.window.Now = read
	was := m.valueOf(r, 0, read)
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
	sum := m.overWindow(r, &family)*before.Seconds() + last*since.Seconds()
	return sum / (before + since).Seconds(), exceeds(last, m.threshold)
}
