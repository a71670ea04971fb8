package scrape

import (
	"compress/gzip"
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
// and tells its format.
func checkResponse(resp *http.Response) (openMetrics, protobuf bool, _ *Failure) {
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return false, false, failf(Redirect, "HTTP %d points to %.100q, which isn't followed", resp.StatusCode, resp.Header.Get("Location"))
	case resp.StatusCode != http.StatusOK:
		return false, false, failf(Status, "HTTP %d instead of 200", resp.StatusCode)
	}
	full := resp.Header.Get("Content-Type")
	if full == "" || strings.HasPrefix(full, "text/plain") {
		return false, false, nil
	}
	media, _, err := mime.ParseMediaType(full)
	switch {
	case err != nil:
		return false, false, failf(BadContent, "content type %.100q can't be read", full)
	case media == "application/openmetrics-text":
		return true, false, nil
	case media == "application/vnd.google.protobuf":
		return false, true, nil
	}
	return false, false, failf(BadContent, "the page is %.100q, not metrics", media)
}

// unpacked is the body without its encoding. Nobody asks for one; a proxy in
// between may still add it.
func unpacked(resp *http.Response) (io.Reader, *Failure) {
	switch encoding := resp.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
		return resp.Body, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, bodyFailure(err)
		}
		return z, nil
	default:
		return nil, failf(BadContent, "content encoding %.100q can't be read", encoding)
	}
}

func bodyFailure(err error) *Failure {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return &Failure{Reason: BadContent, Words: "the page isn't the gzip that it says it is", Err: err}
	}
	return networkFailure("reading the page", err)
}

// readLines passes a body through p, line by line, keeping none of it but what
// p picks: memory doesn't depend on what a pod sends. limit is in unpacked
// bytes.
func (p *selection) readLines(body io.Reader, small []byte, large *chunks, limit int64) *Failure {
	buf := small
	defer func() {
		if len(buf) == chunk {
			large.giveBack(buf)
		}
	}()
	var total int64
	have := 0
	long := false // within a line that is longer than the buffer
	for {
		n, err := body.Read(buf[have:])
		if total += int64(n); total > limit {
			return failf(TooLarge, "the page is over the limit of %s", size(limit))
		}
		have += n
		text := buf[:have]
		if long {
			if text, long = afterNewline(text); long {
				text = text[len(text):]
			}
		}
		rest := p.take(text)
		if len(rest) == len(buf) {
			p.cut(rest)
			rest, long = nil, true
		}
		switch {
		case errors.Is(err, io.EOF):
			// A page ends with a newline; else its last number may be half of one.
			p.cut(rest)
			return nil
		case err != nil:
			return bodyFailure(err)
		}
		if len(buf) < chunk && have == len(buf) {
			// There is more to come than a drip.
			if b := large.borrow(); b != nil {
				have = copy(b, rest)
				buf = b
				continue
			}
		}
		have = copy(buf, rest)
	}
}

// afterNewline returns what follows the first newline; still is true if there
// was none.
func afterNewline(b []byte) (rest []byte, still bool) {
	for i, c := range b {
		if c == '\n' {
			return b[i+1:], false
		}
	}
	return b, true
}

func size(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
