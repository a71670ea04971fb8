package page

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// live is a page that a live vLLM 0.25.1 wrote after some requests, without its HELP
// sentences.
const live = "../../internal/scrape/testdata/engines/vllm-0.25.1-cancelled.txt"

func TestAPageIsBuiltAsALiveOne(t *testing.T) {
	text, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Shapes(string(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Shapes(Busy().Text())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("families (-live +ours):\n%s", diff)
	}
}
