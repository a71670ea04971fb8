package stack

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// Polls are those of a client that goes on as KEDA does: over one connection,
// and after a failure over a new one, with what the Secret says then.
type Polls struct {
	connect func(context.Context, ...grpc.DialOption) (*grpc.ClientConn, error)
	refs    []*pb.ScaledObjectRef
	want    Answer

	cancel context.CancelFunc
	done   sync.WaitGroup
	// ended counts connections that came to an end.
	ended atomic.Int64
	// mu guards what follows.
	mu  sync.Mutex
	now PollCount
}

// PollCount is how polls went.
type PollCount struct {
	Made int
	// Failed has a line for each that failed, and At its time.
	Failed []string
	At     []time.Time
	// Moved is how many connections ended.
	Moved int
}

// Poll asks about each of the refs, in turn, at that interval until Stop. Any
// other answer than the one that is wanted is a failure.
func Poll(interval time.Duration, want Answer, connect func(context.Context, ...grpc.DialOption) (*grpc.ClientConn, error), refs ...*pb.ScaledObjectRef) *Polls {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Polls{connect: connect, refs: refs, want: want, cancel: cancel}
	p.done.Go(func() { p.run(ctx, interval) })
	return p
}

// Stop ends them and waits for that.
func (p *Polls) Stop() {
	p.cancel()
	p.done.Wait()
}

// Missed is how many polls of one trigger failed at most, if it were polled every 5 s:
// of failures, oldest first, those within 5 s of the first one are one. The HPA asks
// every 15 s; tests ask more often, so as to see how long nobody answers.
func Missed(failures []time.Time) int {
	const apart = 5 * time.Second
	n, first := 0, time.Time{}
	for _, at := range failures {
		if n == 0 || at.Sub(first) >= apart {
			n, first = n+1, at
		}
	}
	return n
}

// Count is how it went since a Count before, which may be zero.
func (p *Polls) Count(before PollCount) PollCount {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PollCount{
		Made: p.now.Made - before.Made, Moved: int(p.ended.Load()) - before.Moved,
		Failed: append([]string(nil), p.now.Failed[len(before.Failed):]...),
		At:     append([]time.Time(nil), p.now.At[len(before.At):]...),
	}
}

func (p *Polls) run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var connection *poller
	for i := 0; ; i++ {
		var err error
		if connection == nil {
			connection, err = p.dial(ctx)
		}
		if err == nil {
			err = p.poll(ctx, connection.ClientConn, p.refs[i%len(p.refs)])
		}
		over := ctx.Err() != nil
		if connection != nil && (err != nil || over) {
			connection.close()
			connection = nil
		}
		if over {
			return
		}
		p.note(err)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// poll makes the calls of one poll.
func (p *Polls) poll(ctx context.Context, connection *grpc.ClientConn, ref *pb.ScaledObjectRef) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := Ask(ctx, connection, ref)
	if err == nil && answer != p.want {
		err = fmt.Errorf("answered %+v, want %+v", answer, p.want)
	}
	return err
}

func (p *Polls) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Made++
	if err != nil {
		now := time.Now()
		p.now.Failed, p.now.At = append(p.now.Failed, now.Format("15:04:05.000 ")+err.Error()), append(p.now.At, now)
	}
}

// poller is one connection. It is grpc's stats.Handler, to see its end.
type poller struct {
	*grpc.ClientConn
	polls *Polls
	// closing is set before the client itself ends it.
	closing atomic.Bool
}

func (p *Polls) dial(ctx context.Context) (*poller, error) {
	c := &poller{polls: p}
	var err error
	c.ClientConn, err = p.connect(ctx, grpc.WithStatsHandler(c))
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *poller) close() {
	c.closing.Store(true)
	_ = c.Close()
}

// TagRPC adds nothing.
func (c *poller) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC is of no interest.
func (c *poller) HandleRPC(context.Context, stats.RPCStats) {}

// TagConn adds nothing.
func (c *poller) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn counts connections that somebody else ended.
func (c *poller) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, over := s.(*stats.ConnEnd); over && !c.closing.Load() {
		c.polls.ended.Add(1)
	}
}
