// Command programs builds what a test control plane is made of, with -node what
// a node is made of too, and with -bare etcd and the API server alone, so that the
// minutes this takes the first time are spent in view, and not inside go test,
// which shows no progress and has a timeout.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

func main() {
	node := flag.Bool("node", false, "a node's programs too")
	bare := flag.Bool("bare", false, "nothing but etcd and Kubernetes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	build := controlplane.Build
	if *bare {
		build = controlplane.BuildBare
	}
	_, err := build(ctx, os.Stderr)
	switch {
	case err != nil, *bare:
	case *node:
		_, err = controlplane.BuildNode(ctx, os.Stderr)
	default:
		_, _, err = controlplane.BuildCertManager(ctx, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // Nothing is left for stop to do.
	}
}
