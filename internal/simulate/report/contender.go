package report

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Outcome is what a contender came to, and the knob that it found for it.
type Outcome struct {
	Result *simulate.Result
	Knob   string
	// Before is set if it had been played before, for another.
	Before bool
}

// Contender is a policy in a comparison.
type Contender struct {
	Name string
	// Words describe it.
	Words string
	// Standing is set if it comes to the same at any cold start.
	Standing bool
	// Runs is about how many runs one outcome takes, Search how many more the
	// first of the first seed does.
	Runs, Search int
	// New is called for each load; what it returns plays the load at one cold
	// start after the other, and may remember what it found at the last.
	New func(*Known) Player
}

// Known is what is known of a load already.
type Known struct {
	// Oracle is how the first seed's oracle smooths and how far it fills; nil until
	// that is known.
	Oracle *simulate.Oracle
	// fixed are fleets that were played: at any cold start they come to the same.
	fixed map[int32]*simulate.Result
}

// fleet plays a fixed fleet, if it hasn't been.
func (k *Known) fleet(ctx context.Context, s simulate.Setting, load *simulate.Load, n int32) (*simulate.Result, error) {
	if result, found := k.fixed[n]; found {
		return result, nil
	}
	result, err := simulate.Run(ctx, s, load, simulate.Static("static", n))
	if err != nil {
		return nil, err
	}
	if k.fixed == nil {
		k.fixed = map[int32]*simulate.Result{}
	}
	k.fixed[n] = result
	return result, nil
}

// Player plays a load once, or as often as it takes to find its knob.
type Player func(context.Context, simulate.Setting, *simulate.Load) (Outcome, error)

// Plain is a contender that is played as it is.
func Plain(words string, p simulate.Policy) Contender {
	return Contender{Name: p.Name, Words: words, Runs: 1, New: func(*Known) Player {
		return func(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
			result, err := simulate.Run(ctx, s, load, p)
			return Outcome{Result: result}, err
		}
	}}
}

// Annotated is an InferenceSet's own policy within its own bounds.
func Annotated(name string, annotations map[string]string, bounds policy.Bounds) Contender {
	p := simulate.Annotated(name, annotations)
	c := Plain("the annotations of "+name, p)
	c.New = func(*Known) Player {
		return func(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
			s.Bounds = bounds
			s.Initial = bounds.Clamp(s.Initial)
			result, err := simulate.Run(ctx, s, load, p)
			return Outcome{Result: result}, err
		}
	}
	return c
}

// The names of the policies that goals are about: NameAutomatic is the one that they
// judge.
const (
	NameAutomatic = "automatic"
	NameStatic    = "static99"
	NameOracle    = "oracle"
)

// Contenders are all policies to compare with, in the order of tables.
func Contenders() []Contender {
	return []Contender{
		Plain("automatic mode: what annotations without a threshold ask for", simulate.Automatic(NameAutomatic)),
		Plain("KAITO's annotation for one metric, as KAITO documents it: 10 waiting requests for each replica, with downguard off",
			simulate.QueueTarget("kaito-queue", 10)),
		Plain("the same as this project has it by default, guarded: no replica goes that the load needs", simulate.GuardedQueue("kaito-queue-guarded", 10)),
		Plain("KAITO's documented default for a list: waiting 10/1 AND time in the queue 30/1 s", simulate.MetricList("kaito-list", 10, 30)),
		Plain("Knative's autoscaler: a target of 100 requests in flight, aimed at 70 %, windows of 60 and 6 s",
			simulate.Concurrency("knative", 100)),
		Plain("llm-d's rule: saturated at 80 % of the KV cache or 5 waiting, spare 10 % or 3", simulate.Spare("llm-d", .8, 5)),
		{
			Name: "static-mean", Words: "as many replicas as the mean of the load fills", Standing: true, Runs: 1,
			New: func(k *Known) Player { return k.static(meanNeed) },
		},
		{
			Name: "static-peak", Words: "as many replicas as the busiest five minutes fill", Standing: true, Runs: 1,
			New: func(k *Known) Player { return k.static(peakNeed) },
		},
		{
			Name: NameStatic, Words: "the smallest fixed fleet that attains 99 %", Standing: true, Runs: 4,
			New: func(k *Known) Player { return k.fewest },
		},
		{
			Name: NameOracle, Words: "knows the future: the fewest GPU-hours that attain 99 %", Runs: 6,
			New: func(k *Known) Player { return (&foresight{known: k}).play },
		},
	}
}

// fixed is a fleet of so many replicas, if the name says so: fixed-3.
func fixed(name string) (Contender, bool) {
	digits, found := strings.CutPrefix(name, "fixed-")
	n, err := strconv.ParseInt(digits, 10, 32)
	if !found || err != nil || n < 1 || n > 500 {
		return Contender{}, false
	}
	c := Contender{Name: name, Words: fmt.Sprintf("a fixed fleet of %d", n), Standing: true, Runs: 1}
	c.New = func(k *Known) Player {
		return k.static(func(simulate.Setting, *simulate.Load) float64 { return float64(n) })
	}
	return c, true
}

// ContendersNamed are those of that name, in the order given. "static" is short
// for the smallest fixed fleet, fixed-N is one of N replicas.
func ContendersNamed(names []string) ([]Contender, error) {
	all := Contenders()
	var chosen []Contender
	for _, name := range names {
		if name == "static" {
			name = NameStatic
		}
		i := slices.IndexFunc(all, func(c Contender) bool { return c.Name == name })
		if c, found := fixed(name); found && i < 0 {
			i, all = len(all), append(all, c)
		}
		if i < 0 {
			known := make([]string, len(all))
			for i := range all {
				known[i] = all[i].Name
			}
			return nil, fmt.Errorf("policy %q is not known: it must be one of %q, or fixed-N for a fleet of N from 1 to 500", name, known)
		}
		if !slices.ContainsFunc(chosen, func(c Contender) bool { return c.Name == name }) {
			chosen = append(chosen, all[i])
		}
	}
	return chosen, nil
}

func (k *Known) static(size func(simulate.Setting, *simulate.Load) float64) Player {
	return func(ctx context.Context, s simulate.Setting, load *simulate.Load) (Outcome, error) {
		n := max(1, int32(math.Ceil(size(s, load))))
		_, before := k.fixed[n]
		result, err := k.fleet(ctx, s, load, n)
		return Outcome{Result: result, Knob: fmt.Sprintf("%d replicas", n), Before: before}, err
	}
}

// meanNeed and peakNeed are in replicas at the limit of the SLO.
func meanNeed(s simulate.Setting, load *simulate.Load) float64 {
	in, out := load.Mean()
	return float64(len(load.Requests)) / load.Length.Seconds() / s.Capacity(in, out)
}

func peakNeed(s simulate.Setting, load *simulate.Load) float64 {
	in, out := load.Mean()
	return load.Peak() / s.Capacity(in, out)
}
