package scrape

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
)

// chunk is how much of a page is looked at a time: a page of vLLM's comes in
// one or two.
const chunk = 64 << 10

// smallChunk is for pods that drip, and for when there is no chunk left. It is
// less than what comes with a header, so that a page gets its chunk at once.
const smallChunk = readBuffer / 2

// chunks lends out the large buffers. There are at most limit of them, whatever
// the pods do; who gets none reads on in small steps and waits for nobody.
type chunks struct {
	limit int

	// mu guards what follows.
	mu   sync.Mutex
	made int
	// free are those that were made and aren't lent, the last one back first: so
	// there are no more than were ever lent at once.
	free [][]byte
}

func newChunks(limit int) *chunks { return &chunks{limit: limit} }

// borrow returns a large buffer, or nil if all are lent out.
func (c *chunks) borrow() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := len(c.free) - 1; last >= 0 {
		b := c.free[last]
		c.free = c.free[:last]
		return b
	}
	if c.made == c.limit {
		return nil
	}
	c.made++
	return make([]byte, chunk)
}

func (c *chunks) giveBack(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, b)
}

// checkResponse refuses what can't be a metrics page by its status and header,
// and tells its format. Text is asked for, without an encoding; exporters that know
// OpenMetrics alone, such as those made with Rust's prometheus-client, answer with
// that whatever is asked for.
func checkResponse(resp *http.Response) (openMetrics bool, _ *Failure) {
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return false, failf(Redirect, "HTTP %d points to %.100q, which isn't followed", resp.StatusCode, resp.Header.Get("Location"))
	case resp.StatusCode != http.StatusOK:
		return false, failf(Status, "HTTP %d instead of 200", resp.StatusCode)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return false, failf(BadContent, "the page comes in the encoding %.100q, which was not asked for: plain text was", encoding)
	}
	full := resp.Header.Get("Content-Type")
	if full == "" || strings.HasPrefix(full, "text/plain") {
		return false, nil
	}
	media, _, err := mime.ParseMediaType(full)
	switch {
	case err != nil:
		return false, failf(BadContent, "content type %.100q can't be read", full)
	case media == "application/openmetrics-text":
		return true, nil
	}
	return false, failf(BadContent, "the page is %.100q, which was not asked for: plain text was", media)
}

// readLines passes a body through p, line by line, keeping none of it but what
// p picks: memory doesn't depend on what a pod sends. limit is in bytes.
func (p *selection) readLines(body io.Reader, small []byte, large *chunks, limit int64) *Failure {
	b := lineBuffer{text: small}
	defer func() {
		if len(b.text) == chunk {
			large.giveBack(b.text)
		}
	}()
	var total int64
	for {
		n, err := body.Read(b.text[b.begun:])
		if total += int64(n); total > limit {
			return failf(TooLarge, "the page is over the limit of %s", size(limit))
		}
		rest := b.pass(n, p)
		switch {
		case p.passed > maxLines:
			return failf(TooLarge, "the page has over %d lines", maxLines)
		case errors.Is(err, io.EOF):
			// A page ends with a newline; else its last number may be half of one.
			p.cut(rest, brokenOff)
			return nil
		case err != nil:
			return networkFailure("reading the page", err)
		}
		b.makeRoom(b.begun+n, rest, p, large)
	}
}

// lineBuffer is what of a body is in memory.
type lineBuffer struct {
	// text begins with a line that isn't over yet, of which begun bytes have come.
	text  []byte
	begun int
	// tooLong is set within a line that is longer than text, of which begun is 0.
	tooLong bool
}

// pass hands p the lines that n more bytes complete, and returns the beginning of the
// next.
func (b *lineBuffer) pass(n int, p *selection) (rest []byte) {
	came := b.text[:b.begun+n]
	if b.tooLong {
		end := bytes.IndexByte(came, '\n')
		if end < 0 {
			return nil
		}
		b.tooLong, came = false, came[end+1:]
	}
	return p.take(came, b.begun)
}

// makeRoom moves the line that isn't over to the beginning of the text, or of a large one
// if all of this one, which has room for a drip, was filled.
func (b *lineBuffer) makeRoom(filled int, rest []byte, p *selection, large *chunks) {
	if len(b.text) < chunk && filled == len(b.text) {
		if larger := large.borrow(); larger != nil {
			b.begun = copy(larger, rest)
			b.text = larger
			return
		}
	}
	if len(rest) == len(b.text) {
		p.cut(rest, lineTooLong)
		rest, b.tooLong = nil, true
	}
	b.begun = copy(b.text, rest)
}
