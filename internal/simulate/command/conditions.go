package command

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// conditions are flags of what a simulated world has beside its load.
type conditions struct {
	simulate.Conditions
	long    simulate.LongPrompts
	cancels simulate.Cancels
	growth  simulate.Growth

	texts   map[string]*string
	routing string
	asleep  int32
	cached  int
}

// pair is a flag with two values and a colon between them.
type pair struct {
	name, usage string
	parse       func(*conditions, string, string) error
}

// pairs are the flags with two values.
var pairs = []pair{
	{"retries", "`times:after`: clients send a refused request again, such as 2:500ms, then after twice that and so on", func(c *conditions, times, after string) (err error) {
		c.Retries.Times, err = between(times, 1, 100)
		return errors.Join(err, durationOf(after, &c.Retries.After))
	}},
	{"cancels", "`share:after`: clients that go away, such as 0.1:3s", func(c *conditions, of, after string) error {
		return errors.Join(share(of, &c.cancels.Share), durationOf(after, &c.cancels.After))
	}},
	{"long-prompts", "`share:from-to`: prompts of so many tokens, such as 0.01:36000-100000", func(c *conditions, of, tokens string) error {
		from, to, _ := strings.Cut(tokens, "-")
		low, err1 := between(from, 1, 10_000_000)
		high, err2 := between(to, max(low, 1), 10_000_000)
		c.long.From, c.long.To = float64(low), float64(high)
		return errors.Join(share(of, &c.long.Share), err1, err2)
	}},
	{"answers-grow", "`from:times`: answers have so many times the tokens from a time on, such as 4h:3", func(c *conditions, from, times string) error {
		n, err := strconv.ParseFloat(times, 64)
		if err != nil || !(n > 0 && n <= 100) {
			err = fmt.Errorf("%q: must be above 0, at most 100", times)
		}
		c.growth.Times = n
		return errors.Join(durationOf(from, &c.growth.From), err)
	}},
	{"late-pages", "`waiting:takes`: pages take so long while so many requests wait on a pod, such as 1:6s; from 4.5s on they time out", func(c *conditions, waiting, takes string) (err error) {
		c.LatePages.Waiting, err = between(waiting, 0, 1<<16)
		return errors.Join(err, durationOf(takes, &c.LatePages.Takes))
	}},
	{"flaps", "`every:for`: one pod at a time turns NotReady, such as 24h:20s", func(c *conditions, every, length string) error {
		return errors.Join(durationOf(every, &c.Flaps.Every), durationOf(length, &c.Flaps.For))
	}},
	{"crashes", "`every:restart`: one engine at a time ends and starts again, such as 12h:2m", func(c *conditions, every, restart string) error {
		return errors.Join(durationOf(every, &c.Crashes.Every), durationOf(restart, &c.Crashes.Restart))
	}},
	{"no-quota", "`from:for`: what is ordered then is broken until it ends, such as 2h:1h", func(c *conditions, from, length string) error {
		return errors.Join(durationOf(from, &c.NoQuota.From), durationOf(length, &c.NoQuota.For))
	}},
	{"sessions", "`count:shared`: prompts that begin as others did, of which the prefix cache has such a share, such as 500:0.8", func(c *conditions, count, shared string) (err error) {
		c.Sessions.Count, err = between(count, 1, 1_000_000)
		return errors.Join(err, share(shared, &c.Sessions.Shared))
	}},
}

// routings are by the names of the flag.
var routings = map[string]simulate.Routing{"least-busy": simulate.LeastBusy, "sticky": simulate.Sticky, "prefix-aware": simulate.PrefixAware}

func (c *conditions) flags(f *pflag.FlagSet) {
	c.texts = map[string]*string{}
	for _, p := range pairs {
		c.texts[p.name] = f.String(p.name, "", p.usage)
	}
	f.DurationVar(&c.Patience, "patience", 0, "how long a client waits for its first token before it goes away; 0 for ever")
	f.StringVar(&c.routing, "routing", "least-busy", "who gets a request: least-busy, sticky or prefix-aware, the latter two by --sessions")
	f.IntVar(&c.EnginesPerPod, "engines-per-pod", 1, "engines behind one page, as with data parallelism")
	f.Int32Var(&c.asleep, "asleep", 0, "how many of the first replicas sleep")
	f.StringSliceVar(&c.Missing, "missing", nil, "`names` of metric families that no page has")
	f.IntVar(&c.cached, "cached-sessions", 0, "of how many sessions an engine's prefix cache has room for; 0 for all")
	f.BoolVar(&c.Unmeasured, "unmeasured", false, "KAITO's benchmark tells nobody how fast a replica is")
	f.DurationVar(&c.MeasuredAfter, "measured-after", 0, "when KAITO's benchmark tells how fast a replica is")
	f.BoolVar(&c.NoTolerance, "old-hpa", false, "Kubernetes before 1.35, whose HPA stays where it is within 10 %")
}

// parse reads those with two values, and gives what is wrong with any.
func (c *conditions) parse() error {
	var errs []error
	for _, p := range pairs {
		text := *c.texts[p.name]
		if text == "" {
			continue
		}
		one, other, found := strings.Cut(text, ":")
		if !found {
			errs = append(errs, fmt.Errorf("--%s %q: must have a colon, as %s", p.name, text, p.usage))
			continue
		}
		if err := p.parse(c, one, other); err != nil {
			errs = append(errs, fmt.Errorf("--%s %q: %w", p.name, text, err))
		}
	}
	routing, found := routings[c.routing]
	if !found {
		errs = append(errs, fmt.Errorf("--routing %q: must be least-busy, sticky or prefix-aware", c.routing))
	}
	if routing != simulate.LeastBusy && c.Sessions.Count == 0 {
		errs = append(errs, fmt.Errorf("--routing %s: needs --sessions", c.routing))
	}
	c.Routing, c.Asleep, c.Sessions.Cached = routing, c.asleep, c.cached
	return errors.Join(append(errs, c.checkNumbers()...)...)
}

// checkNumbers refuses what can't be.
func (c *conditions) checkNumbers() (errs []error) {
	if c.cached < 0 || c.cached > 0 && c.Sessions.Shared == 0 || c.MeasuredAfter < 0 {
		errs = append(errs, errors.New("--cached-sessions and --measured-after: must not be negative; the former needs --sessions"))
	}
	if c.Patience < 0 || c.EnginesPerPod < 1 || c.EnginesPerPod > 64 || c.asleep < 0 || c.asleep > 500 {
		errs = append(errs, errors.New("--patience and --asleep: must not be negative; --engines-per-pod: must be from 1 to 64"))
	}
	return errs
}

// between is a whole number within limits.
func between(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q: must be a whole number from %d to %d", text, low, high)
	}
	return n, nil
}

// share is a number from 0 to 1.
func share(text string, into *float64) error {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !(x >= 0 && x <= 1) {
		return fmt.Errorf("%q: must be from 0 to 1", text)
	}
	*into = x
	return nil
}

// durationOf is a duration above 0.
func durationOf(text string, into *time.Duration) error {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q: must be a duration above 0, such as 20s", text)
	}
	*into = d
	return nil
}
