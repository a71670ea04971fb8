// Command soak lets the whole of it run for an hour while everything around it
// fails: a real Kubernetes and KEDA, three scalers behind one address, hundreds
// of InferenceSets in all modes, with simulated pods that hang, flap, restart,
// turn slow and send garbage, Secrets that are deleted, an API server that goes
// away, scalers that are killed. It measures what the scalers need, which calls
// nobody answers, and which fleets move where they must not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	klog.SetLogger(logr.Discard())
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are what the flags say.
type options struct {
	length time.Duration
	sets   int
	seed   uint64
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.DurationVar(&o.length, "for", time.Hour, "how long, from when everything is there; a minute at least")
	flags.IntVar(&o.sets, "sets", 200, "how many InferenceSets")
	flags.Uint64Var(&o.seed, "seed", 1, "decides what goes wrong, when, and how the loads go")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.length < time.Minute:
		err = fmt.Errorf("-for %s: must be a minute at least", o.length)
	case o.sets < 1:
		err = fmt.Errorf("-sets %d: must be one at least", o.sets)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "soak:", err)
	}
	return o, err
}

// The exit codes. An interrupted soak has shown nothing, so it is no success.
const (
	exitWell        = 0
	exitBroken      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitWell
	case err != nil:
		return exitUsage
	}
	s := newSoak(o, stdout)
	err = s.run(ctx)
	interrupted := ctx.Err() != nil
	if err != nil && !interrupted {
		_, _ = fmt.Fprintf(stderr, "soak: %v\n", err)
	}
	broken := s.report()
	switch {
	case len(broken) > 0 || (err != nil && !interrupted):
		return exitBroken
	case interrupted:
		s.say("interrupted: everything is stopped, and the figures are of what was seen so far")
		return exitInterrupted
	}
	return exitWell
}
