package scrape

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/test/engine"
)

var update = flag.Bool("update", false, "write the table of pages anew")

// between is what somebody knows of a value: at least and at most.
type between struct{ least, most float64 }

// atMost is of a value that may be anything above.
const atMost = 1e9

func exactly[T int | float64](value T) between { return between{float64(value), float64(value)} }

func (b between) has(value float64) bool { return value >= b.least && value <= b.most }

func (b between) String() string {
	switch {
	case b.least == b.most:
		return number(b.least)
	case b.most == atMost:
		return number(b.least) + ".."
	}
	return number(b.least) + ".." + number(b.most)
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func parseBetween(text string) (between, error) {
	least, most, ranged := strings.Cut(text, "..")
	switch {
	case !ranged:
		most = least
	case most == "":
		most = number(atMost)
	}
	var b between
	var err error
	if b.least, err = strconv.ParseFloat(least, 64); err != nil {
		return b, err
	}
	b.most, err = strconv.ParseFloat(most, 64)
	return b, err
}

// known is what clients know of an engine.
type known map[string]between

func (k known) add(name string, least, most float64) {
	b := k[name]
	k[name] = between{b.least + least, b.most + most}
}

// wrong names what a page says otherwise, or not at all.
func (k known) wrong(page truth) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(k)) {
		if value, ok := page[name]; !ok || !k[name].has(value) {
			names = append(names, name)
		}
	}
	return names
}

func (k known) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(k)) {
		parts = append(parts, name+" "+k[name].String())
	}
	return strings.Join(parts, ", ")
}

// The first lines of a recorded page.
const (
	trueLine  = "# In truth: "
	wrongLine = "# Read otherwise: "
)

// header is what stands before a recorded page.
func (k known) header(page truth) string {
	out := trueLine + k.String() + "\n"
	if wrong := k.wrong(page); len(wrong) > 0 {
		otherwise := known{}
		for _, name := range wrong {
			otherwise[name] = exactly(page[name])
		}
		out += wrongLine + otherwise.String() + "\n"
	}
	return out
}

var oneKnown = regexp.MustCompile(`^(.+) (\S+)$`)

// parseKnown reads one of the first lines; nil if the page has no such line.
func parseKnown(t *testing.T, text, line string) known {
	t.Helper()
	for l := range strings.Lines(text) {
		list, ok := strings.CutPrefix(l, line)
		if !ok {
			if !strings.HasPrefix(l, "# ") || strings.HasPrefix(l, "# TYPE") {
				break
			}
			continue
		}
		k := known{}
		for part := range strings.SplitSeq(strings.TrimSpace(list), ", ") {
			m := oneKnown.FindStringSubmatch(part)
			if m == nil {
				t.Fatalf("%q is no value", part)
			}
			b, err := parseBetween(m[2])
			if err != nil {
				t.Fatal(err)
			}
			k[m[1]] = b
		}
		return k
	}
	return nil
}

// The states that pages are recorded in, and what clients did to bring them about. An
// engine runs 16 requests at once, works off 2048 tokens a step, and has room for 12256.
const (
	stateIdle           = "idle"
	stateLongPrompt     = "long prompt"
	stateBehindLongStep = "behind a long step"
	stateCacheHits      = "cache hits"
	stateSaturated      = "saturated"
	stateRefused        = "refused"
	stateCancelled      = "cancelled"
	statePreempted      = "preempted"
	stateTwoEngines     = "two engines"
	stateTwoServers     = "two API servers"
	stateSpeculation    = "speculation"
	stateLoRA           = "LoRA"
	stateAsleep         = "asleep"
)

var states = []struct{ name, about string }{
	{stateIdle, "Nothing was sent yet."},
	{stateLongPrompt, "One request of 7000 + 4 tokens, before its first token: its prompt takes four steps of 2 s at most."},
	{stateBehindLongStep, "The same, and a second request that came during such a step."},
	{stateCacheHits, "The same prompt once more. All three are done."},
	{stateSaturated, "30 requests of 100 + 300 tokens at once. 16 have their first token, nobody is done."},
	{stateRefused, "60 of these at once. 27 got a 429, 16 have their first token."},
	{stateCancelled, "16 requests of 100 + 400 tokens that had their first token, and 4 that waited. All their clients went away."},
	{statePreempted, "16 requests of 600 + 300 tokens, which don't all fit. Those are out that get no token while others get ten."},
	{stateTwoEngines, "`--data-parallel-size 2` behind one API server, as KAITO runs it. 40 requests of 100 + 300 tokens at once. 32 have their first token."},
	{stateTwoServers, "`vllm serve --api-server-count 2` with one engine. 30 requests of 100 + 300 tokens, one every 50 ms. 16 have their first token."},
	{stateSpeculation, "n-gram speculation of 3 tokens, which the CPU builds of 0.12 and 0.17 don't have. 4 requests of 100 + 200 tokens are done."},
	{stateLoRA, "4 requests to the model and 4 to its adapter, all with their first token."},
	{stateAsleep, "The same engine, all 8 done, after POST /sleep. The CPU build does all of it but give memory back."},
}

// recording is a page that a live engine wrote (make engines-pages), without its HELP
// sentences, which are vLLM's.
type recording struct {
	version, state   string
	page             truth
	truth, otherwise known
}

func recordings(t *testing.T) []recording {
	t.Helper()
	files, err := filepath.Glob("testdata/engines/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	var all []recording
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "vllm-"), ".txt")
		version, state, _ := strings.Cut(name, "-")
		r := recording{
			version: version, state: strings.ReplaceAll(state, "-", " "), page: readTruth(t, string(content)),
			truth: parseKnown(t, string(content), trueLine), otherwise: parseKnown(t, string(content), wrongLine),
		}
		if r.truth == nil {
			t.Fatalf("%s doesn't begin with the truth", file)
		}
		all = append(all, r)
	}
	return all
}

// What a page says is what the clients knew, but for what it is known to be read wrong
// in.
func TestPagesOfLiveEnginesSayWhatWasTrue(t *testing.T) {
	for _, r := range recordings(t) {
		t.Run(r.version+" "+r.state, func(t *testing.T) {
			wrong := r.truth.wrong(r.page)
			if want := slices.Sorted(maps.Keys(r.otherwise)); !slices.Equal(wrong, want) {
				t.Errorf("%q are read wrong, known are %q:\n  page  %s\n  truth %s", wrong, want, r.page, r.truth)
			}
			for name, value := range r.otherwise {
				if !value.has(r.page[name]) {
					t.Errorf("%s: %v by the page, it was %v", name, r.page[name], value)
				}
			}
		})
	}
}

func TestAnSLOIsJudgedAtABoundThatRealPagesHave(t *testing.T) {
	files, err := filepath.Glob("testdata/engines/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d pages: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for metric, bounds := range map[string][]float64{
			policy.FamilyTTFT: policy.TTFTBounds[:], policy.FamilyTPOT: policy.TPOTBounds[:], policy.FamilyITL: policy.TPOTBounds[:],
		} {
			f := families(t, string(text), metric)[0]
			if want := append(slices.Clone(bounds), math.Inf(1)); !slices.Equal(f.Buckets.Le, want) {
				t.Errorf("%s: %s has the bounds %v, want %v", file, metric, f.Buckets.Le, want)
			}
		}
	}
}

const tableFile = "../../test/engine/PAGES.md"

// The table of what was read and what was true is of the recorded pages.
func TestTheTableOfPages(t *testing.T) {
	got := table(recordings(t))
	if *update {
		if err := os.WriteFile(tableFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(tableFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not of the recorded pages: go test ./internal/scrape -run TableOfPages -update (%v)", tableFile, err)
	}
}

func table(all []recording) []byte {
	var versions []string
	for _, r := range all {
		if !slices.Contains(versions, r.version) {
			versions = append(versions, r.version)
		}
	}
	slices.SortFunc(versions, engine.CompareVersions)
	var out bytes.Buffer
	out.WriteString(`# What vLLM's page says, and what was true

Recorded from live engines and read by the scaler's own reader. Written by
` + "`go test ./internal/scrape -run TableOfPages -update`" + ` from the pages in
[internal/scrape/testdata/engines](../../internal/scrape/testdata/engines).

Each cell is what the page said. In brackets: what the clients know, if they know it only
as a range. **Bold**: the page was wrong, and in brackets is the truth. An engine runs 16
requests at once, works off 2048 tokens a step, and has room for 12256.
`)
	for _, s := range states {
		section(&out, s.name, s.about, versions, all)
	}
	return out.Bytes()
}

func section(out *bytes.Buffer, state, about string, versions []string, all []recording) {
	columns := make([]*recording, len(versions))
	rows := map[string]bool{}
	for i, r := range all {
		if r.state != state {
			continue
		}
		columns[slices.Index(versions, r.version)] = &all[i]
		for name := range r.truth {
			rows[name] = true
		}
	}
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n| | %s |\n|---|%s\n", strings.ToUpper(state[:1])+state[1:], about,
		strings.Join(versions, " | "), strings.Repeat("---|", len(versions)))
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(out, "| %s |", name)
		for _, r := range columns {
			fmt.Fprintf(out, " %s |", cell(r, name))
		}
		out.WriteString("\n")
	}
}

func cell(r *recording, name string) string {
	if r == nil {
		return "not recorded"
	}
	truth, ok := r.truth[name]
	if !ok {
		return ""
	}
	read := "nothing"
	if value, ok := r.page[name]; ok {
		read = number(math.Round(value*1000) / 1000)
	}
	switch {
	case !truth.has(r.page[name]):
		return fmt.Sprintf("**%s** (%s)", read, truth)
	case truth.least != truth.most:
		return fmt.Sprintf("%s (%s)", read, truth)
	}
	return read
}

// A page's first lines say what was true and what is read otherwise; a value that
// isn't on the page is wrong too.
func TestWhatIsKnownOfAPageIsWrittenAndRead(t *testing.T) {
	want := known{running: exactly(16), kvUsage: between{0.1671, 0.1672}, preempted: between{3, atMost}, queued: exactly(2)}
	page := truth{running: 16, kvUsage: 0.16715, preempted: 0}
	text := want.header(page) + "# TYPE vllm:num_requests_running gauge\n"
	if !strings.Contains(text, "preemptions 3..") {
		t.Errorf("got %s", text)
	}
	if got := parseKnown(t, text, trueLine); !maps.Equal(got, want) {
		t.Errorf("read %s, written %s", got, want)
	}
	if got := parseKnown(t, text, wrongLine); !maps.Equal(got, known{preempted: exactly(0), queued: exactly(0)}) {
		t.Errorf("read otherwise: %s", got)
	}
	if got := parseKnown(t, "# TYPE x gauge\n"+text, trueLine); got != nil {
		t.Errorf("found behind the first lines: %s", got)
	}
}
