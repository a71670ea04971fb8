package ports

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// port is a listener on loopback whose test accepts by hand.
type port struct {
	*testing.T
	*Listener
}

func newPort(t *testing.T, limits Limits) port {
	t.Helper()
	listener, err := Listen(t.Context(), "127.0.0.1:0", limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return port{t, listener}
}

// connect lets a client in: its end, and the server's.
func (p port) connect(from byte) (client, server net.Conn) {
	p.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, from)}}
	client, err := dialer.DialContext(p.Context(), "tcp", p.Addr().String())
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = client.Close() })
	if server, err = p.Accept(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = server.Close() })
	return client, server
}

// says has a client say something, which the server reads.
func (p port) says(client, server net.Conn, text string) {
	p.Helper()
	if _, err := io.WriteString(client, text); err != nil {
		p.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, len(text))); err != nil {
		p.Fatal(err)
	}
}

func (p port) wantClosed(server net.Conn, want bool, who string) {
	p.Helper()
	_, err := server.Write([]byte("."))
	if closed := err != nil; closed != want {
		p.Errorf("%s: closed %t (%v), want %t", who, closed, err, want)
	}
}

func TestWhoOpensManyConnectionsLosesItsOwn(t *testing.T) {
	p := newPort(t, Limits{Connections: 4})
	_, kubelet := p.connect(1)
	var attack []net.Conn
	for range 10 {
		_, server := p.connect(2)
		attack = append(attack, server)
	}
	p.wantClosed(kubelet, false, "an old connection of somebody else")
	_, prometheus := p.connect(3)
	p.wantClosed(prometheus, false, "a new connection of somebody else")
	for i, server := range attack {
		p.wantClosed(server, i < 8, "one of many")
	}
}

func TestSilentConnectionsGoFirstAndThenTheOldest(t *testing.T) {
	p := newPort(t, Limits{Connections: 3})
	first, old := p.connect(1)
	p.says(first, old, "hello")
	_, silent := p.connect(1)
	third, young := p.connect(1)
	p.says(third, young, "hello")
	fourth, newest := p.connect(1)
	p.says(fourth, newest, "hello")
	p.wantClosed(silent, true, "one that has said nothing")
	p.wantClosed(old, false, "one that has spoken")
	_, last := p.connect(1)
	p.wantClosed(last, false, "the newest")
	p.wantClosed(old, true, "the oldest of those that have spoken")
}

func TestATrustedConnectionIsClosedLast(t *testing.T) {
	p := newPort(t, Limits{Connections: 2, Bytes: 10})
	client, trusted := p.connect(1)
	Trust(trusted)
	p.says(client, trusted, strings.Repeat("x", 1000))
	for range 5 {
		p.connect(1)
	}
	p.wantClosed(trusted, false, "a trusted one")
	client, second := p.connect(1)
	Trust(second)
	p.says(client, second, "hello")
	_, third := p.connect(1)
	Trust(third)
	p.wantClosed(third, false, "the newest")
	p.wantClosed(trusted, true, "the oldest of more trusted ones than there is room for")
}

func TestAConnectionThatEndsMakesRoom(t *testing.T) {
	p := newPort(t, Limits{Connections: 2})
	_, first := p.connect(1)
	for range 100 {
		_, next := p.connect(1)
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p.wantClosed(first, false, "one of two")
}

func TestAClientSaysSoMuchAndNoMore(t *testing.T) {
	p := newPort(t, Limits{Connections: 2, Bytes: 1000})
	client, server := p.connect(1)
	if _, err := io.WriteString(client, strings.Repeat("x", 2000)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(server)
	if len(got) != 1000 || !errors.Is(err, errTooMuch) {
		t.Errorf("read %d bytes, %v; want 1000 and then an error", len(got), err)
	}
}
