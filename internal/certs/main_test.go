package certs

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A check signs and verifies some hundred times. This is a default: flags
	// are parsed later, so -rapid.checks=1000 looks harder.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
