package decision

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/aggregate"
	"github.com/kaito-project/keda-kaito-scaler/internal/hpa"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
	"github.com/kaito-project/keda-kaito-scaler/internal/text"
)

// truth is a three-valued one, ordered: its and is the least, its or the
// greatest (Kleene's logic).
type truth int8

const (
	no truth = iota - 1
	maybe
	yes
)

// comparison is a metric of a list against its thresholds. Both no is between
// them; a maybe is the unknown, which moves nothing and is never ignored.
type comparison struct {
	metric policy.Metric
	aggregate.Total
	above, below truth
	// aboveWithTimeouts is above, with the evidence of replicas that time out under load.
	aboveWithTimeouts truth
}

func compare(m policy.Metric, fleet sample.Fleet, now time.Time) comparison {
	f := comparison{metric: m, Total: aggregate.Metric(m, fleet, now), above: maybe, below: maybe}
	f.setTruths()
	f.aboveWithTimeouts = f.above
	if len(f.Pods) > 0 && aggregate.Exceeds(f.WithTimeouts, m.Up) {
		f.aboveWithTimeouts = yes
	}
	return f
}

// setTruths compares what is known with the thresholds.
func (f *comparison) setTruths() {
	m := f.metric
	switch {
	case len(f.Read) == 0, f.UnknownReason != "":
		return
	case f.Idle:
		// Less than any threshold: a Down of 0 would never be undercut.
		f.above, f.below = no, yes
		return
	}
	switch {
	case aggregate.Exceeds(f.Low, m.Up):
		f.above = yes
	case !aggregate.Exceeds(f.High, m.Up):
		f.above = no
	}
	switch {
	case aggregate.Exceeds(m.Down, f.High):
		f.below = yes
	case !aggregate.Exceeds(m.Down, f.Low):
		f.below = no
	}
}

// scaleUpByTimeouts tells whether the metrics ask for more with the evidence of replicas that
// time out under load, and whose.
func scaleUpByTimeouts(how policy.Combine, findings []comparison) (aggregate.Timeouts, bool) {
	likely := slices.Clone(findings)
	var e aggregate.Timeouts
	for i := range likely {
		f := &likely[i]
		if f.above != yes && f.aboveWithTimeouts == yes && f.Limit > e.Limit {
			e = f.Timeouts
		}
		f.above = f.aboveWithTimeouts
	}
	up, _ := combine(how, likely)
	return e, up == yes && len(e.Pods) > 0
}

// combine is whether the metrics together ask for more replicas, and for fewer.
func combine(how policy.Combine, findings []comparison) (up, down truth) {
	up, down = yes, yes
	if how == policy.Or {
		up = no
	}
	for _, f := range findings {
		if how == policy.Or {
			up = max(up, f.above)
		} else {
			up = min(up, f.above)
		}
		down = min(down, f.below)
	}
	return up, down
}

// evaluateList publishes the replicas that a metric list asks for, as a number
// of them: one step at a time, and none while the one before is on its way or
// its cooldown lasts.
func evaluateList(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Recommendation {
	findings := make([]comparison, len(trigger.List.Metrics))
	for i, m := range trigger.List.Metrics {
		findings[i] = compare(m, fleet, now)
	}
	autoscaler := hpa.For(trigger, fleet)
	v := newListRecommendation(findings, fleet)
	v.Value = autoscaler.Hold()
	switch {
	case findings[0].Serving == 0:
		v.Reason = fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", fleet.Desired)
	case noneRead(findings) && !wantsScaleUpByTimeouts(trigger.List, findings):
		v.Confidence, v.Value = Unknown, 0
		v.Reason = "cannot tell the load: " + findings[0].NoneReadable(findings[0].metric.Name)
		return v
	default:
		d := nextStep(trigger.List, findings, fleet, trigger.DownWindow, now)
		v.Confidence, v.Waiting = d.answer, d.wait != ""
		if d.answer == Measured && !allComplete(findings) {
			v.Confidence = Bounded
		}
		// As int64: after an int32's greatest there is none.
		wanted := min(max(int64(fleet.Desired)+int64(d.change), 0), math.MaxInt32)
		v.Replicas = trigger.Bounds.Clamp(int32(wanted))
		v.Value = autoscaler.ValueForStep(d.change)
		v.Reason = d.reason(trigger, fleet, findings, v.Replicas)
	}
	return v
}

// newListRecommendation begins a recommendation that holds, with what could be read and what not.
func newListRecommendation(findings []comparison, fleet sample.Fleet) Recommendation {
	v := Recommendation{Confidence: Held, Replicas: fleet.Desired}
	for i := range findings {
		v.MissingMetrics = append(v.MissingMetrics, findings[i].MissingMetrics...)
	}
	for _, r := range fleet.Replicas {
		read, without := false, aggregate.UnreadablePod{}
		for i := range findings {
			f := &findings[i]
			read = read || slices.Contains(f.Read, r.Pod)
			at := slices.IndexFunc(f.Unreadable, func(u aggregate.UnreadablePod) bool { return u.Pod == r.Pod })
			if at < 0 {
				continue
			}
			if without.Pod == "" {
				without = f.Unreadable[at]
			}
			without.GivenUp = without.GivenUp || f.Unreadable[at].GivenUp
		}
		switch {
		case without.Pod != "":
			v.Unreadable = append(v.Unreadable, without)
		case read:
			v.Read = append(v.Read, r.Pod)
		}
	}
	return v
}

// wantsScaleUpByTimeouts tells whether there is evidence enough to ask for more.
func wantsScaleUpByTimeouts(l *policy.List, findings []comparison) bool {
	_, up := scaleUpByTimeouts(l.Combine, findings)
	return up
}

// noneRead tells whether nothing at all is known of a fleet that serves. One
// that is warming up is only known too briefly.
func noneRead(findings []comparison) bool {
	for i := range findings {
		if f := &findings[i]; len(f.Read) > 0 || f.Warming > 0 {
			return false
		}
	}
	return true
}

func allComplete(findings []comparison) bool {
	return !slices.ContainsFunc(findings, func(f comparison) bool { return !f.Total.Complete() })
}

// step is where a list goes, and what keeps it from going further.
type step struct {
	answer Confidence
	// change is +1, -1 or 0 replicas.
	change int32
	// wait says in words what a step that the metrics ask for waits for, ""
	// for none.
	wait string
	// evidence is what the step rests on, if not on readings alone.
	aggregate.Timeouts
}

// stepUp is a step up, if it may be made now.
func stepUp(l *policy.List, findings []comparison, fleet sample.Fleet, now time.Time) step {
	var longest time.Duration
	for i := range findings {
		longest = max(longest, findings[i].Window)
	}
	if text, coming := startingReplica(fleet, longest, now); coming {
		return step{answer: Held, wait: text}
	}
	if text := futileScaleUp(fleet, now); text != "" {
		return step{answer: Held, wait: text}
	}
	if left := l.UpCooldown - now.Sub(lastScaleUp(fleet)); left > 0 {
		return step{answer: Held, wait: "next step up in " + text.Duration(left)}
	}
	return step{answer: Measured, change: 1}
}

// nextStep is the step that the metrics ask for, if it may be made now. The HPA makes
// one down once it has seen it for that long.
func nextStep(l *policy.List, findings []comparison, fleet sample.Fleet, seen time.Duration, now time.Time) step {
	up, down := combine(l.Combine, findings)
	e, evident := scaleUpByTimeouts(l.Combine, findings)
	switch {
	case up == yes:
		return stepUp(l, findings, fleet, now)
	case evident:
		d := stepUp(l, findings, fleet, now)
		d.Timeouts = e
		return d
	case down == yes:
		// Not within the cooldown of a step up either: the HPA counts steps up
		// of the period against steps down, and might take two.
		last := lastScaleUp(fleet)
		if fleet.Lowered.After(last) {
			last = fleet.Lowered
		}
		// The HPA's own window comes after it.
		if left := l.DownCooldown - seen - now.Sub(last); left > 0 {
			return step{answer: Held, wait: "next step down in " + text.Duration(left)}
		}
		return step{answer: Measured, change: -1}
	case up == maybe || down == maybe:
		return step{answer: Held}
	}
	return step{answer: Measured}
}

func (d step) reason(trigger policy.Trigger, fleet sample.Fleet, findings []comparison, replicas int32) string {
	facts := d.describe(trigger.List, findings)
	if len(d.Pods) > 0 {
		facts += "; " + d.DescribeTimeouts()
	}
	from := fleet.Desired
	switch {
	case d.wait != "":
		return fmt.Sprintf("%d for now: %s; %s", from, facts, d.wait)
	case d.answer == Held:
		return fmt.Sprintf("holding at %d: %s", from, facts)
	case d.change > 0 && replicas <= from:
		return fmt.Sprintf("%d is the maximum: %s", from, facts)
	case d.change < 0 && replicas >= from:
		return fmt.Sprintf("%d is the minimum: %s", from, facts)
	case d.change > 0:
		return fmt.Sprintf("%d → %d: %s; next step up in %s", from, replicas, facts, text.Duration(trigger.List.UpCooldown))
	case d.change < 0:
		return fmt.Sprintf("%d → %d: %s; next step down in %s", from, replicas, facts, text.Duration(trigger.List.DownCooldown))
	}
	return fmt.Sprintf("%d is right: %s", from, facts)
}

// describe are the metrics with their numbers: of those any of which is enough for
// a step up, the ones that are.
func (d step) describe(l *policy.List, findings []comparison) string {
	var facts []string
	enough := l.Combine == policy.Or && slices.ContainsFunc(findings, func(f comparison) bool { return f.above == yes })
	for i := range findings {
		if f := &findings[i]; !enough || f.above == yes {
			facts = append(facts, f.describe())
		}
	}
	return text.Join(facts)
}

// describe is what is known of the metric, against the thresholds that it is above,
// below or between.
func (f *comparison) describe() string {
	m := f.metric
	name := displayName(m)
	scale, unit := f.unit()
	say := func(x float64) string { return text.Distinct(x*scale, m.Up*scale, m.Down*scale) + unit }
	threshold := func(x float64) string { return text.Significant(x*scale, 9) }
	gaps := ""
	if text := f.DescribeMissing(); text != "" && f.UnknownReason == "" {
		gaps = " (" + text + ")"
	}
	switch {
	case f.UnknownReason != "":
		return fmt.Sprintf("%s unknown (%s)", name, f.UnknownReason)
	case len(f.Read) == 0 && f.Warming == 0:
		return fmt.Sprintf("%s unknown (%s)", name, f.FirstUnreadable())
	case len(f.Read) == 0:
		return fmt.Sprintf("%s unknown%s", name, gaps)
	case f.Idle:
		return fmt.Sprintf("%s idle in %s%s", name, text.Duration(m.Window), gaps)
	case f.above == yes:
		return fmt.Sprintf("%s %s > %s%s", name, say(f.Low), threshold(m.Up), gaps)
	case f.below == yes:
		return fmt.Sprintf("%s %s < %s%s", name, say(f.High), threshold(m.Down), gaps)
	case f.above == no && f.below == no:
		return fmt.Sprintf("%s %s from %s to %s%s", name, say(f.Low), threshold(m.Down), threshold(m.Up), gaps)
	}
	return fmt.Sprintf("%s %s or more%s", name, say(f.Low), gaps)
}

// unit is what a metric is told in: seconds, or hundredths where a whole is 1.
func (f *comparison) unit() (scale float64, unit string) {
	switch name := f.metric.Name; {
	case strings.HasSuffix(name, "_seconds"):
		return 1, " s"
	case sample.IsRatio(name) && max(f.metric.Up, f.Low) <= 1:
		return 100, " %"
	case sample.IsRatio(name) && !strings.HasSuffix(name, "_ratio"):
		return 1, " %"
	}
	return 1, ""
}

// displayName is a list's metric as its owner knows it, with what is taken of it.
func displayName(m policy.Metric) string {
	switch {
	case m.Kind == policy.Gauge:
		return m.Name
	case m.Kind == policy.Counter:
		return m.Name + " rate"
	case m.Quantile > 0:
		return m.Name + " p" + strconv.FormatFloat(m.Quantile*100, 'g', 6, 64)
	}
	return m.Name + " mean"
}
