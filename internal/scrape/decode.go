package scrape

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// reading is what one page says.
type reading struct {
	// sample has the families that were asked for and could be read.
	sample *decision.Sample
	// running and step are NaN if the page doesn't tell: requests being run,
	// and engine steps since the process's start.
	running, step float64
	// waiting and rejected are 0 if the page doesn't tell: requests in the queue,
	// and those that KAITO's guard refused since the process's start.
	waiting, rejected float64
	// start is when the process started, Unix seconds, 0 if the page doesn't tell.
	start float64
	// asleep is true if every engine of the pod is.
	asleep bool
	// missing is set if a family that was asked for isn't on the page, under any
	// of its names; names are those of the page then, if they were gathered.
	missing bool
	names   []string
}

// decoder turns pages into samples. It keeps its memory from page to page, so
// it is used by one goroutine at a time and comes from a pool.
type decoder struct {
	selection
	tallies []tally
	// found are the families of the page at hand.
	found []decision.Family
	text2 []byte
}

// tally adds up one family's series.
type tally struct {
	series  int
	bad     bool
	sum     float64
	engines []uint64
	// le, cumulative and engines per bound, in the page's order.
	le, cumulative []float64
	perBound       []int32
	hist           float64
	// awake adds up the series with sleep_state="awake".
	awake float64
}

func (t *tally) reset() {
	*t = tally{engines: t.engines[:0], le: t.le[:0], cumulative: t.cumulative[:0], perBound: t.perBound[:0]}
}

// decode reads what was selected. prev, an earlier sample of the pod or nil, lends
// what is the same on every page of a process.
func (d *decoder) decode(at time.Time, prev *decision.Sample) (reading, *Failure) {
	if f := d.refuse(); f != nil {
		return reading{}, f
	}
	for len(d.tallies) < len(d.sel.names) {
		d.tallies = append(d.tallies, tally{})
	}
	for n := range d.sel.names {
		d.tallies[n].reset()
	}
	if d.parse(d.text, d.lines) != nil {
		// One line is wrong: find the family that it costs.
		for n := range d.sel.names {
			d.tallies[n].reset()
			d.tallies[n].bad = d.parseOne(n) != nil
		}
	}
	return d.assemble(at, prev), nil
}

// refuse says what the page is instead of vLLM's.
func (d *decoder) refuse() *Failure {
	switch {
	case d.vllm:
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
	return failf(NotVLLM, "the page has no vllm: metrics")
}

// errLines is a line that lexes into more or fewer series than one.
var errLines = errors.New("a line isn't one series")

// parse hands the kept lines to the parser of the page's own format: line i is
// its ith series.
func (d *decoder) parse(text []byte, lines []kept) error {
	var p textparse.Parser
	if d.openMetrics {
		p = textparse.NewOpenMetricsParser(append(text, "# EOF\n"...), noSymbols)
	} else {
		p = textparse.NewPromParser(text, noSymbols, false)
	}
	for _, line := range lines {
		entry, err := p.Next()
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			return errLines
		}
		series, _, value := p.Series()
		if len(series) >= int(line.end-line.start) {
			return errLines
		}
		d.tallies[line.name].add(series, value, line.part)
	}
	return nil
}

// noSymbols is never filled: no labels are ever built.
var noSymbols = labels.NewSymbolTable()

func (d *decoder) parseOne(n int) error {
	d.text2 = d.text2[:0]
	var lines []kept
	for _, line := range d.lines {
		if int(line.name) == n {
			d.text2 = append(d.text2, d.text[line.start:line.end]...)
			lines = append(lines, line)
		}
	}
	return d.parse(d.text2, lines)
}

// add adds one series, whose labels the parser has found to be well-formed.
func (t *tally) add(series []byte, value float64, p part) {
	t.series++
	var le []byte
	engine := fnvOffset
	awake := false
	eachLabel(series, func(name, v []byte) {
		switch string(name) {
		case "le":
			le = v
		case "engine", "model_name":
			engine = mix(engine, v)
		case "sleep_state":
			awake = string(v) == "awake"
		}
	})
	if !slices.Contains(t.engines, engine) {
		t.engines = append(t.engines, engine)
	}
	if math.IsNaN(value) {
		t.bad = true
		return
	}
	switch p {
	case plain:
		t.sum += value
		if awake {
			t.awake += value
		}
	case sum:
		t.hist += value
	case bucket:
		t.bucket(le, value)
	case count:
		// The +Inf bucket says it already.
	}
}

func (t *tally) bucket(le []byte, value float64) {
	bound, err := strconv.ParseFloat(string(le), 64)
	if err != nil || math.IsNaN(bound) {
		t.bad = true
		return
	}
	i := slices.Index(t.le, bound)
	if i < 0 {
		i = len(t.le)
		t.le, t.cumulative, t.perBound = append(t.le, bound), append(t.cumulative, 0), append(t.perBound, 0)
	}
	t.cumulative[i] += value
	t.perBound[i]++
}

// The 64-bit FNV-1a hash, which tells engines apart without allocating.
const (
	fnvOffset uint64 = 14695981039346656037
	fnvPrime  uint64 = 1099511628211
)

func mix(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return (h ^ 0xff) * fnvPrime
}

// eachLabel calls f for each label of a well-formed series, its value as it
// stands on the page, escapes and all.
func eachLabel(series []byte, f func(name, value []byte)) {
	_, rest, found := bytes.Cut(series, []byte("{"))
	if !found {
		return
	}
	for {
		eq := bytes.IndexByte(rest, '=')
		if eq < 0 {
			return
		}
		name := bytes.Trim(rest[:eq], " \t,\"")
		begin := bytes.IndexByte(rest[eq:], '"')
		if begin < 0 {
			return
		}
		rest = rest[eq+begin+1:]
		end := 0
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(rest) {
			return
		}
		f(name, rest[:end])
		rest = rest[end+1:]
	}
}

// assemble makes the sample of what was added up.
func (d *decoder) assemble(at time.Time, prev *decision.Sample) reading {
	out := reading{running: math.NaN(), step: math.NaN()}
	if out.missing = d.missing(); out.missing && d.gather {
		out.names = d.onPage()
	}
	d.found = d.found[:0]
	for n, name := range d.sel.names {
		t := &d.tallies[n]
		if t.bad || d.broken[n] || t.series == 0 || !t.settle(d.kinds[n]) {
			continue
		}
		out.learn(name, t)
		if n < d.sel.asked {
			f := decision.Family{Name: name, Kind: d.kinds[n], Sum: t.sum, Engines: len(t.engines)}
			if f.Kind == decision.Histogram {
				t.cut(d.sel.limits[n])
				f.Buckets = decision.Buckets{Le: t.le, Cumulative: t.cumulative, Sum: t.hist}
			}
			d.found = append(d.found, f)
		}
	}
	out.sample = decision.NewSample(at, d.found, prev)
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
	case familySleepState:
		r.asleep = t.awake == 0
	case familyProcessStart:
		r.start = t.sum
	}
}

// missing reports whether a family that was asked for isn't on the page under
// any of its names. One that is, but can't be used, isn't missing.
func (d *decoder) missing() bool {
	onPage := func(n int) bool {
		return d.tallies[n].series > 0 || d.kinds[n] != decision.Untyped || d.broken[n]
	}
	for _, names := range d.sel.aliases {
		if !slices.ContainsFunc(names, onPage) {
			return true
		}
	}
	return false
}

// settle puts a family in order and reports whether it makes sense: a
// histogram has ascending bounds up to +Inf, every engine all of them, and
// counts that never descend.
func (t *tally) settle(kind decision.Kind) bool {
	if kind == summary {
		return false
	}
	if kind != decision.Histogram {
		return !math.IsInf(t.sum, 0) && !math.IsNaN(t.sum)
	}
	last := len(t.le) - 1
	if last < 0 || math.IsNaN(t.hist) || math.IsInf(t.hist, 0) {
		return false
	}
	if !slices.IsSorted(t.le) {
		t.sortBounds()
	}
	for i := range t.le {
		if t.perBound[i] != t.perBound[0] || math.IsInf(t.cumulative[i], 0) ||
			i > 0 && t.cumulative[i] < t.cumulative[i-1] {
			return false
		}
	}
	return math.IsInf(t.le[last], 1) && t.cumulative[0] >= 0
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

// cut leaves the bounds that tell how many observations are beyond the limit: the
// first that isn't below it, the one before that, and the last. Of a histogram
// without a limit (NaN) it leaves all.
func (t *tally) cut(limit float64) {
	last := len(t.le) - 1
	if math.IsNaN(limit) || last < 1 {
		return
	}
	kept := 0
	at, _ := slices.BinarySearch(t.le, limit)
	for _, i := range [...]int{at - 1, at, last} {
		if i < 0 || kept > 0 && t.le[i] == t.le[kept-1] || i < last && math.IsInf(limit, 1) {
			continue
		}
		t.le[kept], t.cumulative[kept] = t.le[i], t.cumulative[i]
		kept++
	}
	t.le, t.cumulative = t.le[:kept], t.cumulative[:kept]
}
