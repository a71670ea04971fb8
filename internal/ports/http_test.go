package ports

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/test/bufconn"
)

// served is a server in the bubble of a test.
func served(t *testing.T, handler http.Handler) (dial func() net.Conn, stop func()) {
	t.Helper()
	listener := bufconn.Listen(1 << 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- ServeHTTP(ctx, Limit(listener, Limits{Connections: 4}), handler, metricsTimeout, logr.Discard())
	}()
	dial = func() net.Conn {
		conn, err := listener.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	return dial, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

const get = "GET / HTTP/1.1\r\nHost: scaler\r\n"

func TestASlowClientIsLetGo(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, long)
	})
	for _, tt := range []struct {
		name  string
		says  string
		drips bool
		after time.Duration
	}{
		{"it says nothing", "", false, headerTimeout},
		{"its headers drip", get + "X: ", true, headerTimeout},
		{"its body drips", get + "Content-Length: 100000\r\n\r\n", true, metricsTimeout},
		{"it doesn't read the answer", get + "\r\n", false, metricsTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial, stop := served(t, handler)
				defer stop()
				conn := dial()
				defer func() { _ = conn.Close() }()
				say(t, conn, tt.says)
				began := time.Now()
				for time.Since(began) < tt.after+time.Second {
					time.Sleep(time.Second)
					synctest.Wait()
					if !tt.drips {
						continue
					}
					if _, err := io.WriteString(conn, "x"); err != nil {
						return
					}
				}
				_, _ = io.Copy(io.Discard, conn) // ends, because the server has closed
			})
		})
	}
}

func TestAnIdleConnectionIsKeptBetweenTwoScrapes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, stop := served(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer stop()
		conn := dial()
		defer func() { _ = conn.Close() }()
		answers := bufio.NewReader(conn)
		for range 10 {
			say(t, conn, get+"\r\n")
			answer, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			time.Sleep(time.Minute)
		}
		time.Sleep(idleTimeout)
		if _, err := answers.ReadByte(); err == nil {
			t.Error("a connection that idles stays open")
		}
	})
}

func TestHeadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, stop := served(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer stop()
		for length, want := range map[int]int{8 << 10: http.StatusOK, 64 << 10: http.StatusRequestHeaderFieldsTooLarge} {
			conn := dial()
			go func() {
				_, _ = io.WriteString(conn, get+"Authorization: Bearer "+strings.Repeat("x", length)+"\r\n\r\n")
			}()
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("a token of %d bytes: %s, want %d", length, answer.Status, want)
			}
			_ = conn.Close()
		}
	})
}
