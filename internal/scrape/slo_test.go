package scrape

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// answeredPage is a page on which so many requests have had their first token after so many
// seconds, and all their tokens at so many seconds each.
func answeredPage(n int, firstToken, perToken float64) string {
	var page strings.Builder
	histogram := func(name string, bounds []float64, value float64) {
		fmt.Fprintf(&page, "# TYPE %s histogram\n", name)
		for _, le := range append(bounds, math.Inf(1)) {
			count := 0
			if value <= le {
				count = n
			}
			fmt.Fprintf(&page, "%s_bucket{engine=\"0\",le=\"%g\",model_name=\"m\"} %d\n", name, le, count)
		}
		fmt.Fprintf(&page, "%[1]s_count{engine=\"0\"} %[2]g\n%[1]s_sum{engine=\"0\"} %[3]g\n", name, float64(n), float64(n)*value)
	}
	page.WriteString("# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\"} 1\n")
	histogram(policy.FamilyTTFT, policy.TTFTBounds[:], firstToken)
	histogram(policy.FamilyTPOT, policy.TPOTBounds[:], perToken)
	histogram(policy.FamilyITL, policy.TPOTBounds[:], perToken)
	return page.String()
}

// Long prompts have a second more for each 4096 tokens, and a model that takes most of an
// SLO when idle has twice what it takes: a page that is read for an SLO tells what is late
// by a greater one, too.
func TestWhatIsLateByARaisedSLOIsReadOffThePage(t *testing.T) {
	saturation := policy.Saturation{TTFT: policy.DefaultTTFT, ITL: policy.DefaultITL}
	reading := policy.Trigger{Saturation: &saturation}.Reading()
	sel := newSelector(reading.Families, reading.Limits)
	slo := sample.SLO{FirstToken: saturation.TTFT.Seconds(), PerToken: saturation.ITL.Seconds()}
	longer := sample.SLO{FirstToken: 3.5, PerToken: .075}
	slower := sample.SLO{FirstToken: 2.5, PerToken: .14}
	for _, tt := range []struct {
		story                string
		firstToken, perToken float64
		slo                  sample.SLO
		judged               sample.SLO
		late                 float64
	}{
		{"all is quick", .4, .03, slo, slo, 0},
		{"first tokens after 3.4 s", 3.4, .03, slo, slo, 100},
		{"first tokens of long prompts after 3.4 s", 3.4, .03, longer, sample.SLO{FirstToken: 5, PerToken: .075}, 0},
		{"first tokens of long prompts after 6 s", 6, .03, longer, sample.SLO{FirstToken: 5, PerToken: .075}, 100},
		{"a model of 130 ms a token", .4, .13, slo, slo, 100},
		{"a model of 130 ms a token that takes 70 when idle", .4, .13, slower, sample.SLO{FirstToken: 2.5, PerToken: .15}, 0},
		{"a model of 160 ms a token that takes 70 when idle", .4, .16, slower, sample.SLO{FirstToken: 2.5, PerToken: .15}, 100},
	} {
		t.Run(tt.story, func(t *testing.T) {
			pod := &sample.Pod{}
			var did sample.Interval
			for i, n := range []int{0, 100} {
				d := &decoder{}
				d.reset(sel)
				if f := d.readLines(strings.NewReader(answeredPage(n, tt.firstToken, tt.perToken)), make([]byte, smallChunk), newChunks(1), 8<<20); f != nil {
					t.Fatal(f)
				}
				p, f := d.decode(time.Unix(1000+int64(5*i), 0), nil)
				if f != nil {
					t.Fatal(f)
				}
				did, _ = pod.Add(p.sample, tt.slo)
			}
			if did.Answered != 100 || did.Late != tt.late || pod.SLO != tt.judged {
				t.Errorf("%v of %v answers are late, judged at %+v; want %v of 100 at %+v", did.Late, did.Answered, pod.SLO, tt.late, tt.judged)
			}
		})
	}
}
