package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Reason classes why a pod could not be read: the label of the failures
// metric, so there are few of them and none comes from a pod.
type Reason string

// The reasons, by what an operator would look at next.
const (
	// OK is no failure at all.
	OK Reason = ""
	// NoAddress is a pod that Kubernetes has given no IP yet.
	NoAddress Reason = "no_address"
	// Timeout is a pod that didn't deliver its whole page in time: it hangs,
	// is saturated, or drips.
	Timeout Reason = "timeout"
	// Refused is a pod without anything listening on its port.
	Refused Reason = "refused"
	// Local is the scaler's own lack of something, such as descriptors: it says
	// nothing of the pod, and meets thousands at once.
	Local Reason = "local"
	// Unreachable is a pod that the network has no way to.
	Unreachable Reason = "unreachable"
	// Reset is a connection that ended before the page did.
	Reset Reason = "reset"
	// BadTLS is a pod whose certificate can't be trusted, or that is asked for
	// TLS and has none.
	BadTLS Reason = "tls"
	// BadHTTP is an answer that isn't HTTP, or is it wrongly.
	BadHTTP Reason = "bad_http"
	// Redirect is an answer that points elsewhere; nobody follows it.
	Redirect Reason = "redirect"
	// Status is any other answer than 200.
	Status Reason = "http_status"
	// TooLarge is a page above the limit of bytes or lines.
	TooLarge Reason = "too_large"
	// BadContent is 200 with HTML, JSON or an encoding that can't be read.
	BadContent Reason = "bad_content"
	// ModelLoading is KAITO's stub, which answers while a model downloads.
	ModelLoading Reason = "starting"
	// NotVLLM is a metrics page without a single vllm: family, and without any that
	// is asked for.
	NotVLLM Reason = "not_vllm"
	// Frozen is an engine that runs requests but no tokens.
	Frozen Reason = "frozen"
	// Unproven is a container that was restarted and hasn't been Ready since:
	// KAITO's start-up benchmark may be what its page shows.
	Unproven Reason = "restarted"
	// Stopped is a scrape that the scaler itself gave up: the pod went away, or
	// the process ends. It says nothing of the pod and counts for nothing.
	Stopped Reason = "stopped"
)

// reasons are all that the failures metric can show, so that each has a zero
// from the start and an alert has something to compare with.
var reasons = []Reason{
	NoAddress, Local, Timeout, Refused, Unreachable, Reset, BadTLS, BadHTTP, Redirect, Status,
	TooLarge, BadContent, ModelLoading, NotVLLM, Frozen, Unproven,
}

// Failure is a page that could not be had: its class for a metric and its
// story for a person.
type Failure struct { //nolint:errname // a pod's, and mostly not handled as an error
	Reason Reason
	// Words say what happened, with its numbers.
	Words string
	// Err is what the network or the parser said, if anything did.
	Err error
	// accepted is set if the pod had accepted the connection, and what failed
	// came after.
	accepted bool
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return f.Words
	}
	return f.Words + ": " + f.Err.Error()
}

func (f *Failure) Unwrap() error { return f.Err }

// reason is OK for no failure.
func (f *Failure) reason() Reason {
	if f == nil {
		return OK
	}
	return f.Reason
}

func failf(r Reason, format string, args ...any) *Failure {
	return &Failure{Reason: r, Words: fmt.Sprintf(format, args...)}
}

// handshakeFailure is a TLS handshake that failed, by the network's fault or by
// its own.
func handshakeFailure(err error) *Failure {
	f := networkFailure("the TLS handshake", err)
	if f.Reason == BadHTTP {
		f.Reason, f.Words = BadTLS, "TLS"
	}
	return f
}

// networkFailure classes what the network said while doing something.
func networkFailure(doing string, err error) *Failure {
	f := &Failure{Reason: BadHTTP, Words: doing, Err: cut(err)}
	var nerr net.Error
	if lack, is := ownLack(err); is {
		f.Reason, f.Words, f.Err = Local, lack, nil
		return f
	}
	switch {
	case errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		f.Reason = Stopped
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &nerr) && nerr.Timeout():
		f.Reason, f.Words, f.Err = Timeout, doing+" took too long", nil
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Reason, f.Words, f.Err = Refused, "connection refused", nil
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
		f.Reason = Unreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		f.Reason, f.Words, f.Err = Reset, "connection ended while "+doing, nil
	}
	return f
}

// lacks are what the scaler's own process or node may have too little of.
var lacks = []struct {
	errno syscall.Errno
	words string
}{
	{syscall.EMFILE, "the scaler has no file descriptor left (its limit, such as ulimit -n)"},
	{syscall.ENFILE, "the scaler's node has no file descriptor left"},
	{syscall.EACCES, "the scaler isn't allowed to connect (by seccomp, a policy or the kernel of its node)"},
	{syscall.EPERM, "the scaler isn't allowed to connect (by seccomp, a policy or the kernel of its node)"},
	{syscall.EADDRNOTAVAIL, "the scaler has no port or address left to connect from"},
	{syscall.ENOBUFS, "the scaler's node has no memory left for sockets"},
	{syscall.ENOMEM, "the scaler's node has no memory left for sockets"},
}

// ownLack says what of its own the scaler lacked.
func ownLack(err error) (words string, is bool) {
	for _, l := range lacks {
		if errors.Is(err, l.errno) {
			return l.words, true
		}
	}
	return "", false
}

// maxWords bounds what a pod can have said in a failure: its header or the names in
// its certificate may be of 64 KiB.
const maxWords = 300

func cut(err error) error {
	text := err.Error()
	if len(text) <= maxWords {
		return err
	}
	return errors.New(strings.ToValidUTF8(text[:maxWords], "") + " …")
}

func failureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{}
	if !errors.As(err, &f) {
		return &Failure{Reason: BadHTTP, Words: "reading", Err: err}
	}
	return f
}

func size(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
