package load

import (
	"bytes"
	"slices"
	"strconv"
	"sync"
)

// Progress is what the clients of one load have seen so far, while it runs. The zero
// value is ready for one Client.Run.
type Progress struct {
	mu   sync.Mutex
	seen []Seen
}

// Seen is what the client of one request has seen so far, of its last try.
type Seen struct {
	// Tokens came, in Pieces: several at once under speculation, or to a client that
	// reads late.
	Tokens, Pieces int
	// Done is set once nothing more comes; Outcome says what came of it.
	Done    bool
	Outcome Outcome
}

// Seen returns a copy, in the order of the requests; nil before the load begins.
func (p *Progress) Seen() []Seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// begin and change do nothing if nobody watches.
func (p *Progress) begin(requests int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = make([]Seen, requests)
}

func (p *Progress) change(request int, how func(*Seen)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	how(&p.seen[request])
}

var completionTokens = []byte(`"completion_tokens":`)

// line takes a line of an answer, which tells how many tokens have come up to it.
func (p *Progress) line(request int, line []byte) {
	at := bytes.Index(line, completionTokens)
	if p == nil || at < 0 {
		return
	}
	digits := bytes.TrimLeft(line[at+len(completionTokens):], " ")
	end := bytes.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	tokens, err := strconv.Atoi(string(digits[:max(end, 0)]))
	if err != nil {
		return
	}
	p.change(request, func(s *Seen) {
		if tokens > s.Tokens { // the last line repeats the one before
			s.Tokens, s.Pieces = tokens, s.Pieces+1
		}
	})
}
