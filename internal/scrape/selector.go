package scrape

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// What every page is read for, whoever asks: it tells what the page is.
const (
	familyRunning      = policy.FamilyRunning
	familySleepState   = "vllm:engine_sleep_state"
	familyStep         = "vllm:iteration_tokens_total_count"
	familyProcessStart = "process_start_time_seconds"
)

var alwaysRead = []string{
	familyRunning, policy.FamilyWaiting, policy.FamilyKV, policy.FamilyRejected, familySleepState, familyStep, familyProcessStart,
}

// selector picks the lines of the wanted families out of a page. It is made
// once for all InferenceSets that want the same and never changes.
//
// A page has some 650 lines, of which ten are wanted, so what counts is how
// fast a line is seen to be unwanted: four bytes of it look up, in a table
// each, the set of names that may have that byte there; only a line that is in all
// four sets is compared with a name.
type selector struct {
	// asked is how many of names were asked for; the rest are alwaysRead's.
	asked int
	names []string
	// wanted are the indexes of those that were asked for.
	wanted []int
	// partsOf are the histograms of which a single line is wanted by its own name.
	partsOf []string
	// limits[n] is the least bound of histogram names[n] that is wanted, as in
	// policy.Reading; NaN if it is wanted whole.
	limits []float64
	// aliases[n] are what else names[n], one that was asked for, may be called
	// on a page.
	aliases [][]int
	// query asks for these families alone, in the way that prometheus_client's
	// own server understands and vLLM's ignores.
	query string
	// has[i][c] has bit n%64 set for each names[n] that may have byte c at places[i],
	// and first[c] for each that begins with it.
	has   [4][256]uint64
	first [256]uint64
	// like is the sample of a pod that was read for the first time: others most likely
	// have the same families with the same bounds, 1 KB that they share.
	like atomic.Pointer[sample.Sample]
}

// newSelector wants the families of these exact names, each once, and of those
// with a limit what policy.Reading says.
func newSelector(want []string, limits map[string]float64) *selector {
	s := &selector{}
	for _, list := range [][]string{want, alwaysRead} {
		for _, name := range list {
			if name != "" && !slices.Contains(s.names, name) {
				s.names = append(s.names, name)
			}
		}
		if s.asked == 0 {
			s.asked = len(s.names)
		}
	}
	for n, name := range s.names[:s.asked] {
		s.wanted = append(s.wanted, n)
		s.aliases = append(s.aliases, s.indexes(policy.Names(name)))
	}
	for _, name := range s.names {
		limit, brief := limits[name]
		if !brief {
			limit = math.NaN()
		}
		s.limits = append(s.limits, limit)
		for _, suffix := range suffixes[bucket:] {
			if of, is := strings.CutSuffix(name, suffix); is {
				s.partsOf = append(s.partsOf, of)
			}
		}
	}
	s.query = queryFor(s.names, s.asked)
	for n, name := range s.names {
		s.notice(n, name)
	}
	return s
}

// places are the bytes of a line that are looked at: vLLM's names share "vllm:" and
// differ soon after it.
var places = [4]int{5, 8, 13, 17}

// notice enters the nth name into the tables. Where a name is over before a place,
// the byte that follows it stands there, or any.
func (s *selector) notice(n int, name string) {
	bit := uint64(1) << (n % 64)
	s.first[name[0]] |= bit
	for i, at := range places {
		switch {
		case at < len(name):
			s.has[i][name[at]] |= bit
		case at == len(name):
			for _, c := range []byte("{ \t_") {
				s.has[i][c] |= bit
			}
		default:
			for c := range s.has[i] {
				s.has[i][c] |= bit
			}
		}
	}
}

// maybe has a bit for each name that a line might begin with.
func (s *selector) maybe(line []byte) uint64 {
	if len(line) > places[3] {
		return s.has[0][line[places[0]]] & s.has[1][line[places[1]]] & s.has[2][line[places[2]]] & s.has[3][line[places[3]]]
	}
	if len(line) == 0 {
		return 0
	}
	bits := s.first[line[0]]
	for i, at := range places {
		if at < len(line) {
			bits &= s.has[i][line[at]]
		}
	}
	return bits
}

// indexes are where those of these names stand that were asked for.
func (s *selector) indexes(names []string) (at []int) {
	for _, name := range names {
		if n := slices.Index(s.names[:s.asked], name); n >= 0 {
			at = append(at, n)
		}
	}
	return at
}

// queryFor lists sample names, because that is what is filtered by. Whether a
// family that was asked for is a histogram isn't known yet.
func queryFor(names []string, asked int) string {
	query := url.Values{}
	for n, name := range names {
		query.Add("name[]", name)
		if n < asked && !strings.HasPrefix(name, "vllm:num_") {
			for _, suffix := range suffixes[bucket:] {
				query.Add("name[]", name+suffix)
			}
		}
	}
	return query.Encode()
}

// wantsPartOf reports whether a single line of that histogram is wanted by its
// own name, such as vllm:iteration_tokens_total_count.
func (s *selector) wantsPartOf(histogram []byte) bool {
	// Compared in place, without a string of its own: it runs for 40 lines of a page.
	return slices.ContainsFunc(s.partsOf, func(name string) bool { return string(histogram) == name })
}

// part is which of a family's sample names a line bears.
type part uint8

const (
	plain part = iota
	bucket
	sum
	count
)

var suffixes = [...]string{bucket: "_bucket", sum: "_sum", count: "_count"}

// partOf tells whether line belongs to the family of that exact name, and as
// which part of it: vllm:num_requests_waiting_by_reason{…} isn't one of
// vllm:num_requests_waiting.
func partOf(line []byte, name string) (part, bool) {
	if len(line) < len(name) || string(line[:len(name)]) != name {
		return 0, false
	}
	rest := line[len(name):]
	if endsName(rest) {
		return plain, true
	}
	return suffixOf(rest)
}

// suffixOf tells which part of a histogram a line is, from what follows the
// family's name in it.
func suffixOf(rest []byte) (part, bool) {
	if len(rest) == 0 || rest[0] != '_' {
		return 0, false
	}
	for p := bucket; p <= count; p++ {
		if suffix := suffixes[p]; len(rest) >= len(suffix) && string(rest[:len(suffix)]) == suffix && endsName(rest[len(suffix):]) {
			return p, true
		}
	}
	return 0, false
}

// endsName reports whether a metric name is over where rest begins.
func endsName(rest []byte) bool {
	return len(rest) == 0 || rest[0] == '{' || rest[0] == ' ' || rest[0] == '\t'
}
