package engines

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

// forwarder gives a server a second address. The kernel moves the bytes (splice), so
// it costs next to nothing.
type forwarder struct {
	listener *net.TCPListener
	to       *net.TCPAddr
	all      sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{} // guarded by mu; nil once closed
}

// forward passes connections to a port of one loopback address on to another's.
func forward(from, to string, port int) (*forwarder, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(from), Port: port})
	if err != nil {
		return nil, fmt.Errorf("listening at %s: %w", net.JoinHostPort(from, strconv.Itoa(port)), err)
	}
	f := &forwarder{
		listener: l, to: &net.TCPAddr{IP: net.ParseIP(to), Port: port}, conns: map[*net.TCPConn]struct{}{},
	}
	f.all.Go(f.accept)
	return f, nil
}

func (f *forwarder) accept() {
	for {
		conn, err := f.listener.AcceptTCP()
		if err != nil {
			return
		}
		f.all.Go(func() { f.pass(conn) })
	}
}

// pass moves bytes both ways until the server's side ends, or the client's does.
func (f *forwarder) pass(client *net.TCPConn) {
	if !f.keep(client) {
		return
	}
	defer f.drop(client)
	server, err := net.DialTCP("tcp4", nil, f.to)
	if err != nil {
		return
	}
	if !f.keep(server) {
		return
	}
	defer f.drop(server)
	f.all.Go(func() {
		_, _ = io.Copy(server, client) // however it ends, the server is told of it
		_ = server.Close()
	})
	_, _ = io.Copy(client, server) // and the client of the server's end
}

// keep notes a connection for close; false if that has been already.
func (f *forwarder) keep(c *net.TCPConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conns == nil {
		_ = c.Close()
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *forwarder) drop(c *net.TCPConn) {
	_ = c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// refuse takes no more connections. Those that there are go on.
func (f *forwarder) refuse() { _ = f.listener.Close() }

// close ends all connections and joins.
func (f *forwarder) close() {
	f.refuse()
	f.mu.Lock()
	for c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
	f.mu.Unlock()
	f.all.Wait()
}
