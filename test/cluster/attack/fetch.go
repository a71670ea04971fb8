//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// fetchQuestion is which pods to fetch from and how often, each at a moment of
// its own, until the next question. None is an end.
type fetchQuestion struct {
	Pods     int
	Port     int
	Interval time.Duration
}

type fetchAnswer struct{}

// fetcher is the process that fetches and discards: the least that reading a
// page can cost.
type fetcher struct {
	stop    context.CancelFunc
	running sync.WaitGroup
}

func serveFetcher() error {
	f := &fetcher{stop: func() {}}
	return serveParent(f.answer)
}

func (f *fetcher) answer(q fetchQuestion) (fetchAnswer, error) {
	f.stop()
	f.running.Wait()
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	for i := range q.Pods {
		f.running.Go(func() { fetchOften(ctx, q, i) })
	}
	return fetchAnswer{}, nil
}

func fetchOften(ctx context.Context, q fetchQuestion, i int) {
	address := fmt.Sprintf("%s:%d", podIP(mirrorNet, i), q.Port)
	timer := time.NewTimer(q.Interval * time.Duration(i) / time.Duration(q.Pods))
	defer timer.Stop()
	buf := make([]byte, 64<<10)
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(q.Interval)
		if conn == nil {
			var err error
			if conn, err = new(net.Dialer).DialContext(ctx, "tcp", address); err != nil {
				continue
			}
		}
		if fetchOnce(conn, address, buf, time.Now().Add(q.Interval)) != nil {
			_ = conn.Close()
			conn = nil
		}
	}
}

// fetchOnce reads one page and discards it, all that the scaler would read of it.
func fetchOnce(conn net.Conn, host string, buf []byte, deadline time.Time) error {
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	// Hidden, because a buffer of its own would be made for a WriterTo.
	read, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.LimitReader(response.Body, pageLimit+1)}, buf)
	if err == nil && read > pageLimit {
		err = io.ErrShortBuffer // as the scaler gives up
	}
	return err
}
