package controlplane_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

// One cluster serves all tests that don't break it.
var (
	programs controlplane.Programs
	shared   *controlplane.Cluster
	bootTime time.Duration
)

func TestMain(m *testing.M) {
	if os.Getenv(parentVar) != "" {
		beParent() // this binary again, as a program that is to be killed
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.SetLogger(logr.Discard())
	var err error
	if programs, err = controlplane.Build(ctx, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	begin := time.Now()
	shared, err = controlplane.Start(ctx, controlplane.Options{
		Programs: programs, HPASync: 2 * time.Second, Out: os.Stderr,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bootTime = time.Since(begin)
	return controlplane.RunTests(m, shared, stop, 30)
}
