package vllm

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	shapes "github.com/kaito-project/keda-kaito-scaler/test/page"
)

// livePage is one that a live vLLM 0.25.1 wrote after some requests, without its HELP
// sentences.
const livePage = "../../../internal/scrape/testdata/engines/vllm-0.25.1-cancelled.txt"

func TestPageIsBuiltAsALiveOne(t *testing.T) {
	live, err := os.ReadFile(livePage)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WritePage(&b, State{Model: "tiny", Started: start, Now: at(60), Engines: []*Engine{NewEngine(Phi4MiniA100(), start)}}); err != nil {
		t.Fatal(err)
	}
	want, err := shapes.Shapes(string(live))
	if err != nil {
		t.Fatal(err)
	}
	got, err := shapes.Shapes(b.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("families (-live +simulated):\n%s", diff)
	}
}
