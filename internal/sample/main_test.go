package sample

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	// Thousands of random fleets, histories and histograms, within seconds. Set
	// before the command line is read, which may ask for more.
	if err := flag.Set("rapid.checks", checks); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
