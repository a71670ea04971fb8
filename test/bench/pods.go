//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// address is where pod i is: every address of 127.0.0.0/8 is this machine's,
// so that one listener is any number of pods.
func address(i, port int) netip.AddrPort {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 127<<24|1<<16|uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(port))
}

// hangs spreads the hung pods over the fleets: one in every so many.
func hangs(i, oneIn int) bool { return oneIn > 0 && i%oneIn == oneIn/2 }

// servePods is the pods' process. It ends when its standard input does.
func servePods(oneIn int) error {
	// All of 127.0.0.0/8 is one listener on every address, held to loopback.
	config := net.ListenConfig{Control: onLoopback}
	l, err := config.Listen(context.Background(), "tcp", "0.0.0.0:0")
	if err != nil {
		return err
	}
	if err := tell(l.Addr().(*net.TCPAddr).Port); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	// An engine that finishes no steps is taken for frozen after two minutes.
	var response atomic.Pointer[[]byte]
	began := time.Now()
	response.Store(busySince(began))
	go func() {
		for range time.Tick(time.Second) {
			response.Store(busySince(began))
		}
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		to := c.LocalAddr().(*net.TCPAddr).IP.To4()
		i := int(binary.BigEndian.Uint32(to) & 0xffff)
		go servePod(c, &response, hangs(i, oneIn))
	}
}

// busySince is what a busy pod answers that has gone on since then.
func busySince(began time.Time) *[]byte {
	p, since := page.Busy(), time.Since(began).Seconds()
	p.Steps += 60 * since
	p.Requests += 9 * since
	text := p.Text()
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: " +
		strconv.Itoa(len(text)) + "\r\n\r\n" + text)
	return &response
}

// onLoopback binds a socket to the loopback interface.
func onLoopback(_, _ string, c syscall.RawConn) error {
	var bound error
	err := c.Control(func(fd uintptr) {
		bound = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo")
	})
	return errors.Join(err, bound)
}

func servePod(c net.Conn, response *atomic.Pointer[[]byte], hung bool) {
	defer func() { _ = c.Close() }()
	// A request has 1.5 KB where automatic mode's families are asked for. Whoever took a
	// part of one for a whole answered twice, and half of what it said was never read:
	// after 25 s all of the machine's TCP memory was full of it.
	requests := bufio.NewReaderSize(c, 2<<10)
	for {
		if err := skipRequest(requests); err != nil {
			return
		}
		if hung {
			continue
		}
		if _, err := c.Write(*response.Load()); err != nil {
			return
		}
	}
}

// skipRequest reads up to the empty line that ends a request without a body.
func skipRequest(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if len(line) == 2 {
			return nil
		}
	}
}
