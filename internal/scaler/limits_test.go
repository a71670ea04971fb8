package scaler

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kaito-project/keda-kaito-scaler/internal/ports"
)

// budget is what one client without a certificate may take of the process's
// memory. Half of it is for the garbage collector.
const budget = 32 << 20 / 2

// taken is what the process has in use now, its goroutines' stacks too.
func taken() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// settled is what the process has in use once the connections that were closed are
// gone: no more than limit, or what it is after five seconds.
func settled(limit uint64) uint64 {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if now := taken(); now <= limit || time.Now().After(deadline) {
			return now
		}
	}
}

// stranger opens connections and says something on each. What it is answered is
// read and forgotten. Its connections stay open until the test ends, if the server
// lets them.
type stranger struct {
	*testing.T
	address string
	reading sync.WaitGroup
	conns   []net.Conn
}

func newStranger(t *testing.T, address string) *stranger {
	s := &stranger{T: t, address: address}
	t.Cleanup(s.leave)
	return s
}

func (s *stranger) leave() {
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
	s.reading.Wait()
}

// send ends when all was sent, or the server has had enough.
func (s *stranger) send(what ...[]byte) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(s.Context(), "tcp", s.address)
	if err != nil {
		return // closed in favour of another one already
	}
	s.conns = append(s.conns, conn)
	s.reading.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	for _, some := range what {
		if _, err := conn.Write(some); err != nil {
			return
		}
	}
}

// frame is one of HTTP/2.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	header := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	header = append(header, flags)
	return append(binary.BigEndian.AppendUint32(header, stream), payload...)
}

// hello begins HTTP/2.
func hello() []byte {
	return append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, nil)...)
}

// open opens a stream of a method, in HPACK without tables.
func open(stream uint32, method string) []byte {
	literal := func(at []byte, value string) []byte { return append(append(at, byte(len(value))), value...) }
	headers := []byte{0x83, 0x86} // POST, http
	headers = append(headers, literal([]byte{0x04}, method)...)
	headers = append(headers, literal([]byte{0x01}, "scaler")...)
	headers = append(headers, literal([]byte{0x0f, 0x10}, "application/grpc")...)
	return frame(1, 4, stream, headers)
}

// empty is a message without fields.
func empty(stream uint32) []byte { return frame(0, 1, stream, make([]byte, 5)) }

// patience is a kubelet's at the liveness probe.
const patience = 5 * time.Second

// throughout asks again and again while something goes on, and wants each answer
// in time.
func throughout(t *testing.T, ask func(context.Context) error, goesOn func()) {
	t.Helper()
	ended := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := ask(ctx)
			cancel()
			if err != nil {
				t.Errorf("an honest client: %v", err)
				return
			}
			select {
			case <-ended:
				return
			default:
			}
		}
	})
	defer asking.Wait()
	defer close(ended)
	goesOn()
}

// elsewhere dials from another address than a stranger's, as who is on another
// machine does.
func elsewhere() grpc.DialOption {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	})
}

// probe is what a kubelet does: a connection for each look.
func probe(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := grpc.NewClient("passthrough:///"+address, elsewhere(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = healthgrpc.NewHealthClient(conn).Check(ctx, &healthgrpc.HealthCheckRequest{Service: Liveness})
		return err
	}
}

func startHealth(t *testing.T) (address string) {
	t.Helper()
	listener, err := ports.Listen(t.Context(), "127.0.0.1:0", healthLimits)
	if err != nil {
		t.Fatal(err)
	}
	server := start(t, func(ctx context.Context) error {
		return serveHealth(ctx, listener, func() bool { return true }, &Watchdog{}, logr.Discard())
	})
	t.Cleanup(func() {
		server.cancel()
		server.ends()
	})
	return listener.Addr().String()
}

func TestNoStrangerTakesMuchOfTheHealthPort(t *testing.T) {
	watch, look := healthgrpc.Health_Watch_FullMethodName, healthgrpc.Health_Check_FullMethodName
	for _, tt := range []struct {
		name   string
		attack func(*stranger)
	}{
		{"20 000 watches on one connection", func(s *stranger) {
			what := [][]byte{hello()}
			for i := range uint32(20_000) {
				what = append(what, open(2*i+1, watch), empty(2*i+1))
			}
			s.send(what...)
		}},
		{"20 000 calls on one connection, whose messages never come", func(s *stranger) {
			what := [][]byte{hello()}
			for i := range uint32(20_000) {
				what = append(what, open(2*i+1, look))
			}
			s.send(what...)
		}},
		{"20 000 calls that are taken back", func(s *stranger) {
			what := [][]byte{hello()}
			for i := range uint32(20_000) {
				what = append(what, open(2*i+1, look), frame(3, 0, 2*i+1, make([]byte, 4)))
			}
			s.send(what...)
		}},
		{"1 000 connections that say nothing", func(s *stranger) {
			for range 1000 {
				s.send()
			}
		}},
		{"1 000 connections that idle", func(s *stranger) {
			for range 1000 {
				s.send(hello())
			}
		}},
		{"1 000 connections of 100 calls each", func(s *stranger) {
			for range 1000 {
				what := [][]byte{hello()}
				for i := range uint32(100) {
					what = append(what, open(2*i+1, look))
				}
				s.send(what...)
			}
		}},
		{"headers of megabytes", func(s *stranger) {
			for range 100 {
				s.send(hello(), frame(1, 0, 1, make([]byte, 16<<10)), bytes.Repeat(frame(9, 0, 1, make([]byte, 16<<10)), 100))
			}
		}},
		{"messages of many frames", func(s *stranger) {
			for range 100 {
				s.send(hello(), open(1, look), frame(0, 0, 1, []byte{0, 0, 1, 0, 0}),
					bytes.Repeat(frame(0, 0, 1, []byte{0}), 60_000))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := startHealth(t)
			s := newStranger(t, address)
			before := taken()
			throughout(t, probe(address), func() { tt.attack(s) })
			if after := settled(before + budget); after > before+budget {
				t.Errorf("takes %d KB, want %d KB at most", (after-before)>>10, budget>>10)
			}
			s.leave()
		})
	}
}

func TestNobodyWatchesHealth(t *testing.T) {
	client := healthgrpc.NewHealthClient(dial(t, startHealth(t), grpc.WithTransportCredentials(insecure.NewCredentials())))
	stream, err := client.Watch(t.Context(), &healthgrpc.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("a watch: %v, want Unimplemented", err)
	}
}

// A client that asks for health once a second keeps its connection for as long as
// one lasts.
func TestAMinuteOfProbesOnOneConnectionIsLetIn(t *testing.T) {
	client := healthgrpc.NewHealthClient(dial(t, startHealth(t), grpc.WithTransportCredentials(insecure.NewCredentials())))
	for range 60 {
		if got := check(t, client, Liveness); got != healthy {
			t.Fatal(got)
		}
	}
}

func TestNoStrangerTakesMuchOfKEDAsPort(t *testing.T) {
	for _, tt := range []struct {
		name   string
		attack func(*stranger)
	}{
		{"1 000 handshakes that aren't begun", func(s *stranger) {
			for range 1000 {
				s.send()
			}
		}},
		{"1 000 handshakes that stop half-way", func(s *stranger) {
			for range 1000 {
				s.send([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3})
			}
		}},
		{"300 handshakes that go on and on", func(s *stranger) {
			record := append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff}, make([]byte, 0x4000-4)...)
			more := append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 0x4000)...)
			for range 300 {
				s.send(record, more, more, more)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config, trust := certificate(t)
			listener, err := ports.Listen(t.Context(), "127.0.0.1:0", kedaLimits)
			if err != nil {
				t.Fatal(err)
			}
			svc, _ := service(of(1, waiting("a", 7)))
			server := start(t, func(ctx context.Context) error {
				return serve(ctx, listener, newServer(config, DefaultConnectionAge, svc, &Watchdog{}))
			})
			address := listener.Addr().String()
			long := pb.NewExternalScalerClient(dial(t, address, grpc.WithTransportCredentials(trust)))
			ask := func(ctx context.Context) error {
				// KEDA's own connection, and a new one.
				if _, err := long.IsActive(ctx, trigger()); err != nil {
					return err
				}
				conn, err := grpc.NewClient("passthrough:///"+address, elsewhere(), grpc.WithTransportCredentials(trust))
				if err != nil {
					return err
				}
				defer func() { _ = conn.Close() }()
				_, err = pb.NewExternalScalerClient(conn).IsActive(ctx, trigger())
				return err
			}
			s := newStranger(t, address)
			before := taken()
			throughout(t, ask, func() { tt.attack(s) })
			if after := settled(before + budget); after > before+budget {
				t.Errorf("takes %d KB, want %d KB at most", (after-before)>>10, budget>>10)
			}
			s.leave()
			server.cancel()
			server.ends()
		})
	}
}

func TestACallIsAsLongAsATriggerMayBe(t *testing.T) {
	config, trust := certificate(t)
	listener := loopback(t)
	svc, _ := service(of(1, waiting("a", 7)))
	server := start(t, func(ctx context.Context) error {
		return serve(ctx, listener, newServer(config, DefaultConnectionAge, svc, &Watchdog{}))
	})
	client := pb.NewExternalScalerClient(dial(t, listener.Addr().String(), grpc.WithTransportCredentials(trust)))
	for _, tt := range []struct {
		name           string
		field, headers int
		want           codes.Code
	}{
		{"as long as a trigger may be", 16 << 10, 0, codes.OK},
		{"all that annotations may hold, which is refused in words", 256 << 10, 0, codes.InvalidArgument},
		{"a megabyte", 1 << 20, 0, codes.ResourceExhausted},
		{"headers of a mesh", 10, 8 << 10, codes.OK},
		{"headers of 64 KB", 10, 64 << 10, codes.Internal},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", tt.headers))
		ref := trigger()
		ref.ScalerMetadata["somethingElse"] = strings.Repeat("x", tt.field)
		if _, err := client.IsActive(ctx, ref); status.Code(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	server.cancel()
	server.ends()
}
