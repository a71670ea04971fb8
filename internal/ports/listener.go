// Package ports bounds what a client can take of the process at its ports: the
// number of connections, bytes, time. What is answered there is the caller's.
package ports

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Limits are a port's.
type Limits struct {
	// Connections is how many are open at once. One more closes a connection of
	// the client with the most, an address, the oldest one that has said nothing
	// or else the oldest: whoever opens many loses its own, and a client with one
	// is let in and stays.
	Connections int
	// Bytes is how many a client sends on a connection that isn't trusted, before
	// it is closed; 0 for any number.
	Bytes int64
}

// Listener holds a port to its limits.
type Listener struct {
	net.Listener
	limits Limits

	// mu guards conns, the open ones, oldest first.
	mu    sync.Mutex
	conns []*conn
}

// Listen listens on a TCP address within limits.
func Listen(ctx context.Context, address string, limits Limits) (*Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return Limit(listener, limits), nil
}

// Limit holds a listener to limits.
func Limit(listener net.Listener, limits Limits) *Listener {
	return &Listener{Listener: listener, limits: limits}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // servers look for net.Error and net.ErrClosed
	}
	c := &conn{Conn: accepted, client: client(accepted.RemoteAddr()), listener: l}
	if excess := l.add(c); excess != nil {
		excess.abort()
	}
	return c, nil
}

// client is what connections are counted by. Ports differ between connections.
func client(address net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return netip.Addr{} // not TCP: all are one client's
	}
	return at.Addr().Unmap()
}

// add returns the connection to close for the new one, if any.
func (l *Listener) add(c *conn) (excess *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	if len(l.conns) <= l.limits.Connections {
		return nil
	}
	excess = l.toClose()
	l.conns = slices.DeleteFunc(l.conns, func(c *conn) bool { return c == excess })
	return excess
}

// toClose is the connection to close for the newest. It needs mu.
func (l *Listener) toClose() *conn {
	older := l.conns[:len(l.conns)-1]
	candidates := slices.DeleteFunc(slices.Clone(older), func(c *conn) bool { return c.trusted.Load() })
	if len(candidates) == 0 {
		candidates = older
	}
	count := map[netip.Addr]int{}
	for _, c := range candidates {
		count[c.client]++
	}
	// The first of equals: the oldest.
	return slices.MinFunc(candidates, func(a, b *conn) int {
		return cmp.Or(cmp.Compare(count[b.client], count[a.client]), cmp.Compare(a.spoke(), b.spoke()))
	})
}

func (l *Listener) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = slices.DeleteFunc(l.conns, func(other *conn) bool { return other == c })
}

// Trust lifts the limit on bytes from a connection that a Listener accepted, and
// closes others in favour of it: for a client that has shown its certificate.
func Trust(accepted net.Conn) {
	if c, ok := accepted.(*conn); ok {
		c.trusted.Store(true)
	}
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	client   netip.Addr
	listener *Listener
	trusted  atomic.Bool
	// received counts bytes.
	received atomic.Int64
}

// spoke is 0 while the client has said nothing, and then 1.
func (c *conn) spoke() int64 { return min(c.received.Load(), 1) }

// errTooMuch ends a connection whose client sends more than it may.
var errTooMuch = errors.New("the client sent too much")

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	limit := c.listener.limits.Bytes
	if limit > 0 && !c.trusted.Load() {
		left := limit - c.received.Load()
		if left <= 0 {
			return 0, errTooMuch
		}
		b = b[:min(int64(len(b)), left)]
	}
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err //nolint:wrapcheck // io.EOF has to stay what it is
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.listener.remove(c)
	return c.Conn.Close() //nolint:wrapcheck // net.ErrClosed has to stay what it is
}

// abort closes without the kernel keeping what wasn't sent or acknowledged yet.
func (c *conn) abort() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}
