package decision

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// truth is a three-valued one, ordered: its and is the least, its or the
// greatest (Kleene's logic).
type truth int8

const (
	no truth = iota - 1
	maybe
	yes
)

// finding is a metric of a list against its thresholds. Both no is between
// them; a maybe is the unknown, which moves nothing and is never ignored.
type finding struct {
	metric policy.Metric
	survey
	above, below truth
	// likely is above, with the evidence of replicas that time out under load.
	likely truth
}

func compare(m policy.Metric, fleet sample.Fleet, now time.Time) finding {
	f := finding{metric: m, survey: measure(m, fleet, now), above: maybe, below: maybe}
	f.judge()
	f.likely = f.above
	if len(f.pods) > 0 && exceeds(f.seems, m.Up) {
		f.likely = yes
	}
	return f
}

// exceeds tells whether a is greater than b, and not only by what adding up and
// dividing leave: .1 on each of three pods is .10000000000000002 in the mean.
func exceeds(a, b float64) bool {
	const rounding = 1e-9
	return a-b > rounding*math.Abs(b)
}

// judge compares what is known with the thresholds.
func (f *finding) judge() {
	m := f.metric
	switch {
	case len(f.read) == 0, f.unknown != "":
		return
	case f.idle:
		// Less than any threshold: a Down of 0 would never be undercut.
		f.above, f.below = no, yes
		return
	}
	switch {
	case exceeds(f.low, m.Up):
		f.above = yes
	case !exceeds(f.high, m.Up):
		f.above = no
	}
	switch {
	case exceeds(m.Down, f.high):
		f.below = yes
	case !exceeds(m.Down, f.low):
		f.below = no
	}
}

// evident tells whether the metrics ask for more with the evidence of replicas that
// time out under load, and whose.
func evident(how policy.Combine, findings []finding) (evidence, bool) {
	likely := slices.Clone(findings)
	var e evidence
	for i := range likely {
		f := &likely[i]
		if f.above != yes && f.likely == yes && f.limit > e.limit {
			e = f.evidence
		}
		f.above = f.likely
	}
	up, _ := combine(how, likely)
	return e, up == yes && len(e.pods) > 0
}

// combine is whether the metrics together ask for more replicas, and for fewer.
func combine(how policy.Combine, findings []finding) (up, down truth) {
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
func evaluateList(trigger policy.Trigger, fleet sample.Fleet, now time.Time) Verdict {
	findings := make([]finding, len(trigger.List.Metrics))
	for i, m := range trigger.List.Metrics {
		findings[i] = compare(m, fleet, now)
	}
	hpa := hpaOf(trigger, fleet)
	v := gather(findings, fleet)
	v.Value = hpa.hold()
	switch {
	case findings[0].serving == 0:
		v.Reason = fmt.Sprintf("holding at %d: no replica serves yet, so there is no load to measure", fleet.Desired)
	case allUnread(findings) && !likely(trigger.List, findings):
		v.Answer, v.Value = Unknown, 0
		v.Reason = "cannot tell the load: " + findings[0].nothing(findings[0].metric.Name)
		return v
	default:
		d := direct(trigger.List, findings, fleet, trigger.DownWindow, now)
		v.Answer, v.Waiting = d.answer, d.wait != ""
		if d.answer == Measured && !whole(findings) {
			v.Answer = Bounded
		}
		// As int64: after an int32's greatest there is none.
		wanted := min(max(int64(fleet.Desired)+int64(d.step), 0), math.MaxInt32)
		v.Replicas = trigger.Bounds.Clamp(int32(wanted))
		v.Value = hpa.step(d.step)
		v.Reason = d.reason(trigger, fleet, findings, v.Replicas)
	}
	return v
}

// gather begins a verdict that holds, with what could be read and what not.
func gather(findings []finding, fleet sample.Fleet) Verdict {
	v := Verdict{Answer: Held, Replicas: fleet.Desired}
	for i := range findings {
		v.Missing = append(v.Missing, findings[i].missing...)
	}
	for _, r := range fleet.Replicas {
		read, without := false, Unread{}
		for i := range findings {
			f := &findings[i]
			read = read || slices.Contains(f.read, r.Pod)
			at := slices.IndexFunc(f.unreadable, func(u Unread) bool { return u.Pod == r.Pod })
			if at < 0 {
				continue
			}
			if without.Pod == "" {
				without = f.unreadable[at]
			}
			without.Released = without.Released || f.unreadable[at].Released
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

// likely tells whether there is evidence enough to ask for more.
func likely(l *policy.List, findings []finding) bool {
	_, up := evident(l.Combine, findings)
	return up
}

// allUnread tells whether nothing at all is known of a fleet that serves. One
// that is warming up is only known too briefly.
func allUnread(findings []finding) bool {
	for i := range findings {
		if f := &findings[i]; len(f.read) > 0 || f.warming > 0 {
			return false
		}
	}
	return true
}

func whole(findings []finding) bool {
	return !slices.ContainsFunc(findings, func(f finding) bool { return !f.survey.whole() })
}

// direction is where a list goes, and what keeps it from going further.
type direction struct {
	answer Answer
	// step is +1, -1 or 0 replicas.
	step int32
	// wait says in words what a step that the metrics ask for waits for, ""
	// for none.
	wait string
	// evidence is what the step rests on, if not on readings alone.
	evidence
}

// directUp is a step up, if it may be made now.
func directUp(l *policy.List, findings []finding, fleet sample.Fleet, now time.Time) direction {
	var longest time.Duration
	for i := range findings {
		longest = max(longest, findings[i].window)
	}
	if text, coming := coming(fleet, longest, now); coming {
		return direction{answer: Held, wait: text}
	}
	if text := fruitless(fleet, now); text != "" {
		return direction{answer: Held, wait: text}
	}
	if left := l.UpCooldown - now.Sub(raised(fleet)); left > 0 {
		return direction{answer: Held, wait: "next step up in " + duration(left)}
	}
	return direction{answer: Measured, step: 1}
}

// direct is the step that the metrics ask for, if it may be made now. The HPA makes
// one down once it has seen it for that long.
func direct(l *policy.List, findings []finding, fleet sample.Fleet, seen time.Duration, now time.Time) direction {
	up, down := combine(l.Combine, findings)
	e, evident := evident(l.Combine, findings)
	switch {
	case up == yes:
		return directUp(l, findings, fleet, now)
	case evident:
		d := directUp(l, findings, fleet, now)
		d.evidence = e
		return d
	case down == yes:
		// Not within the cooldown of a step up either: the HPA counts steps up
		// of the period against steps down, and might take two.
		last := raised(fleet)
		if fleet.Lowered.After(last) {
			last = fleet.Lowered
		}
		// The HPA's own window comes after it.
		if left := l.DownCooldown - seen - now.Sub(last); left > 0 {
			return direction{answer: Held, wait: "next step down in " + duration(left)}
		}
		return direction{answer: Measured, step: -1}
	case up == maybe || down == maybe:
		return direction{answer: Held}
	}
	return direction{answer: Measured}
}

func (d direction) reason(trigger policy.Trigger, fleet sample.Fleet, findings []finding, replicas int32) string {
	facts := d.facts(trigger.List, findings)
	if len(d.pods) > 0 {
		facts += "; " + d.words()
	}
	from := fleet.Desired
	switch {
	case d.wait != "":
		return fmt.Sprintf("%d for now: %s; %s", from, facts, d.wait)
	case d.answer == Held:
		return fmt.Sprintf("holding at %d: %s", from, facts)
	case d.step > 0 && replicas <= from:
		return fmt.Sprintf("%d is the maximum: %s", from, facts)
	case d.step < 0 && replicas >= from:
		return fmt.Sprintf("%d is the minimum: %s", from, facts)
	case d.step > 0:
		return fmt.Sprintf("%d → %d: %s; next step up in %s", from, replicas, facts, duration(trigger.List.UpCooldown))
	case d.step < 0:
		return fmt.Sprintf("%d → %d: %s; next step down in %s", from, replicas, facts, duration(trigger.List.DownCooldown))
	}
	return fmt.Sprintf("%d is right: %s", from, facts)
}

// facts are the metrics with their numbers: of those any of which is enough for
// a step up, the ones that are.
func (d direction) facts(l *policy.List, findings []finding) string {
	var facts []string
	enough := l.Combine == policy.Or && slices.ContainsFunc(findings, func(f finding) bool { return f.above == yes })
	for i := range findings {
		if f := &findings[i]; !enough || f.above == yes {
			facts = append(facts, f.fact())
		}
	}
	return list(facts)
}

// fact is what is known of the metric, against the thresholds that it is above,
// below or between.
func (f *finding) fact() string {
	m := f.metric
	name := called(m)
	scale, unit := f.unit()
	say := func(x float64) string { return distinct(x*scale, m.Up*scale, m.Down*scale) + unit }
	threshold := func(x float64) string { return significant(x*scale, 9) }
	gaps := ""
	if text := f.gaps(); text != "" && f.unknown == "" {
		gaps = " (" + text + ")"
	}
	switch {
	case f.unknown != "":
		return fmt.Sprintf("%s unknown (%s)", name, f.unknown)
	case len(f.read) == 0 && f.warming == 0:
		return fmt.Sprintf("%s unknown (%s)", name, f.first())
	case len(f.read) == 0:
		return fmt.Sprintf("%s unknown%s", name, gaps)
	case f.idle:
		return fmt.Sprintf("%s idle in %s%s", name, duration(m.Window), gaps)
	case f.above == yes:
		return fmt.Sprintf("%s %s > %s%s", name, say(f.low), threshold(m.Up), gaps)
	case f.below == yes:
		return fmt.Sprintf("%s %s < %s%s", name, say(f.high), threshold(m.Down), gaps)
	case f.above == no && f.below == no:
		return fmt.Sprintf("%s %s from %s to %s%s", name, say(f.low), threshold(m.Down), threshold(m.Up), gaps)
	}
	return fmt.Sprintf("%s %s or more%s", name, say(f.low), gaps)
}
