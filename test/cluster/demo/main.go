// Command demo shows the quick start at work: a real Kubernetes and KEDA on
// loopback, keda-kaito-scaler, simulated GPUs, and an InferenceSet that scales
// up under load and down again.
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
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	// SIGHUP: the terminal's window was closed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	silence()
	code := run(ctx, os.Args[1:], leisurely(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `Watch an InferenceSet scale on a real Kubernetes with KEDA, in about three
minutes. The first run builds both from source, which takes a quarter of an
hour on two cores. Ctrl-C stops it all at any time and leaves nothing behind.

  make demo                     at a terminal: a live view; else plain lines
  make demo DEMOFLAGS=--plain   plain lines at a terminal too
  make demo DEMOFLAGS=--keep    the cluster stays until Ctrl-C, for kubectl
  make demo ENGINES=vllm        real vLLM engines in place of simulated ones

Flags:
`

// options are what the flags say.
type options struct {
	plain, keep bool
	// vllm has real engines serve.
	vllm bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.plain, "plain", false, "print plain lines, without a live view and without escape codes")
	flags.BoolVar(&o.keep, "keep", false, "leave the cluster running at the end, until Ctrl-C")
	engines := flags.String("engines", "simulated", "what serves: simulated, or vllm (Python 3.10 and 5 GB of disk, installed at the first run)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.vllm = *engines == "vllm"
	if !o.vllm && *engines != "simulated" {
		err := fmt.Errorf("engines %q are not known: they must be simulated or vllm", *engines)
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return o, err
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q: see --help", flags.Arg(0))
		_, _ = fmt.Fprintln(stderr, "demo:", err)
		return o, err
	}
	return o, nil
}

// run is the whole program. It returns the exit code: 0 also when it was
// interrupted, for nothing is wrong then.
func run(ctx context.Context, args []string, p pace, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if o.vllm {
		p = p.onEngines()
	}
	d := newDemo(o, p, stdout, stderr)
	begun := time.Now()
	err = d.run(ctx)
	switch {
	case err == nil:
		d.say("%s It took %s.", good.Bold(true).Render("All is well."), minutes(time.Since(begun)))
		return 0
	case errors.Is(err, errInterrupted):
		d.say("interrupted: everything stopped")
		return 0
	}
	_, _ = fmt.Fprintln(stderr, "demo:", err)
	return 1
}

// silence keeps the Kubernetes libraries from writing over the view. What goes
// wrong reaches us as errors.
func silence() {
	klog.SetLogger(logr.Discard())
	ctrllog.SetLogger(logr.Discard())
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
}
