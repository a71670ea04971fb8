package scrape

import (
	"bytes"
	"math"
	"math/bits"
	"strings"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// kept is one line that belongs to a wanted family.
type kept struct {
	// name is an index into the selector's names.
	name       int32
	part       part
	start, end int32
}

// selection is what one page leaves behind: the wanted lines, and what the
// others tell about the page.
type selection struct {
	sel *selector
	// text holds the kept lines.
	text  []byte
	lines []kept
	// kinds, flaws and count have one element for each of sel.names; count is of its
	// lines on the page, kept or not.
	kinds []sample.Kind
	flaws []flaw
	count []int32
	// flood is what the lines of the flooded family begin with that had too many: more of
	// them only count. A page of nothing else took twice as long without it.
	flood   []byte
	flooded int
	// passed counts the lines of the page, and types those that begin a family.
	passed, types int
	// openMetrics pages name a counter's family without _total.
	openMetrics bool
	vllm, stub  bool
	// gather asks for the names of all families of the page: gathered has them,
	// each with a newline.
	gather   bool
	gathered []byte
	names    int
	// skip is the name of an unwanted histogram whose TYPE line was the last
	// line, nil if that was any other.
	skip []byte
	// head is the first byte of the page that is no white space, 0 if there
	// was none.
	head byte
}

func (p *selection) reset(sel *selector) {
	p.sel = sel
	p.text, p.lines = p.text[:0], p.lines[:0]
	n := len(sel.names)
	if cap(p.kinds) < n {
		p.kinds, p.flaws, p.count = make([]sample.Kind, n), make([]flaw, n), make([]int32, n)
	}
	p.kinds, p.flaws, p.count = p.kinds[:n], p.flaws[:n], p.count[:n]
	clear(p.kinds)
	clear(p.flaws)
	clear(p.count)
	p.openMetrics, p.vllm, p.stub, p.head = false, false, false, 0
	p.gather, p.gathered, p.names = false, p.gathered[:0], 0
	p.passed, p.types, p.flood = 0, 0, p.flood[:0]
}

// take looks at all whole lines of chunk, whose first bytes up to from have no
// newline, and returns what is left of it: the beginning of a line.
func (p *selection) take(chunk []byte, from int) []byte {
	for {
		n := bytes.IndexByte(chunk[from:], '\n')
		if n < 0 || p.passed > maxLines {
			return chunk
		}
		n += from
		from = 0
		p.passed++
		p.skip = nil
		p.line(chunk[:n])
		chunk = chunk[n+1:]
		if p.skip != nil {
			chunk = skipped(chunk, p.skip)
		}
	}
}

// skipped is chunk, which begins with lines of an unwanted histogram, without most of
// them. All lines of a family stand together, by the format's rule, so a leap that lands
// before a line of the same family has left out nothing else; one that doesn't is tried
// again half as far. Half of a page is such lines, and what isn't looked at needn't come
// into the CPU's cache either.
func skipped(chunk, family []byte) []byte {
	for leap := 2048; leap >= 256; {
		if after, ok := leapt(chunk, leap); ok && isPartOf(after, family) {
			chunk = after
		} else {
			leap /= 2
		}
	}
	return chunk
}

// leapt is what follows the first line that ends more than leap bytes on.
func leapt(chunk []byte, leap int) (after []byte, ok bool) {
	if len(chunk) <= leap {
		return nil, false
	}
	n := bytes.IndexByte(chunk[leap:], '\n')
	return chunk[leap+n+1:], n >= 0
}

// isPartOf reports whether text begins with a line of the histogram.
func isPartOf(text, family []byte) bool {
	rest, ok := bytes.CutPrefix(text, family)
	if ok {
		_, ok = suffixOf(rest)
	}
	return ok
}

// cut is for a line that isn't looked at whole, which is that flaw of the family
// that it begins: it is too long, or it ends without a newline.
func (p *selection) cut(start []byte, is flaw) {
	p.short(start)
	for n, name := range p.sel.names {
		if _, ok := partOf(start, name); ok {
			p.flaws[n] = is
		}
	}
}

// line is hot: it runs for each of a page's lines.
func (p *selection) line(line []byte) {
	switch {
	case len(line) == 0:
		return
	case len(p.flood) > 0 && bytes.HasPrefix(line, p.flood):
		p.count[p.flooded]++
		return
	case line[0] == '#':
		if len(line) > 7 && line[2] == 'T' {
			p.typeLine(line)
		}
		return
	case line[0] <= ' ':
		p.short(line)
		return
	}
	if !p.vllm {
		p.look(line)
	}
	if p.head == 0 {
		p.head = line[0]
	}
	if len(line) <= places[3] {
		if maybe := p.sel.maybe(line); maybe != 0 {
			p.keep(line, maybe)
		}
		return
	}
	// As maybe has it, which is too large to be inlined.
	has := &p.sel.has
	if maybe := has[0][line[places[0]]] & has[1][line[places[1]]] & has[2][line[places[2]]] & has[3][line[places[3]]]; maybe != 0 {
		p.keep(line, maybe)
	}
}

// short is a line that begins with white space, or a piece of one.
func (p *selection) short(line []byte) {
	if p.gather {
		if rest, ok := bytes.CutPrefix(line, []byte("# TYPE ")); ok {
			p.gatherName(rest)
		}
	}
	if len(line) == 0 {
		return
	}
	if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
		return
	}
	if p.head == 0 {
		p.head = line[0]
	}
	if !p.vllm {
		p.look(line)
	}
}

// look learns from a line what kind of page it stands on.
func (p *selection) look(line []byte) {
	switch line[0] {
	case 'v':
		p.vllm = bytes.HasPrefix(line, []byte("vllm:"))
	case 'k':
		p.stub = p.stub || bytes.HasPrefix(line, []byte("kaito_model_download_"))
	}
}

// keep keeps a line for each wanted name that it belongs to. Bit i of maybe is set if
// that may be the name i, i+64, i+128, …: nearly always one bit, and one name.
func (p *selection) keep(line []byte, maybe uint64) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	for ; maybe != 0; maybe &= maybe - 1 { // takes the lowest bit away
		for n := bits.TrailingZeros64(maybe); n < len(p.sel.names); n += 64 {
			if which, ok := partOf(line, p.sel.names[n]); ok {
				p.keepAs(n, which, line)
			}
		}
	}
}

// keepAs keeps a line of the nth name, unless it isn't needed or there are too many.
func (p *selection) keepAs(n int, which part, line []byte) {
	s := p.sel
	switch {
	case which != plain && p.kinds[n] != sample.Histogram:
		return
	case n >= s.asked && s.names[n] == familySleepState && !bytes.Contains(line, []byte(`"awake"`)):
		return // of the three states, one tells all
	case which == bucket && isBelow(line, s.limits[n]):
		return // nobody asks for it
	}
	p.count[n]++
	switch {
	case p.flaws[n] != sound:
		return
	case len(line) > maxLine:
		p.flaws[n] = lineTooLong
		return
	case p.count[n] > maxSeries:
		p.flaws[n] = tooManySeries
		p.floodedBy(n, line)
		return
	}
	for len(p.text)+len(line) > maxText || len(p.lines) == maxKept {
		p.evict(n)
		if p.flaws[n] != sound {
			return
		}
	}
	start := len(p.text)
	p.text = append(p.text, line...)
	p.lines = append(p.lines, kept{name: int32(n), part: which, start: int32(start), end: int32(len(p.text))}) //nolint:gosec // bounded by maxText
}

// floodedBy remembers what a line of the nth name begins with, if it is of no other name.
func (p *selection) floodedBy(n int, line []byte) {
	end := bytes.IndexByte(line, '{')
	if end < 0 {
		return
	}
	for i, name := range p.sel.names {
		if _, ok := partOf(line, name); ok && i != n {
			return
		}
	}
	p.flood, p.flooded = append(p.flood[:0], line[:end+1]...), n
}

// isBelow reports whether a bucket's bound is below the limit, if it is written as usual.
// One that isn't is kept: more buckets than were asked for do no harm.
func isBelow(line []byte, limit float64) bool {
	if math.IsNaN(limit) {
		return false
	}
	_, le, found := bytes.Cut(line, []byte(`,le="`))
	if !found {
		_, le, _ = bytes.Cut(line, []byte(`{le="`))
	}
	le, _, _ = bytes.Cut(le, []byte(`"`))
	bound, ok := parseDecimal(le)
	return ok && bound < limit*(1-1e-9)
}

// evict drops the family that has most of what was kept, one that is flawed already
// before all others, so that one with very many series costs no other its place.
func (p *selection) evict(current int) {
	size := make([]int, len(p.sel.names))
	for _, line := range p.lines {
		size[line.name] += int(line.end - line.start)
		if p.flaws[line.name] != sound {
			size[line.name] += maxText
		}
	}
	largest := current
	for n := range size {
		if size[n] > size[largest] {
			largest = n
		}
	}
	if p.flaws[largest] == sound {
		p.flaws[largest] = tooManySeries
	}
	left, end := p.lines[:0], int32(0)
	for _, line := range p.lines {
		if int(line.name) == largest {
			continue
		}
		copy(p.text[end:], p.text[line.start:line.end])
		line.start, line.end = end, end+line.end-line.start
		end = line.end
		left = append(left, line)
	}
	p.lines, p.text = left, p.text[:end]
}

// typeLine reads "# TYPE name kind".
func (p *selection) typeLine(line []byte) {
	rest, ok := bytes.CutPrefix(line, []byte("# TYPE "))
	if p.types++; !ok || p.types > maxTypes {
		return
	}
	if p.gather {
		p.gatherName(rest)
	}
	// The name is looked up like a sample's, seven bytes further on.
	if !p.openMetrics && p.sel.maybe(rest) == 0 {
		if name, ok := bytes.CutSuffix(rest, []byte(" histogram")); ok && !p.sel.wantsPartOf(name) {
			p.skip = name
		}
		return
	}
	name, kind, _ := bytes.Cut(rest, []byte(" "))
	for n, wanted := range p.sel.names {
		if string(name) == wanted || p.openMetrics && string(name) == strings.TrimSuffix(wanted, "_total") {
			p.kinds[n] = kindOf(string(bytes.TrimSpace(kind)))
		}
	}
}

// gatherName takes the name of "name kind" down. The time since when a family
// counts is a family of its own, which nobody asks for.
func (p *selection) gatherName(text []byte) {
	name, kind, _ := bytes.Cut(text, []byte(" "))
	if bytes.HasSuffix(name, []byte("_created")) || len(name) > maxName || len(p.gathered)+len(name) > maxGathered || p.names == maxNames {
		return
	}
	p.names++
	p.gathered = append(p.gathered, name...)
	if p.openMetrics && string(bytes.TrimSpace(kind)) == "counter" {
		p.gathered = append(p.gathered, "_total"...)
	}
	p.gathered = append(p.gathered, '\n')
}

// A page of vLLM's has some 60 families without those that say since when.
const (
	maxNames = 200
	// maxName is longer than any name that may be asked for.
	maxName     = 255
	maxGathered = 16 << 10
)

// onPage are the names that were gathered.
func (p *selection) onPage() []string {
	names := make([]string, 0, p.names)
	for name := range strings.Lines(string(p.gathered)) {
		names = append(names, strings.TrimSuffix(name, "\n"))
	}
	return names
}

// summary is a kind that no decision can be built on: its samples are
// quantiles, which add up to nothing.
const summary sample.Kind = 255

func kindOf(word string) sample.Kind {
	switch word {
	case "gauge":
		return sample.Gauge
	case "counter":
		return sample.Counter
	case "histogram":
		return sample.Histogram
	case "summary", "gaugehistogram":
		return summary
	}
	return sample.Untyped
}
