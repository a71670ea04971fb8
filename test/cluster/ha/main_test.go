// Package ha tests that the scaler goes on answering: several scaler processes
// behind one address, a real KEDA that asks every second, and everything around
// them being renewed, killed, suspended or away.
package ha

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// shared is the control plane of all tests. Each has scalers and InferenceSets
// of its own; they run one after another.
var (
	shared *stack.Stack
	// audit is the API server's log of what the scalers' account asks of it.
	audit string
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("tests on a control plane take minutes: not with -short")
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "ha-")
	if err != nil {
		fmt.Fprintf(os.Stderr, "ha: %v\n", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	audit = filepath.Join(dir, "audit.log")
	shared, err = stack.Start(ctx, stack.Options{
		HPASync: time.Second,
		KAITO: kaito.Options{
			Startup:     kaito.Stages{Node: 100 * time.Millisecond, Engine: 100 * time.Millisecond},
			Termination: 500 * time.Millisecond,
		},
		ScalerArgs: []string{"--scrape-interval=1s", "--scrape-timeout=900ms", "--v=1"},
		NoScaler:   true,
		Race:       raceDetector,
		AuditLog:   audit, AuditPolicy: stack.AuditPolicy,
		Out: os.Stderr,
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "ha: %v\n", err)
		return 1
	}
	return controlplane.RunTests(m, shared, cancel, 15)
}
