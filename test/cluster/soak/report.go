package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

const mb = 1 << 20

// progress is a line of what was seen so far.
func (s *soak) progress() string {
	asked, inWords, unanswered := s.asker.so()
	s.mu.Lock()
	defer s.mu.Unlock()
	var scalers []string
	for name, scaler := range s.site.members() {
		if samples := s.samples[name]; len(samples) > 0 && scaler != nil {
			last := samples[len(samples)-1]
			scalers = append(scalers, fmt.Sprintf("%s %.0f MB (heap %.0f), %.0f goroutines, %.0f files",
				name, last.resident/mb, last.heap/mb, last.goroutines, last.descriptors))
		}
	}
	slices.Sort(scalers)
	total := 0
	for _, n := range s.done {
		total += n
	}
	return fmt.Sprintf("%s: %d pods, %d faults over, %d moves (%d wrong), %d answers (%d in words, %d lacking), %d scalers killed; %s",
		time.Since(s.start).Round(time.Second), s.pods, total, s.moves, len(s.wrong), asked, inWords, len(unanswered),
		s.done[killScaler], strings.Join(scalers, "; "))
}

// limit is a figure with what it may be.
type limit struct {
	name  string
	value float64
	most  float64
	// none tells that the figure is for reading alone.
	none bool
}

// flatFrom is how long a soak must be before its memory is judged: in a shorter
// one the windows of what is kept of the pods are still filling.
const flatFrom = 30 * time.Minute

// report prints the figures and returns what is not as it should be.
func (s *soak) report() (broken []string) {
	if s.start.IsZero() {
		return nil
	}
	asked, inWords, unanswered := s.asker.so()
	s.mu.Lock()
	defer s.mu.Unlock()
	length := s.end.Sub(s.start)
	s.say("")
	for _, kind := range slices.Sorted(maps.Keys(s.done)) {
		s.say("%5d × %s", s.done[kind], kind)
	}
	s.say("%5d × nobody was there for it", s.futile)
	s.sayFew("wrong move", s.wrong)
	s.sayFew("no answer to the soak", unanswered)
	s.sayFew("no answer to KEDA", s.lost)
	s.sayFew("in words", s.asker.words())
	s.sayFew("a scaler's log", ranked(s.errors))
	for _, name := range slices.Sorted(maps.Keys(s.samples)) {
		s.sayMemory(name)
	}

	killed := float64(s.done[killScaler])
	figures := []limit{
		{name: "minutes", value: length.Minutes(), none: true},
		{name: "inferencesets", value: float64(len(s.fleets)), none: true},
		{name: "pods", value: float64(s.pods), none: true},
		{name: "scalers_killed", value: killed, none: true},
		{name: "moves", value: float64(s.moves), none: true},
		{name: "moves_back_to_status", value: float64(s.back), none: true},
		{name: "wrong_moves", value: float64(len(s.wrong))},
		{name: "answers", value: float64(asked), none: true},
		// Pods that can't be read make fleets of which nothing can be told. If these
		// are many, nothing was shown of the others.
		{name: "answers_in_words_pct", value: 100 * float64(inWords) / max(1, float64(asked)), most: 20},
		{name: "unanswered", value: float64(len(unanswered)), most: killed},
		// KEDA has one connection for all it asks about: whatever is under way when a
		// scaler is killed, and when the next connection still leads to it, is lost at
		// once. So moments count, as seconds of the log.
		{name: "keda_unanswered", value: float64(stack.Seconds(s.lost)), most: killed},
		{name: "keda_unanswered_calls", value: float64(len(s.lost)), none: true},
		{name: "certificates_reissued", value: float64(s.reissued()), none: true},
		{name: "events_per_hour", value: s.eventsPerHour(), none: true},
	}
	figures = append(figures, s.flatness(length)...)
	for _, f := range figures {
		s.say("figure soak_%s %s", f.name, number(f.value))
		if !f.none && f.value > f.most {
			broken = append(broken, fmt.Sprintf("soak_%s is %s, want %s at most", f.name, number(f.value), number(f.most)))
		}
	}
	if s.moves == 0 {
		broken = append(broken, "nothing moved, so nothing was shown of moves")
	}
	if err := s.site.err(); err != nil {
		broken = append(broken, err.Error())
	}
	for _, b := range broken {
		s.say("not as it should be: %s", b)
	}
	return broken
}

// eventsPerHour are those since they were counted first.
func (s *soak) eventsPerHour() float64 {
	if s.counting.IsZero() {
		return 0
	}
	return float64(s.told()-s.before) / s.end.Sub(s.counting).Hours()
}

// flatness are the figures of the anchor's growth in the last half.
func (s *soak) flatness(length time.Duration) []limit {
	var figures []limit
	for _, g := range []struct {
		name string
		of   func(sample) float64
		// flat tells that it may not grow by more than 5 %.
		flat bool
	}{
		{"rss", func(x sample) float64 { return x.resident }, true},
		{"heap", func(x sample) float64 { return x.heap }, false},
		{"goroutines", func(x sample) float64 { return x.goroutines }, true},
		{"descriptors", func(x sample) float64 { return x.descriptors }, false},
	} {
		before, after := growth(s.samples[anchor], s.start, s.end, g.of)
		figures = append(figures, limit{
			name: g.name + "_growth_pct", value: percent(before, after), most: 5, none: !g.flat || length < flatFrom,
		})
	}
	_, resident := growth(s.samples[anchor], s.start, s.end, func(x sample) float64 { return x.resident })
	return append(figures, limit{name: "rss_mb", value: resident / mb, none: true})
}

// sayMemory prints how a scaler's needs went, at six moments of its life.
func (s *soak) sayMemory(name string) {
	samples := s.samples[name]
	const columns = 6
	if len(samples) < columns {
		return
	}
	var cells []string
	for i := range columns {
		part := samples[i*len(samples)/columns : (i+1)*len(samples)/columns]
		of := func(get func(sample) float64) float64 {
			return median(values(part, false, true, get))
		}
		cells = append(cells, fmt.Sprintf("%.0f/%.0f MB %.0f go %.0f fd",
			of(func(x sample) float64 { return x.resident })/mb, of(func(x sample) float64 { return x.heap })/mb,
			of(func(x sample) float64 { return x.goroutines }), of(func(x sample) float64 { return x.descriptors })))
	}
	s.say("%s, %d samples, resident/heap: %s", name, len(samples), strings.Join(cells, " | "))
}

// few are as many lines of a kind as anybody reads.
const few = 12

func (s *soak) sayFew(what string, lines []string) {
	for i, line := range lines {
		if i == few {
			s.say("%s: and %d more", what, len(lines)-few)
			return
		}
		s.say("%s: %s", what, line)
	}
}

// number has no more digits than it needs.
func number(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	return fmt.Sprintf("%.2f", v)
}
