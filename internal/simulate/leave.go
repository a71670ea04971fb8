package simulate

import "math"

// cancelled is when a request's client goes away: when it says, or when it loses
// patience because it was told nothing.
func (s *steps) cancelled(id int32, told bool) float64 {
	at := math.Inf(1)
	if s.load.Cancels != nil {
		at = s.load.Requests[id].At + s.load.Cancels[id]
	}
	if s.patience > 0 && !told {
		at = min(at, s.load.Requests[id].At+s.patience)
	}
	return at
}

// ttft is its time to the first token; 0 if it had none.
func (q *sequence) ttft(load *Load) float64 {
	if !q.told {
		return 0
	}
	return q.first - load.Requests[q.id].At
}

// abort drops the requests whose clients have gone away.
func (s *steps) abort() {
	leaves := math.Inf(1)
	stays := func(q *sequence) bool {
		at := s.cancelled(q.id, q.told)
		if at > s.at {
			leaves = min(leaves, at)
			return true
		}
		s.release(q)
		s.inFlight--
		s.tally.cancel(q.id, q.ttft(s.load), at-s.load.Requests[q.id].At)
		return false
	}
	running := s.running[:0]
	for _, q := range s.running {
		if stays(&q) {
			running = append(running, q)
		}
	}
	s.running = running
	var waiting queue[sequence]
	for _, q := range s.waiting.all() {
		if stays(&q) {
			waiting.push(q)
		}
	}
	s.waiting = waiting
	for _, id := range s.arrived.all() {
		leaves = min(leaves, s.cancelled(id, false))
	}
	s.leaves = leaves
}
