package scrape

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// chunk is how much of a page is looked at a time: a page of vLLM's comes in
// one or two.
const chunk = 64 << 10

// smallChunk is for pods that drip, and for when there is no chunk left. It is
// less than what comes with a header, so that a page gets its chunk at once.
const smallChunk = readBuffer / 2

// chunks lends out the large buffers. There are at most cap of them, whatever
// the pods do; who gets none reads on in small steps and waits for nobody.
type chunks struct {
	free chan []byte
}

func newChunks(n int) *chunks {
	c := &chunks{free: make(chan []byte, n)}
	for range n {
		c.free <- nil
	}
	return c
}

// borrow returns a large buffer, or nil if all are lent out.
func (c *chunks) borrow() []byte {
	select {
	case b := <-c.free:
		if b == nil {
			b = make([]byte, chunk)
		}
		return b
	default:
		return nil
	}
}

func (c *chunks) giveBack(b []byte) { c.free <- b }

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
	buf := small
	defer func() {
		if len(buf) == chunk {
			large.giveBack(buf)
		}
	}()
	var total int64
	have, scanned := 0, 0
	long := false // within a line that is longer than the buffer
	for {
		n, err := body.Read(buf[have:])
		if total += int64(n); total > limit {
			return failf(TooLarge, "the page is over the limit of %s", size(limit))
		}
		have += n
		text := buf[:have]
		if long {
			end := bytes.IndexByte(text, '\n')
			long = end < 0
			text = text[max(end+1, have*btoi(long)):]
		}
		rest := p.take(text, scanned)
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
		if len(buf) < chunk && have == len(buf) {
			// There is more to come than a drip.
			if b := large.borrow(); b != nil {
				have = copy(b, rest)
				scanned = have
				buf = b
				continue
			}
		}
		if len(rest) == len(buf) {
			p.cut(rest, lineTooLong)
			rest, long = nil, true
		}
		have = copy(buf, rest)
		scanned = have
	}
}

func size(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
