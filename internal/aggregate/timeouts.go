package aggregate

import (
	"fmt"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// Timeouts is what is known of replicas that time out under load.
type Timeouts struct {
	// Pods are they, the first of them last read so long ago.
	Pods []string
	age  time.Duration
	// Limit is the most replicas that they may bring the fleet to.
	Limit int32
}

// add counts a replica whose last reading was loaded, if that leaves room for more.
func (e *Timeouts) add(r *sample.Replica, fleet sample.Fleet, now time.Time) bool {
	limit, ok := fleet.Room(r.Last.At)
	if !ok {
		return false
	}
	if len(e.Pods) == 0 {
		e.age = now.Sub(r.Last.At)
	}
	e.Pods = append(e.Pods, r.Pod)
	e.Limit = max(e.Limit, limit)
	return true
}

// DescribeTimeouts says what counts as load, and how far that goes.
func (e *Timeouts) DescribeTimeouts() string {
	who, stands := e.Pods[0]+" times out", "it stands for that reading, which"
	if more := len(e.Pods) - 1; more > 0 {
		who, stands = fmt.Sprintf("%s and %d more time out", e.Pods[0], more), "they stand for those readings, which"
	}
	return fmt.Sprintf("%s since a loaded reading %s ago: %s brings two steps up at most", who, text.Duration(e.age), stands)
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
		return was.value, Exceeds(was.value, m.threshold)
	}
	family, _ := r.Last.Metric(m.metric)
	last := family.Value()
	since := now.Sub(read)
	before := m.window.Length - since
	if before <= 0 {
		return last, Exceeds(last, m.threshold)
	}
	m.window.Length = before
	sum := m.overWindow(r, &family)*before.Seconds() + last*since.Seconds()
	return sum / (before + since).Seconds(), Exceeds(last, m.threshold)
}
