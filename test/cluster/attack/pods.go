//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// Who is behind an address of loopback: every one of 127.0.0.0/8 is this
// machine's, so that one listener is any number of pods.
const (
	// hostileNet is 127.1.0.0/16: pods that are of the shape that is set.
	hostileNet = 1
	// honestNet is 127.2.0.0/16: pods that go on as if nothing was.
	honestNet = 2
	// mirrorNet is 127.3.0.0/16: of that shape too, for whoever fetches and discards.
	mirrorNet = 3
	// keptNet is 127.4.0.0/16: pods of which much is kept.
	keptNet = 4
)

// podIP is that of pod i in one of these.
func podIP(network, i int) string { return fmt.Sprintf("127.%d.0.%d", network, i+1) }

// podsQuestion sets a shape, or with "" only asks. Silent ends the answers of
// those of which much is kept.
type podsQuestion struct {
	Shape  string
	Silent bool
}

// podsAnswer counts the requests for the shape at hand.
type podsAnswer struct {
	Port             int
	Bytes            int
	Hostile, Fetched int64
}

// pods is the process with all pods.
type pods struct {
	port   int
	shapes map[string]shape
	// busy is what an honest pod says.
	busy atomic.Pointer[[]byte]
	// kept are what those of which much is kept say, one after the other.
	kept   [keptVariants][]byte
	turn   atomic.Int64
	silent atomic.Bool

	// mu guards what follows.
	mu sync.Mutex
	at *served
}

// served is a shape with how often it was asked for.
type served struct {
	pace             pace
	response         []byte
	hostile, fetched atomic.Int64
}

func servePods() error {
	p := &pods{shapes: map[string]shape{}}
	for _, s := range shapes() {
		p.shapes[s.name] = s
	}
	// All of 127.0.0.0/8 is one listener on every address, held to loopback.
	config := net.ListenConfig{Control: onLoopback}
	l, err := config.Listen(context.Background(), "tcp", "0.0.0.0:0")
	if err != nil {
		return err
	}
	p.port = l.Addr().(*net.TCPAddr).Port
	p.set(p.shapes[honest])
	for i := range p.kept {
		p.kept[i] = keptPage(i)
	}
	go p.work()
	go p.accept(l)
	return serveParent(p.answer)
}

func onLoopback(_, _ string, c syscall.RawConn) error {
	var bound error
	err := c.Control(func(fd uintptr) {
		bound = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "lo")
	})
	return errors.Join(err, bound)
}

func (p *pods) answer(q podsQuestion) (podsAnswer, error) {
	if q.Silent {
		p.silent.Store(true)
	}
	if q.Shape != "" {
		s, found := p.shapes[q.Shape]
		if !found {
			return podsAnswer{}, fmt.Errorf("there is no shape %q", q.Shape)
		}
		p.set(s)
	}
	at := p.now()
	return podsAnswer{Port: p.port, Bytes: len(at.response), Hostile: at.hostile.Load(), Fetched: at.fetched.Load()}, nil
}

func (p *pods) set(s shape) {
	next := &served{pace: s.pace, response: s.response()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = next
}

func (p *pods) now() *served {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

// work goes on with honest pods' requests: an engine that finishes no steps is
// taken for frozen.
func (p *pods) work() {
	began := time.Now()
	for {
		pod, since := page.Busy(), time.Since(began).Seconds()
		pod.Steps += 60 * since
		pod.Requests += 9 * since
		text := pod.Text()
		response := []byte("HTTP/1.1 200 OK\r\nContent-Type: " + textPlain + "\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text)
		p.busy.Store(&response)
		time.Sleep(time.Second)
	}
}

func (p *pods) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no files left: some will be closed
			continue
		}
		go p.serve(c)
	}
}

// serve answers one request after the other.
func (p *pods) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	network := int(c.LocalAddr().(*net.TCPAddr).IP.To4()[1])
	request := make([]byte, 16<<10)
	for {
		if !readRequest(c, request) {
			return
		}
		if p.respond(c, network) != nil {
			return
		}
	}
}

// respond answers a request as a pod of that network does.
func (p *pods) respond(c net.Conn, network int) (err error) {
	at := p.now()
	switch network {
	case honestNet:
		if busy := p.busy.Load(); busy != nil {
			_, err = c.Write(*busy)
		}
		return err
	case keptNet:
		if p.silent.Load() {
			return send(c, &served{pace: silent})
		}
		_, err = c.Write(p.kept[p.turn.Add(1)%keptVariants])
		return err
	case mirrorNet:
		at.fetched.Add(1)
	default:
		at.hostile.Add(1)
	}
	return send(c, at)
}

// readRequest reads to the end of a request's header, which is all of it.
func readRequest(c net.Conn, buf []byte) bool {
	for have := 0; have < len(buf); {
		n, err := c.Read(buf[have:])
		have += n
		if bytes.HasSuffix(buf[:have], []byte("\r\n\r\n")) {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// podPatience is how long a pod holds on that says nothing more.
const podPatience = 30 * time.Second

var errDone = errors.New("the other end has had enough")

// send writes a response at its pace.
func send(c net.Conn, s *served) error {
	switch s.pace {
	case atOnce:
		_, err := c.Write(s.response)
		return err
	case held:
		if _, err := c.Write(s.response[:len(s.response)-1]); err != nil {
			return err
		}
	case dripped:
		for i := range s.response {
			if _, err := c.Write(s.response[i : i+1]); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
	case silent:
	}
	_ = c.SetReadDeadline(time.Now().Add(podPatience))
	_, _ = c.Read(make([]byte, 1))
	return errDone
}
