// Command engines installs a vLLM that runs without a GPU, and removes all of them
// with -clean. So the minute that it takes is spent in view, and not inside go test.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/kaito-project/keda-kaito-scaler/test/engine"
)

func main() {
	version := flag.String("version", engine.DefaultVersion, "of vLLM: "+strings.Join(engine.Versions(), ", "))
	clean := flag.Bool("clean", false, "remove every vLLM that was installed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *version, *clean)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // Nothing is left for stop to do.
	}
}

func run(ctx context.Context, version string, clean bool) error {
	if !clean {
		_, err := engine.Install(ctx, os.Stderr, version)
		return err
	}
	removed, err := engine.Clean(ctx, os.Stderr)
	if err == nil && removed == nil {
		removed = []string{"nothing: none was installed"}
	}
	if removed != nil {
		fmt.Fprintln(os.Stderr, "removed", strings.Join(removed, ", "))
	}
	return err
}
