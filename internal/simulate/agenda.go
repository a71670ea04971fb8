package simulate

import "math/bits"

// running is a request in the batch that has had its first token.
type running struct {
	// due is the iteration at which it has all its tokens, first when it had the
	// first of them.
	due, first float64
	request    Request
	id         int32
	// next is the one after it in its day, or among the free.
	next int32
}

// days are the iterations that an agenda tells apart: more than most requests
// have tokens to wait for.
const days = 1024

// nobody is where a list ends.
const nobody = -1

// agenda is the batch by when its requests are due: a calendar queue, whose day
// is an iteration. What is due a whole calendar later or more stands in the same
// day and is passed over until then. A heap took four times as long.
type agenda struct {
	entries []running
	free    int32
	n       int
	// first is the entry that is due first; nobody in an empty agenda.
	first int32
	lists [days]int32
	// busy has a bit for each day that isn't empty.
	busy [days / 64]uint64
}

func (a *agenda) init() {
	a.free, a.first = nobody, nobody
	for i := range a.lists {
		a.lists[i] = nobody
	}
}

// push enters a request.
func (a *agenda) push(r running) {
	at := a.free
	if at == nobody {
		at = int32(len(a.entries)) //nolint:gosec // ≤ MaxSeqs
		a.entries = append(a.entries, running{})
	} else {
		a.free = a.entries[at].next
	}
	day := uint(r.due) % days
	r.next = a.lists[day]
	a.entries[at] = r
	a.lists[day] = at
	a.busy[day/64] |= 1 << (day % 64)
	if a.n == 0 || r.due < a.entries[a.first].due {
		a.first = at
	}
	a.n++
}

// due is when the first is.
func (a *agenda) due() float64 { return a.entries[a.first].due }

// pop takes the first out. What it points to holds until the next push.
func (a *agenda) pop() *running {
	at := a.first
	gone := &a.entries[at]
	day := uint(gone.due) % days
	link := &a.lists[day]
	for *link != at {
		link = &a.entries[*link].next
	}
	*link = gone.next
	if a.lists[day] == nobody {
		a.busy[day/64] &^= 1 << (day % 64)
	}
	gone.next = a.free
	a.free = at
	a.n--
	a.first = a.after(uint(gone.due))
	return gone
}

// after is the first entry, none of which is due before a day.
func (a *agenda) after(day uint) int32 {
	if a.n == 0 {
		return nobody
	}
	for ahead := uint(0); ahead < days; ahead++ {
		i := (day + ahead) % days
		word := a.busy[i/64] >> (i % 64)
		if word == 0 {
			ahead += 63 - i%64 // to the next word
			continue
		}
		ahead += uint(bits.TrailingZeros64(word))
		if first := a.earliest((day+ahead)%days, day+ahead+1); first != nobody {
			return first
		}
	}
	// All are due a calendar later or more.
	first := int32(nobody)
	for i := range uint(days) {
		if at := a.earliest(i, ^uint(0)); at != nobody && (first == nobody || a.entries[at].due < a.entries[first].due) {
			first = at
		}
	}
	return first
}

// earliest is the first of a day's list that is due before another day.
func (a *agenda) earliest(list, before uint) int32 {
	first := int32(nobody)
	for at := a.lists[list]; at != nobody; at = a.entries[at].next {
		if due := a.entries[at].due; uint(due) < before && (first == nobody || due < a.entries[first].due) {
			first = at
		}
	}
	return first
}

// all are the requests on it, in no order.
func (a *agenda) all() []int32 {
	var requests []int32
	for _, at := range a.lists {
		for ; at != nobody; at = a.entries[at].next {
			requests = append(requests, a.entries[at].id)
		}
	}
	return requests
}
