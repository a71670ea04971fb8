package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAPolicyExplainsItself(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"the quick start", []string{"threshold", "10", "max-replicas", "5"}, `
Between 1 and 5 replicas.
Measured: the total of vllm:num_requests_waiting over the serving replicas, of which each should have 10.
Up: one replica at most every 5 min, when the total has been above 10 for each replica by more than 10 % for 1 min.
Down: one replica at most every 10 min, when the total has been below 10 for each replica by more than 50 % for 5 min.
At 1 replica: up above 11.
At 2 replicas: up above 22, down below 10.
At 3 replicas: up above 33, down below 15.
At 4 replicas: up above 44, down below 20.
At 5 replicas: down below 25.
Between these it stays, and also while a replica that can't be read could make the difference.
Guarded: it doesn't go down while what was learned says that one replica less can't keep 2.5s until the first token and 75ms between tokens.`},
		{"a large fleet at another pace", []string{
			"threshold", "0.7", "metricName", "vllm:kv_cache_usage_perc", "min-replicas", "2", "max-replicas", "100",
			"evaluationwindow", "0", "scaleupcooldown", "90s", "scaledowncooldown", "30m",
		}, `
Between 2 and 100 replicas.
Measured: the total of vllm:kv_cache_usage_perc over the serving replicas, of which each should have 0.7.
Up: one replica at most every 90 s, when the total is above 0.7 for each replica by more than 10 %.
Down: one replica at most every 30 min, when the total is below 0.7 for each replica by more than 50 %.
At 2 replicas: up above 1.54.
At 3 replicas: up above 2.31, down below 1.05.
At 4 replicas: up above 3.08, down below 1.4.
At 5 replicas: up above 3.85, down below 1.75.
At 6 replicas: up above 4.62, down below 2.1.
At 7 replicas: up above 5.39, down below 2.45.
At 8 replicas: up above 6.16, down below 2.8.
…
At 100 replicas: down below 35.
Between these it stays, and also while a replica that can't be read could make the difference.
Guarded: it doesn't go down while what was learned says that one replica less can't keep 2.5s until the first token and 75ms between tokens.`},
		{"a counter's rate", []string{
			"threshold", "5000", "metricName", "vllm:prompt_tokens_total", "aggregation", "rate", "metriccachewindow", "2m",
			"max-replicas", "2", "downguard", "false",
		}, `
Between 1 and 2 replicas.
Measured: the rate of vllm:prompt_tokens_total over 2 min, in total over the serving replicas, of which each should have 5000 a second.
Up: one replica at most every 5 min, when the total has been above 5000 for each replica by more than 10 % for 1 min.
Down: one replica at most every 10 min, when the total has been below 5000 for each replica by more than 50 % for 5 min.
At 1 replica: up above 5500.
At 2 replicas: down below 5000.
Between these it stays, and also while a replica that can't be read could make the difference.`},
		{"as KAITO documents it, which makes large fleets swing", []string{"threshold", "10", "max-replicas", "3", "downguard", "false"}, `
Between 1 and 3 replicas.
Measured: the total of vllm:num_requests_waiting over the serving replicas, of which each should have 10.
Up: one replica at most every 5 min, when the total has been above 10 for each replica by more than 10 % for 1 min.
Down: one replica at most every 10 min, when the total has been below 10 for each replica by more than 50 % for 5 min.
At 1 replica: up above 11.
At 2 replicas: up above 22, down below 10.
At 3 replicas: down below 15.
Between these it stays, and also while a replica that can't be read could make the difference.
Not guarded: a queue is empty as soon as replicas keep up, so it goes down while all of them are busy. The HPA takes back at once what was added within 10 min, and adds at once what was removed within 5 min: a large fleet can shrink to a few and grow back, over and over.`},
		{"a counter's rate in a list", []string{
			"metrics", `[{name: vllm:generation_tokens_total, aggregation: rate, upthreshold: 900, downthreshold: 100}]`, "max-replicas", "5",
		}, `
Between 1 and 5 replicas.
Measured: the rate of vllm:generation_tokens_total a second, its mean over the serving replicas and over 1 min.
Up: one replica at most every 5 min, when the rate of vllm:generation_tokens_total a second is above 900 for 1 min, and no replica is on its way.
Down: one replica at most every 5 min, and no sooner after a step up, when the rate of vllm:generation_tokens_total a second is below 100 for 5 min.
Between these it stays, and also while a metric is unknown that could make the difference.`},
		{"no room to move", []string{"threshold", "10", "min-replicas", "3", "max-replicas", "3"}, `
Always 3 replicas: that is the minimum and the maximum.`},
		{"a list", []string{"metrics", listText, "max-replicas", "5"}, `
Between 1 and 5 replicas.
Measured: vllm:num_requests_waiting, its mean over the serving replicas.
Measured: the 0.95 quantile of vllm:time_to_first_token_seconds, of all that the serving replicas observed within 1 min.
Up: one replica at most every 5 min, when vllm:num_requests_waiting is above 10 and the 0.95 quantile of vllm:time_to_first_token_seconds above 2 for 1 min, and no replica is on its way.
Down: one replica at most every 5 min, and no sooner after a step up, when vllm:num_requests_waiting is below 1.5 and the 0.95 quantile of vllm:time_to_first_token_seconds below 0.5 for 5 min.
Between these it stays, and also while a metric is unknown that could make the difference.`},
		{"any of a list, at another pace", []string{
			"metrics", `[{name: a, type: gauge, upthreshold: 3, downthreshold: 1}, {name: b, type: histogram, upthreshold: 3, downthreshold: 1, metriccachewindow: 1h}]`,
			"combinepolicy", "or", "evaluationwindow", "0", "scaleupcooldown", "1m", "max-replicas", "5",
		}, `
Between 1 and 5 replicas.
Measured: a, its mean over the serving replicas.
Measured: the mean of b, of all that the serving replicas observed within 1 h.
Up: one replica at most every 1 min, when a is above 3 or the mean of b above 3, and no replica is on its way.
Down: one replica at most every 5 min, and no sooner after a step up, when a is below 1 and the mean of b below 1 for 5 min.
Between these it stays, and also while a metric is unknown that could make the difference.`},
		{"nothing but a bound", []string{"max-replicas", "8"}, `
Between 1 and 8 replicas.
SLO: 2.5s until the first token and 75ms between tokens, on average in an answer. Up to 1 % of the requests may miss it.
Learned from the pods: what a replica serves while the SLO holds, what a request costs, how far forecasts were off, how long a replica takes to start.
Need: the load forecast for when a replica ordered now would serve, as replicas that are as busy as the SLO allows.
Up: straight to what the load needs. Replicas that are starting count.
Down: one replica at most every 1 min, if fewer would have been enough for three cold starts, at least 15 min, seen by the HPA for 30 s.
Until traffic shows more it goes by KAITO's benchmark. Nothing is released before the first such window is over.
Nothing is released while a replica can't be read.`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _, err := Parse(Request{Annotations: ask(tt.pairs...)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), strings.Join(Explain(p), "\n")); diff != "" {
				t.Errorf("explanation (-want +got):\n%s", diff)
			}
		})
	}
}

// The number of replicas has no end that is worth going through one by one, and an
// int32's greatest none after it.
func TestTheGreatestMaximumIsExplainedAtOnce(t *testing.T) {
	for _, low := range []string{"1", "2147483640", "2147483645", "2147483646"} {
		p, _, err := Parse(Request{Annotations: ask("threshold", "10", "min-replicas", low, "max-replicas", "2147483647")})
		if err != nil {
			t.Fatal(err)
		}
		lines := Explain(p)
		if last := lines[len(lines)-3]; len(lines) > 15 || !strings.HasPrefix(last, "At 2147483647 replicas: down below ") {
			t.Errorf("from %s on: %d lines, the greatest size %q", low, len(lines), last)
		}
	}
}

// With hardly any tolerance the HPA still rounds up, and that is what counts.
func TestTheExplanationMindsThatTheHPARoundsUp(t *testing.T) {
	p := Policy{
		Bounds: Bounds{Min: 2, Max: 4}, Queue: Queue{Metric: "a", Target: 10},
		Up: Pace{Cooldown: time.Minute, Step: 1, Tolerance: 0.1}, Down: Pace{Cooldown: time.Minute, Step: 1, Tolerance: 0.1},
	}
	if got := Explain(p)[5]; got != "At 3 replicas: up above 33, down at 20 or less." {
		t.Errorf("at three: %s", got)
	}
}

func TestANameThatKEDACannotTakeIsRefused(t *testing.T) {
	request := Request{Name: strings.Repeat("n", 54), Annotations: ask("threshold", "10", "max-replicas", "5")}
	if _, _, err := Parse(request); err != nil {
		t.Errorf("54 characters: %v", err)
	}
	request.Name += "n"
	want := `metadata.name "` + request.Name + `": must have at most 54 characters to be scaled by KEDA`
	if _, _, err := Parse(request); err == nil || err.Error() != want {
		t.Errorf("55 characters: %v, want %s", err, want)
	}
}
