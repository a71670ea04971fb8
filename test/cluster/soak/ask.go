package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// answerWithin is how long an answer may take: the scaler's own bound is 2 s, the
// rest is for busy cores.
const answerWithin = 5 * time.Second

// asker asks about fleets as KEDA does: over one connection to the address, with
// what the Secret said when the last call failed, and a second time then.
type asker struct {
	stack   *stack.Stack
	address string

	// mu guards what follows.
	mu         sync.Mutex
	connection *grpc.ClientConn
	old        []*grpc.ClientConn // calls may be under way on them
	material   *tls.Config
	asked      int
	inWords    map[string]int // errors in words, how often each, without names and numbers
	unanswered []string
}

func newAsker(ctx context.Context, s *stack.Stack, address string) (*asker, error) {
	a := &asker{stack: s, address: address, inWords: map[string]int{}}
	return a, a.renew(ctx)
}

// renew reads the Secret, and connects anew if it holds anything else.
func (a *asker) renew(ctx context.Context) error {
	config, err := a.stack.Material(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.connection != nil && sameMaterial(config, a.material) {
		return nil
	}
	connection, err := stack.Connect(a.address, config)
	if err != nil {
		return err
	}
	if a.connection != nil {
		a.old = append(a.old, a.connection)
	}
	a.connection, a.material = connection, config
	return nil
}

// sameMaterial tells whether two have the same certificate and trust the same CAs.
func sameMaterial(a, b *tls.Config) bool {
	return bytes.Equal(a.Certificates[0].Certificate[0], b.Certificates[0].Certificate[0]) && a.RootCAs.Equal(b.RootCAs)
}

func (a *asker) current() *grpc.ClientConn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.connection
}

// ask asks about one fleet and counts what comes of it.
func (a *asker) ask(ctx context.Context, ref *pb.ScaledObjectRef) {
	err := a.once(ctx, ref)
	if lost(err) {
		_ = a.renew(ctx) // else with what was known, as KEDA does
		err = a.once(ctx, ref)
	}
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	switch {
	case err == nil:
	case lost(err):
		a.unanswered = append(a.unanswered, fmt.Sprintf("%s %s/%s: %v", time.Now().Format(time.TimeOnly), ref.GetNamespace(), ref.GetName(), err))
	default:
		a.inWords[gist(err)]++
	}
}

func (a *asker) once(ctx context.Context, ref *pb.ScaledObjectRef) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	_, err := stack.Ask(ctx, a.current(), ref)
	return err
}

// lost tells whether a call has no answer: neither a value nor an error in words
// about the fleet. That the InferenceSet isn't known is no answer either, for
// only those are asked about that have been there for a while.
func lost(err error) bool {
	if err == nil {
		return false
	}
	return status.Code(err) == codes.NotFound || !stack.InWords(err.Error())
}

// gist is an error in words without what differs from fleet to fleet.
func gist(err error) string {
	_, words, _ := strings.Cut(status.Convert(err).Message(), "InferenceSet ")
	_, words, _ = strings.Cut(words, ": ")
	words, _, _ = strings.Cut(words, " (")
	return numbers.ReplaceAllString(words, "N")
}

var numbers = regexp.MustCompile(`[0-9]+`)

func (a *asker) so() (asked, inWords int, unanswered []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.inWords {
		inWords += n
	}
	return a.asked, inWords, append([]string(nil), a.unanswered...)
}

// words are the errors in words, the most frequent first.
func (a *asker) words() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return ranked(a.inWords)
}

func (a *asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, connection := range append(a.old, a.connection) {
		_ = connection.Close()
	}
}
