package decision

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// course is what a live vLLM 0.25.1 said, page after page (TestRecordCourses of
// internal/scrape records it), beside how many requests its clients had sent.
type course struct {
	samples []*sample.Sample
	// seconds and sent are of each sample.
	seconds, sent []float64
}

// readCourse reads one of testdata/engines. Its columns are seconds, sent, engines,
// and the families by name, of a histogram the count and the sum.
func readCourse(t *testing.T, name string) course {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata/engines", name+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) < 3 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	var c course
	var before *sample.Sample
	for _, row := range rows[1:] {
		var values []float64
		for _, field := range row {
			v, err := strconv.ParseFloat(field, 64)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
		before = sample.NewSample(t0.Add(time.Duration(values[0]*float64(time.Second))), familiesOf(rows[0], values), before)
		c.samples = append(c.samples, before)
		c.seconds, c.sent = append(c.seconds, values[0]), append(c.sent, values[1])
	}
	return c
}

// familiesOf makes families of a row whose first three columns are others.
func familiesOf(header []string, values []float64) (all []sample.Family) {
	for i := 3; i < len(header); i++ {
		f := sample.Family{Name: header[i], Kind: sample.Gauge, Sum: values[i], Engines: int(values[2])}
		if name, is := strings.CutSuffix(f.Name, "_count"); is {
			f = sample.Family{Name: name, Kind: sample.Histogram, Engines: f.Engines, Buckets: sample.Buckets{
				Le: []float64{math.Inf(1)}, Cumulative: []float64{values[i]}, Sum: values[i+1],
			}}
			i++
		} else if policy.Counts(f.Name) {
			f.Kind = sample.Counter
		}
		all = append(all, f)
	}
	return all
}

// between is a stretch of the course.
func (c *course) between(first, last int) stretch { return stretch{c.samples[first], c.samples[last]} }

// Every request is an arrival once, whether its client stays, cancels it, or the
// engine preempts it.
func TestArrivalsAreTheRequestsThatClientsSent(t *testing.T) {
	for _, tt := range []struct {
		course string
		// off is by how many requests an interval may differ: a request that was sent
		// shows with the step's end, one that a piece of its prompt was worked off of
		// with its first token.
		off float64
	}{{"cancelled", 3}, {"preempted", 3}} {
		c := readCourse(t, tt.course)
		for _, pages := range []int{1, 2, 3, 4, 6, 12, 24, len(c.samples) - 1} { // 1 or 2.5 s apart
			total := 0.0
			for last := pages; last < len(c.samples); last += pages {
				first := last - pages
				came, _ := c.between(first, last).came()
				if sent := c.sent[last] - c.sent[first]; math.Abs(came-sent) > tt.off {
					t.Errorf("%s: %v arrivals from %v s to %v s, %v were sent", tt.course, came, c.seconds[first], c.seconds[last], sent)
				}
				total += came
			}
			whole := (len(c.samples) - 1) / pages * pages
			if sent := c.sent[whole]; math.Abs(total-sent) > max(tt.off, .05*sent) {
				t.Errorf("%s: %v arrivals in stretches of %d pages, %v were sent", tt.course, total, pages, sent)
			}
		}
	}
}

// learned is what automatic mode learns from a course, judged every 15 s.
func (c *course) learned(s Saturation) (l Learned, last load) {
	r := sample.Replica{Pod: "phi-4-a-0", Phase: sample.Serving, Ordered: t0.Add(-2 * time.Hour), ReadySince: t0.Add(-time.Hour), Expected: t0.Add(-time.Hour)}
	judged := t0.Add(-time.Hour)
	for _, page := range c.samples {
		r.History.Add(page, 2*time.Minute)
		r.Last = page
		if page.At.Sub(judged) < Interval {
			continue
		}
		judged = page.At
		f := sample.Fleet{Desired: 1, Replicas: []sample.Replica{r}, Freshness: 15 * time.Second, Interval: 5 * time.Second}
		_, l = s.Judge(l, f, page.At)
		last = observe(f, s, page.At)
	}
	return l, last
}

// What the cancelled ones were given is their own work: it doesn't make the others
// dearer.
func TestCancelledRequestsAreRequestsOfTheirOwn(t *testing.T) {
	c := readCourse(t, "cancelled")
	_, load := c.learned(saturated())
	sent := c.sent[len(c.sent)-1] - c.sent[2] // of a last minute that ends at 67 s
	if got := load.requests; math.Abs(got-sent) > 6 {
		t.Errorf("the work of a minute is that of %v requests, %v were sent", got, sent)
	}
}

// A pod of eight engines is one replica, whose tokens come eight times as fast. A step
// is that of one of them, and its KV cache is as full as theirs.
func TestAPodOfSeveralEnginesIsOneReplica(t *testing.T) {
	one := readCourse(t, "preempted")
	one.samples = one.samples[5:40] // while many run
	s := saturated()
	s.PeakTokensPerMinute = 500_000
	eight := one
	eight.samples = nil
	for _, page := range one.samples {
		families := page.Families()
		for i := range families {
			f := &families[i]
			f.Sum, f.Engines = 8*f.Sum, 8
			if f.Kind == sample.Histogram {
				f.Buckets = sample.Buckets{Le: f.Buckets.Le, Cumulative: []float64{8 * f.Buckets.Count()}, Sum: 8 * f.Buckets.Sum}
			}
		}
		eight.samples = append(eight.samples, sample.NewSample(page.At, families, nil))
	}
	l, last := one.learned(s)
	s.PeakTokensPerMinute *= 8 // KAITO benchmarks the pod
	learned, load := eight.learned(s)
	if was, is := l.Speed[0], learned.Speed[0]; was == 1 || math.Abs(is/was-1) > .01 {
		t.Errorf("an empty step takes %.2f times what was taken for granted, of one engine %.2f", is, was)
	}
	if load.kv != last.kv || math.Abs(load.latency/last.latency-1) > 1e-9 {
		t.Errorf("KV %v and %v s between tokens, of one engine %v and %v", load.kv, load.latency, last.kv, last.latency)
	}
}

// With speculation (n-grams, three tokens; from the engine's start to its page after four
// answers of 200 tokens) a piece of an answer is several tokens: the time between tokens is a
// part of that between pieces.
func TestTheTimeBetweenTokensIsThatOfTokens(t *testing.T) {
	c := readCourse(t, "speculation")
	d := c.between(0, len(c.samples)-1)
	sum, answers := d.histogram(familyTPOT)
	between, want := d.betweenTokens().mean(), sum/answers
	if math.Abs(between/want-1) > .05 {
		t.Errorf("%.1f ms between tokens, %.1f by the finished answers", 1000*between, 1000*want)
	}
}
