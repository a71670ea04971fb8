//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// strangerQuestion is an attack on ports, by one client without a certificate.
type strangerQuestion struct {
	Attack                string
	GRPC, Metrics, Health string
	// For is how long it may take, and Count how much of it there is.
	For   time.Duration
	Count int
}

// strangerAnswer is how much of it was done.
type strangerAnswer struct {
	Done   int64
	Failed string
}

// stranger is the process of a client without a certificate: a pod somewhere in
// the cluster, with an address of its own.
type stranger struct {
	strangerQuestion
	done atomic.Int64
}

const strangerIP = "127.66.6.6"

// strangerAttacks are all that a stranger can do, by name.
var strangerAttacks = map[string]func(*stranger, context.Context) error{
	"watch streams":        (*stranger).watchStreams,
	"rapid resets":         (*stranger).rapidResets,
	"pings":                (*stranger).pings,
	"endless headers":      (*stranger).endlessHeaders,
	"header bombs":         (*stranger).headerBombs,
	"half messages":        (*stranger).halfMessages,
	"silent connections":   (*stranger).silentConnections,
	"slow headers":         (*stranger).slowHeaders,
	"stalled handshakes":   (*stranger).stalledHandshakes,
	"flood of handshakes":  (*stranger).handshakes,
	"slow readers":         (*stranger).slowReaders,
	"flood of connections": (*stranger).connectionFlood,
	"random tokens":        (*stranger).randomTokens,
}

func serveStranger() error {
	return serveParent(func(q strangerQuestion) (strangerAnswer, error) {
		attack, found := strangerAttacks[q.Attack]
		if !found {
			return strangerAnswer{}, fmt.Errorf("there is no attack %q", q.Attack)
		}
		ctx, cancel := context.WithTimeout(context.Background(), q.For)
		defer cancel()
		s := &stranger{strangerQuestion: q}
		err := attack(s, ctx)
		answer := strangerAnswer{Done: s.done.Load()}
		if err != nil && ctx.Err() == nil {
			answer.Failed = err.Error() // as it should: somebody has had enough
		}
		return answer, nil
	})
}

// open connects, and closes the connection with the context.
func (s *stranger) open(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(strangerIP)}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // thousands of them in TIME_WAIT would take the ports
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, nil
}

// again does something on one connection after the other, a few at a time, as
// often as it is cut off, until the time is over or all of it is done.
func (s *stranger) again(ctx context.Context, do func(ctx context.Context) error) error {
	const atOnce = 4
	return s.many(ctx, atOnce, func(ctx context.Context, _ int) error {
		var last error
		for ctx.Err() == nil && s.done.Load() < int64(s.Count) {
			if err := do(ctx); err != nil {
				last = err
			}
		}
		return last
	})
}

// many does something so many times at once, and waits for all of it.
func (s *stranger) many(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	var running sync.WaitGroup
	var first atomic.Pointer[error]
	for i := range n {
		running.Go(func() {
			if err := do(ctx, i); err != nil {
				first.CompareAndSwap(nil, &err)
			}
		})
	}
	running.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *stranger) ports() []string { return []string{s.GRPC, s.Metrics, s.Health} }

// hold keeps as many connections as there may be on each port, each after
// something was done on it, until the time is over. One that is cut off is opened
// again after a while.
func (s *stranger) hold(ctx context.Context, addresses []string, do func(context.Context, net.Conn) error) error {
	// So many dial at once; the rest of them wait for their turn.
	turn := make(chan struct{}, 64)
	once := func(ctx context.Context, address string) error {
		turn <- struct{}{}
		conn, err := s.open(ctx, address)
		<-turn
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		s.done.Add(1)
		return do(ctx, conn)
	}
	return s.many(ctx, s.Count*len(addresses), func(ctx context.Context, i int) error {
		var last error
		for ctx.Err() == nil {
			if err := once(ctx, addresses[i%len(addresses)]); err != nil {
				last = err
			}
			_ = pause(ctx, 2*time.Second)
		}
		return last
	})
}

func (s *stranger) silentConnections(ctx context.Context) error {
	return s.hold(ctx, s.ports(), untilClosed)
}

// untilClosed reads whatever there is.
func untilClosed(_ context.Context, conn net.Conn) error {
	_, err := io.Copy(io.Discard, conn)
	return err
}

// slowHeaders begins a request on each port and goes on by a byte a second.
func (s *stranger) slowHeaders(ctx context.Context) error {
	return s.hold(ctx, []string{s.Metrics, s.Health}, func(ctx context.Context, conn net.Conn) error {
		begin := "GET /metrics HTTP/1.1\r\nHost: x\r\nX: "
		if conn.RemoteAddr().String() == s.Health {
			begin = http2.ClientPreface[:10]
		}
		if _, err := io.WriteString(conn, begin); err != nil {
			return err
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
		}
	})
}

// stalledHandshakes send half of a ClientHello.
func (s *stranger) stalledHandshakes(ctx context.Context) error {
	hello := clientHello(ctx)
	return s.hold(ctx, []string{s.GRPC}, func(ctx context.Context, conn net.Conn) error {
		if _, err := conn.Write(hello[:len(hello)/2]); err != nil {
			return err
		}
		return untilClosed(ctx, conn)
	})
}

// clientHello is one of Go's own.
func clientHello(ctx context.Context) []byte {
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	go func() {
		_ = tls.Client(theirs, anybody()).HandshakeContext(ctx)
		_ = theirs.Close()
	}()
	buf := make([]byte, 16<<10)
	n, _ := ours.Read(buf)
	return buf[:n]
}

func anybody() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}} //nolint:gosec // an attacker doesn't mind whom it attacks
}

// handshakes goes through as many as it can, all without a certificate.
func (s *stranger) handshakes(ctx context.Context) error {
	return s.many(ctx, 32, func(ctx context.Context, _ int) error {
		for i := 0; i < s.Count/32 && ctx.Err() == nil; i++ {
			conn, err := s.open(ctx, s.GRPC)
			if err != nil {
				continue
			}
			secure := tls.Client(conn, anybody())
			if secure.HandshakeContext(ctx) == nil {
				_ = secure.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = secure.Read(make([]byte, 1)) // the refusal
			}
			_ = conn.Close()
			s.done.Add(1)
		}
		return nil
	})
}

// slowReaders ask for the metrics again and again and read nothing.
func (s *stranger) slowReaders(ctx context.Context) error {
	ask := bytes.Repeat([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 200)
	return s.hold(ctx, []string{s.Metrics}, func(ctx context.Context, conn net.Conn) error {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(1024)
		}
		if _, err := conn.Write(ask); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
}

// connectionFlood connects and leaves.
func (s *stranger) connectionFlood(ctx context.Context) error {
	return s.many(ctx, 32, func(ctx context.Context, i int) error {
		for n := 0; n < s.Count/32 && ctx.Err() == nil; n++ {
			conn, err := s.open(ctx, s.ports()[i%3])
			if err != nil {
				continue
			}
			_ = conn.Close()
			s.done.Add(1)
		}
		return nil
	})
}

// randomTokens asks for the metrics with a new token each time: https.
func (s *stranger) randomTokens(ctx context.Context) error {
	return s.many(ctx, 64, func(ctx context.Context, _ int) error {
		var secure *tls.Conn
		for i := 0; i < s.Count/64 && ctx.Err() == nil; i++ {
			if secure == nil {
				conn, err := s.open(ctx, s.Metrics)
				if err != nil {
					continue
				}
				config := anybody()
				config.NextProtos = nil
				secure = tls.Client(conn, config)
			}
			if s.guess(ctx, secure) != nil {
				_ = secure.NetConn().Close()
				secure = nil
			}
			s.done.Add(1)
		}
		return nil
	})
}

func (s *stranger) guess(ctx context.Context, conn *tls.Conn) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	token := make([]byte, 32)
	_, _ = rand.Read(token)
	if _, err := fmt.Fprintf(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", hex.EncodeToString(token)); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 4<<10))
	return err
}

// manyFiles lets this process have as many connections as it may, and returns
// how many those are.
func manyFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<20))
}
