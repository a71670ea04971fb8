// Command programs builds what a test control plane is made of: with -node what a
// node is made of too, with -oldest a control plane with an older KEDA, and with
// -bare etcd and the API server alone. So the minutes that this takes the first time
// are spent in view, and not inside go test,
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
	oldest := flag.Bool("oldest", false, "with the oldest KEDA that is promised to work")
	bare := flag.Bool("bare", false, "nothing but etcd and Kubernetes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	build := controlplane.Build
	switch {
	case *bare:
		build = controlplane.BuildBare
	case *oldest:
		build = controlplane.BuildOldest
	}
	_, err := build(ctx, os.Stderr)
	switch {
	case err != nil, *bare, *oldest:
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
