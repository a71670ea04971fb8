// Package e2e tests the product as its users have it: on a real Kubernetes with
// a real KEDA, the scaler a process under the rights of its chart.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// quick is how replicas start where a test isn't about that.
var quick = kaito.Stages{Node: time.Second, Download: time.Second, Engine: time.Second, Benchmark: time.Second}

// shared is the stack that the tests of this package share, each with
// InferenceSets of its own.
var shared *stack.Stack

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("tests on a control plane take minutes: not with -short")
		return
	}
	if err := manyAtOnce(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		os.Exit(1)
	}
	os.Exit(run(m))
}

// manyAtOnce lets more tests run beside each other than there are cores, unless
// -parallel says otherwise: what they do most is wait.
func manyAtOnce() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", "12")
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Minute)
	defer cancel()
	var err error
	shared, err = stack.Start(ctx, stack.Options{
		HPASync: 2 * time.Second,
		KAITO: kaito.Options{
			Startup:     quick,
			Termination: time.Second,
		},
		ScalerArgs: []string{"--scrape-interval=1s", "--scrape-timeout=900ms", "--v=1"},
		Race:       raceDetector,
		Oldest:     oldest,
		Out:        os.Stderr,
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return 1
	}
	return controlplane.RunTests(m, shared, cancel, 40)
}
