package scrape

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// reading is what one page says.
type reading struct {
	// sample has the families that were asked for and could be read.
	sample *sample.Sample
	// running and step are NaN if the page doesn't tell: requests being run,
	// and batches of output since the process's start.
	running, step float64
	// waiting, rejected and kvUsage are 0 if the page doesn't tell: requests in the
	// queue, those that KAITO's guard refused since the process's start, and the KV
	// cache's usage, added up over engines.
	waiting, rejected, kvUsage float64
	// start is when the process started, Unix seconds, 0 if the page doesn't tell.
	start float64
	// asleep is true if every engine of the pod is.
	asleep bool
	// missing is set if a family that was asked for isn't on the page, under any
	// of its names; names are those of the page then, if they were gathered.
	missing bool
	names   []string
	// flaws are of the families that were asked for and can't be used.
	flaws []flaw
}

// decoder turns pages into samples. It keeps its memory from page to page, so
// it is used by one goroutine at a time and comes from a pool.
type decoder struct {
	selection
	tallies []tally
	// found are the families of the page at hand.
	found []sample.Family
	// seen is a table of the series that were read: a power of two, at least twice
	// as many places as there are lines.
	seen []uint64
}

// tally adds up one family's series.
type tally struct {
	series  int
	sum     float64
	engines []uint64
	// le, cumulative and engines per bound, in the page's order. next is where the
	// next bound most likely stands.
	le, cumulative []float64
	perBound       []int32
	next           int
	hist           float64
	// awake adds up the series with sleep_state="awake".
	awake float64
}

func (t *tally) reset() {
	*t = tally{engines: t.engines[:0], le: t.le[:0], cumulative: t.cumulative[:0], perBound: t.perBound[:0]}
}

// decode reads what was selected. prev, an earlier sample or nil, lends
// what is the same in both.
func (d *decoder) decode(at time.Time, prev *sample.Sample) (reading, *Failure) {
	if f := d.refuse(); f != nil {
		return reading{}, f
	}
	for len(d.tallies) < len(d.sel.names) {
		d.tallies = append(d.tallies, tally{})
	}
	for n := range d.sel.names {
		d.tallies[n].reset()
	}
	d.parse()
	return d.assemble(at, prev), nil
}

// refuse says what the page is instead of one with what was asked for. Engines other
// than vLLM, and vLLM within Ray, have other names.
func (d *decoder) refuse() *Failure {
	switch {
	case d.vllm, slices.ContainsFunc(d.sel.wanted, d.stands):
		return nil
	case d.stub:
		return failf(ModelLoading, "the model is still loading: KAITO's download page answers, vLLM doesn't yet")
	case d.head == '<':
		return failf(BadContent, "the page is HTML, not metrics")
	case d.head == '{' || d.head == '[':
		return failf(BadContent, "the page is JSON, not metrics (KAITO's transformers runtime serves that)")
	case d.head == 0:
		return failf(NotVLLM, "the page has no samples at all")
	}
	return failf(NotVLLM, "the page has no vllm: metrics, and none that is asked for (%.200s)", strings.Join(d.sel.names[:d.sel.asked], ", "))
}

// parse adds up the kept lines. A line that is wrong costs its family alone.
func (d *decoder) parse() {
	places := 32
	for places < 2*len(d.lines) {
		places *= 2
	}
	if cap(d.seen) < places {
		d.seen = make([]uint64, places)
	}
	d.seen = d.seen[:places]
	clear(d.seen)
	longNumbers := 0
	var s series
	for _, line := range d.lines {
		n := int(line.name)
		if d.flaws[n] != sound {
			continue
		}
		text := d.text[line.start:line.end]
		long, ok := s.parse(text[len(d.sel.names[n])+len(suffixes[line.part]):], d.openMetrics)
		if long {
			longNumbers++
		}
		if !ok || longNumbers > maxLongNumbers {
			d.flaws[n] = malformed
			continue
		}
		if d.repeats(s.id + uint64(n)<<8 + uint64(line.part)) { //nolint:gosec // an index
			continue
		}
		d.flaws[n] = d.tallies[n].add(&s, line.part)
	}
}

// repeats reports whether the series stood on the page before. Prometheus keeps the
// first one, too.
func (d *decoder) repeats(id uint64) bool {
	id = max(1, id*0x9e3779b97f4a7c15)
	mask := uint64(len(d.seen) - 1) //nolint:gosec // it has 32 places at least
	for at := id >> 32 & mask; ; at = (at + 1) & mask {
		switch d.seen[at] {
		case 0:
			d.seen[at] = id
			return false
		case id:
			return true
		}
	}
}

func (t *tally) add(s *series, p part) flaw {
	t.series++
	if n := len(t.engines); n == 0 || t.engines[n-1] != s.engine && !slices.Contains(t.engines, s.engine) {
		if n == maxEngines {
			return tooManyEngines
		}
		t.engines = append(t.engines, s.engine)
	}
	if math.IsNaN(s.value) {
		return notANumber
	}
	switch p {
	case plain:
		t.sum += s.value
		if s.awake {
			t.awake += s.value
		}
	case sum:
		t.hist += s.value
	case bucket:
		return t.bucket(s.le, s.value)
	case count:
		// The +Inf bucket says it already.
	}
	return sound
}

func (t *tally) bucket(le []byte, value float64) flaw {
	bound, ok := parseFloat(le)
	if !ok || len(le) > longNumber || math.IsNaN(bound) {
		return malformed
	}
	i := t.next
	if i >= len(t.le) || t.le[i] != bound {
		i = slices.Index(t.le, bound)
	}
	if i < 0 {
		if i = len(t.le); i == maxBounds {
			return tooManyBounds
		}
		t.le, t.cumulative, t.perBound = append(t.le, bound), append(t.cumulative, 0), append(t.perBound, 0)
	}
	t.cumulative[i] += value
	t.perBound[i]++
	t.next = i + 1
	return sound
}

// assemble makes the sample of what was added up.
func (d *decoder) assemble(at time.Time, prev *sample.Sample) reading {
	out := reading{running: math.NaN(), step: math.NaN()}
	if out.missing = d.missing(); out.missing && d.gather {
		out.names = d.onPage()
	}
	d.found = d.found[:0]
	var unusable []sample.Unusable
	for n, name := range d.sel.names {
		t := &d.tallies[n]
		if d.flaws[n] == sound && t.series > 0 {
			d.flaws[n] = t.settle(d.kinds[n])
		}
		if d.flaws[n] != sound {
			if n < d.sel.asked {
				out.flaws = append(out.flaws, d.flaws[n])
				unusable = append(unusable, sample.Unusable{Name: name, Why: d.flaws[n].words(name, int(d.count[n]))})
			}
			continue
		}
		if t.series == 0 {
			continue
		}
		out.learn(name, t)
		if n < d.sel.asked {
			f := sample.Family{Name: name, Kind: d.kinds[n], Sum: t.sum, Engines: len(t.engines)}
			if f.Kind == sample.Histogram {
				f.Buckets = sample.Buckets{Le: t.le, Cumulative: t.cumulative, Sum: t.hist}
			}
			d.found = append(d.found, f)
		}
	}
	out.sample = sample.NewSample(at, d.found, prev, unusable...)
	out.sample.ProcessStart = out.start
	return out
}

// learn takes what a family tells of the engine itself.
func (r *reading) learn(name string, t *tally) {
	switch name {
	case familyRunning:
		r.running = t.sum
	case familyStep:
		r.step = t.sum
	case policy.FamilyWaiting:
		r.waiting = t.sum
	case policy.FamilyRejected:
		r.rejected = t.sum
	case policy.FamilyKV:
		r.kvUsage = t.sum
	case familySleepState:
		r.asleep = t.awake == 0
	case familyProcessStart:
		r.start = t.sum
	}
}

// missing reports whether a family that was asked for isn't on the page under
// any of its names. One that is, but can't be used, isn't missing.
func (d *decoder) missing() bool {
	for _, names := range d.sel.aliases {
		if !slices.ContainsFunc(names, d.stands) {
			return true
		}
	}
	return false
}

// stands reports whether the page has anything of the family.
func (d *decoder) stands(n int) bool {
	return d.count[n] > 0 || d.kinds[n] != sample.Untyped || d.flaws[n] != sound
}

// settle puts a family in order and tells whether it makes sense: a
// histogram has ascending bounds up to +Inf, every engine all of them, and
// counts that never descend.
func (t *tally) settle(kind sample.Kind) flaw {
	switch {
	case kind == summary:
		return isSummary
	case kind != sample.Histogram && (math.IsInf(t.sum, 0) || math.IsNaN(t.sum)):
		return notANumber
	case kind != sample.Histogram:
		return sound
	case len(t.le) == 0 || math.IsNaN(t.hist) || math.IsInf(t.hist, 0):
		return badHistogram
	}
	if !slices.IsSorted(t.le) {
		t.sortBounds()
	}
	if !t.ascends() {
		return badHistogram
	}
	return sound
}

// ascends reports whether the sorted bounds reach to +Inf, each as often as the
// others, with counts that never descend.
func (t *tally) ascends() bool {
	for i := range t.le {
		if t.perBound[i] != t.perBound[0] || math.IsInf(t.cumulative[i], 0) ||
			i > 0 && t.cumulative[i] < t.cumulative[i-1] {
			return false
		}
	}
	return math.IsInf(t.le[len(t.le)-1], 1) && t.cumulative[0] >= 0
}

// sortBounds sorts both columns by bound; pages come sorted, so it is rare.
func (t *tally) sortBounds() {
	type row struct {
		le, cumulative float64
		n              int32
	}
	rows := make([]row, len(t.le))
	for i := range rows {
		rows[i] = row{t.le[i], t.cumulative[i], t.perBound[i]}
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.le < b.le {
			return -1
		}
		return 1
	})
	for i, r := range rows {
		t.le[i], t.cumulative[i], t.perBound[i] = r.le, r.cumulative, r.n
	}
}

// onPage is how many of the families that were asked for stand on the page, usable or
// not.
func (r *reading) onPage() int { return r.sample.Len() + len(r.flaws) }
