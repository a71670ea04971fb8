package scrape

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// client GETs one page from one address over one kept connection.
//
// It isn't net/http's because that keeps two goroutines and two buffers for
// each idle connection, 19 KB a pod (measured with 10 000: 250 MB resident),
// where this keeps a socket alone; and
// because a single deadline on the socket bounds everything a pod can do to us:
// connecting, header, body and drips. net/http still reads the response.
type client struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// readers holds *bufio.Reader, for as long as an exchange lasts.
	readers sync.Pool
	// requests holds *[]byte, the request being written.
	requests sync.Pool
	// maxWire bounds a page as it comes, chunks and all; 0 doesn't.
	maxWire int
}

// headLimit bounds status line and header: vLLM's are some 150 bytes, and 64 KiB of
// them could be 16 000 fields.
const headLimit = 16 << 10

// readBuffer holds a header and is by-passed by larger reads of a body. It is
// small because a hung pod holds one for all of its timeout.
const readBuffer = 4 << 10

func newClient() *client {
	// TCP keep-alives would be noise: each connection is used every interval.
	d := &net.Dialer{KeepAlive: -1}
	return &client{
		dial:     d.DialContext,
		readers:  sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }},
		requests: sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }},
	}
}

// link is the connection to one pod, kept between scrapes. One exchange uses
// it at a time; drop may come from anywhere.
type link struct {
	addr netip.AddrPort
	// path begins with a slash.
	path string
	// secure is nil for a pod that is read in plaintext.
	secure *tls.Config

	mu sync.Mutex
	// mu guards everything below.
	conn net.Conn
	// socket is conn, or what conn's TLS is over. It is what gets closed: the
	// end of TLS would have to be written, and so could hang.
	socket  net.Conn
	dropped bool
}

// drop closes the connection, now and for all future: an exchange in flight
// fails at once.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropped = true
	l.end()
}

// end needs mu.
func (l *link) end() {
	if l.socket != nil {
		_ = l.socket.Close()
		l.conn, l.socket = nil, nil
	}
}

// hold makes a connection over socket the link's, unless that has been dropped
// meanwhile.
func (l *link) hold(socket net.Conn) (net.Conn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped {
		_ = socket.Close()
		return nil, false
	}
	l.conn, l.socket = socket, socket
	if l.secure != nil {
		l.conn = tls.Client(socket, l.secure)
	}
	return l.conn, true
}

// idle is the connection of the exchange before, nil if there is none.
func (l *link) idle() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// close ends the connection; the next exchange dials.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
}

// get asks for the link's path?query and gives the response to read, all of it before
// deadline, with the time of its first byte. The connection is kept if read took
// the whole body.
func (c *client) get(ctx context.Context, l *link, query string, deadline time.Time, read func(*http.Response, time.Time) error) error {
	conn := l.idle()
	reused := conn != nil
	br := c.readers.Get().(*bufio.Reader)
	defer func() {
		br.Reset(nil)
		c.readers.Put(br)
	}()
	for {
		if conn == nil {
			var err error
			if conn, err = c.connect(ctx, l, deadline); err != nil {
				return err
			}
		}
		keep, answered, err := c.exchange(conn, br, l, query, deadline, read)
		if !keep || err != nil {
			l.close()
		}
		// A server may close a connection that was idle, and vLLM's does after
		// five seconds: that is no failure of the pod's, and nobody has
		// answered this GET yet.
		f := failureOf(err)
		if reused && !answered && f.reason() == Reset {
			conn, reused = nil, false
			continue
		}
		if f != nil {
			f.accepted = true
			if f.Reason == Reset && !answered && l.secure == nil {
				f.Words += meshWords
			}
			return f
		}
		return nil
	}
}

// meshWords are for a pod that hangs up on a request without a word.
const meshWords = ": it said nothing at all, as behind a service mesh that demands mTLS " +
	"(look for a sidecar and a PeerAuthentication in STRICT mode, and exempt the metrics port)"

func (c *client) connect(ctx context.Context, l *link, deadline time.Time) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	socket, err := c.dial(ctx, "tcp", l.addr.String())
	if err != nil {
		return nil, networkFailure("connecting", err)
	}
	conn, held := l.hold(socket)
	if !held {
		return nil, networkFailure("connecting", net.ErrClosed)
	}
	if secure, ok := conn.(*tls.Conn); ok {
		if err := secure.HandshakeContext(ctx); err != nil {
			l.close()
			f := handshakeFailure(err)
			f.accepted = true
			return nil, f
		}
	}
	return conn, nil
}

// exchange writes one request and reads one response. keep tells whether the
// connection can carry another, answered whether the server said anything.
func (c *client) exchange(conn net.Conn, br *bufio.Reader, l *link, query string, deadline time.Time, read func(*http.Response, time.Time) error) (keep, answered bool, err error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return false, false, networkFailure("asking", err)
	}
	buf := c.requests.Get().(*[]byte)
	*buf = appendRequest((*buf)[:0], l, query)
	_, err = conn.Write(*buf)
	c.requests.Put(buf)
	if err != nil {
		return false, false, networkFailure("asking", err)
	}
	limited := limitedConn{conn: conn, left: headLimit}
	br.Reset(&limited)
	if _, err := br.Peek(1); err != nil {
		return false, false, networkFailure("waiting for the page", err)
	}
	began := time.Now()
	resp, err := http.ReadResponse(br, nil) //nolint:bodyclose // the connection is closed, unless the body was read to its end
	if err != nil {
		if limited.left <= 0 {
			return false, true, failf(BadHTTP, "the response's header is over %d KiB", headLimit>>10)
		}
		if limited.err != nil {
			// The parser calls half a line malformed, whatever it was cut off by.
			err = limited.err
		}
		return false, true, networkFailure("reading the response's header", err)
	}
	limited.left = -1
	if c.maxWire > 0 {
		limited.left = c.maxWire
	}
	if err := read(resp, began); err != nil {
		if limited.left == 0 {
			err = failf(TooLarge, "the page takes over %s on the wire", size(int64(c.maxWire)))
		}
		return false, true, err
	}
	return !resp.Close && br.Buffered() == 0, true, nil
}

// limitedConn reads at most left bytes of conn, or any number if left is
// negative. http.ReadResponse knows no limit of its own.
type limitedConn struct {
	conn net.Conn
	left int
	// err is what ended the reading.
	err error
}

func (l *limitedConn) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if l.left > 0 && len(p) > l.left {
		p = p[:l.left]
	}
	n, err := l.conn.Read(p)
	if l.left > 0 {
		l.left -= n
	}
	l.err = err
	return n, err
}

func appendRequest(b []byte, l *link, query string) []byte {
	b = append(append(b, "GET "...), l.path...)
	if query != "" {
		b = append(append(b, '?'), query...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = l.addr.AppendTo(b)
	return append(b, "\r\nUser-Agent: keda-kaito-scaler\r\nAccept: text/plain;version=0.0.4\r\nAccept-Encoding: identity\r\n\r\n"...)
}
