// Command programs builds what a test control plane is made of, so that the
// minutes this takes the first time are spent in view, and not inside go test,
// which shows no progress and has a timeout.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, err := controlplane.Build(ctx, os.Stderr)
	if err == nil {
		_, _, err = controlplane.BuildCertManager(ctx, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // Nothing is left for stop to do.
	}
}
