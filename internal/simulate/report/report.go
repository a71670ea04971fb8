// Package report compares scaling policies in simulations: it plays each on
// every load, cold start and seed, judges the goals by what came of it, and
// writes tables, figures, JSON and a page of plots. It is pure but for the
// goroutines that it plays in: what it writes goes to the writer that it is
// given.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Report is what came of a study. It is what the JSON file holds.
type Report struct {
	Title string `json:"title"`
	// Engine is the replica's preset, Rate its tokens a minute in KAITO's
	// benchmark.
	Engine string  `json:"engine"`
	Rate   float64 `json:"peakTokensPerMinute"`
	// TTFT and ITL are the SLO, in seconds.
	TTFT  float64  `json:"ttftSLO"`
	ITL   float64  `json:"itlSLO"`
	Seeds []uint64 `json:"seeds"`
	// Target is the attainment that counts as success.
	Target float64 `json:"target"`
	Loads  []Load  `json:"loads"`
	Goals  []Goal  `json:"goals,omitempty"`
	// Ablations are what the judged policy comes to without one mechanism each.
	Ablations []Ablation `json:"ablations,omitempty"`
	Speeds    []Speed    `json:"speeds,omitempty"`
	// Finished is how many loads of a seed were played, of so many Units.
	Finished int `json:"finishedUnits"`
	Units    int `json:"units"`
	// Notes say in words what was left out.
	Notes []string `json:"notes,omitempty"`
}

// Load is a load with all that was played on it.
type Load struct {
	Name string `json:"name"`
	// Part is that of the report which it belongs to.
	Part string `json:"part,omitempty"`
	// Words describe it.
	Words      string  `json:"words"`
	OutOfReach bool    `json:"outOfReach,omitempty"`
	Hours      float64 `json:"hours"`
	// ScoredHours are those after the warm-up.
	ScoredHours float64 `json:"scoredHours"`
	Worlds      []World `json:"worlds"`
	// Judged is the policy of which Must is demanded.
	Judged string        `json:"judged"`
	Must   simulate.Must `json:"must"`
}

// World is a load at a cold start.
type World struct {
	ColdStart Minutes `json:"coldStartMinutes"`
	Scores    []Score `json:"scores"`
	// Told is set if what is demanded of the load isn't demanded here.
	Told bool `json:"told,omitempty"`
}

// Minutes is a duration that JSON holds as a number of minutes.
type Minutes time.Duration

// MarshalJSON writes minutes.
func (m Minutes) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(m).Minutes())
}

// UnmarshalJSON reads them.
func (m *Minutes) UnmarshalJSON(data []byte) error {
	var minutes float64
	if err := json.Unmarshal(data, &minutes); err != nil {
		return err
	}
	*m = Minutes(time.Duration(minutes * float64(time.Minute)).Round(time.Second))
	return nil
}

// String is as short as 5m.
func (m Minutes) String() string {
	if d := time.Duration(m); d%time.Minute == 0 {
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return time.Duration(m).String()
}

// Score is a policy's in a world, over all seeds.
type Score struct {
	Policy string `json:"policy"`
	// Words describe the policy.
	Words string `json:"words"`
	Runs  []Run  `json:"runs"`
	// Course is that of the first seed.
	Course *Course `json:"course,omitempty"`
}

// Run is what came of one seed.
type Run struct {
	Seed uint64 `json:"seed"`
	// Knob is what was found for it, such as "12 replicas"; "" for a policy
	// that needs none.
	Knob         string  `json:"knob,omitempty"`
	Requests     int     `json:"requests"`
	Attainment   float64 `json:"attainment"`
	TTFT50       float64 `json:"ttft50"`
	TTFT99       float64 `json:"ttft99"`
	GPUHours     float64 `json:"gpuHours"`
	WastedHours  float64 `json:"wastedGPUHours"`
	Reversals    int     `json:"reversals"`
	Turns        int     `json:"turns"`
	Hasty        int     `json:"hastyStepsDown"`
	Refused      int     `json:"refused"`
	Broken       int     `json:"broken"`
	Unfinished   int     `json:"unfinished"`
	PeakReplicas int32   `json:"peakReplicas"`
	// Incurable missed the SLO as they would have on an idle replica: they count as
	// attained.
	Incurable int `json:"incurable,omitempty"`
	// Fault is what else the scenario demands and this run hasn't, "" for nothing.
	Fault string `json:"fault,omitempty"`
	// Moves are those of the first seed, if they were asked for.
	Moves []simulate.Move `json:"moves,omitempty"`
}

func runOf(r *simulate.Result, knob string, coldStart time.Duration) Run {
	return Run{
		Seed: r.Seed, Knob: knob, Requests: r.Requests, Attainment: r.Attainment(), TTFT50: r.TTFT50, TTFT99: r.TTFT99,
		GPUHours: r.GPUHours, WastedHours: r.WastedHours, Reversals: r.Reversals, Hasty: hasty(r.Moves, coldStart),
		Turns: r.Turns, Incurable: r.Incurable, Refused: r.Refused, Broken: r.Broken, Unfinished: r.Unfinished, PeakReplicas: r.Peak,
	}
}

// hasty counts steps down while a burst, two replicas or more ordered at once,
// is younger than a cold start and than ten minutes.
func hasty(moves []simulate.Move, coldStart time.Duration) int {
	n, burst := 0, -time.Hour
	for _, m := range moves {
		switch {
		case m.To >= m.From+2:
			burst = m.At
		case m.To < m.From && m.At-burst < max(coldStart, 10*time.Minute):
			n++
		}
	}
	return n
}

// Goal is something that must hold.
type Goal struct {
	Name string `json:"name"`
	Met  bool   `json:"met"`
	// Wanted and Found are in words, Reason says why it was missed.
	Wanted string `json:"wanted"`
	Found  string `json:"found"`
	Reason string `json:"reason,omitempty"`
}

// Speed is how many times faster than life a policy was played, on one core.
type Speed struct {
	Policy string  `json:"policy"`
	Times  float64 `json:"timesRealTime"`
}

// Course is a run over time, in steps of some minutes.
type Course struct {
	// Step is how many minutes a value stands for.
	Step int `json:"stepMinutes"`
	// Arrived is requests a second, Missed the share of them that missed the
	// SLO, Desired and Ready are replicas at the step's end, Waiting is the most
	// requests that waited at a minute's end, TTFT the greatest time to first
	// token in seconds.
	Arrived []float32 `json:"requestsPerSecond"`
	Missed  []float32 `json:"missed"`
	Desired []int32   `json:"desired"`
	Ready   []int32   `json:"ready"`
	Waiting []int32   `json:"waiting"`
	TTFT    []float32 `json:"ttft"`
}

// steps is how many values a course has at most.
const steps = 360

func courseOf(minutes []simulate.Minute) *Course {
	step := 1
	for len(minutes) > steps*step {
		step++
	}
	c := &Course{Step: step}
	for from := 0; from < len(minutes); from += step {
		part := minutes[from:min(from+step, len(minutes))]
		last := part[len(part)-1]
		var arrived, missed, waiting int32
		var ttft float32
		for _, m := range part {
			arrived, missed = arrived+m.Arrived, missed+m.Missed
			waiting, ttft = max(waiting, m.Waiting), max(ttft, m.TTFT)
		}
		c.Arrived = append(c.Arrived, float32(arrived)/float32(60*len(part)))
		c.Missed = append(c.Missed, float32(missed)/float32(max(1, arrived)))
		c.Desired, c.Ready = append(c.Desired, last.Desired), append(c.Ready, last.Ready)
		c.Waiting, c.TTFT = append(c.Waiting, waiting), append(c.TTFT, ttft)
	}
	return c
}

// JSON writes the report in JSON.
func (r *Report) JSON(to io.Writer) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("write the report in JSON: %w", err)
	}
	return nil
}

// score is the policy's in the world, nil if it wasn't played.
func (w *World) score(policy string) *Score {
	for i := range w.Scores {
		if w.Scores[i].Policy == policy {
			return &w.Scores[i]
		}
	}
	return nil
}

// Merged is one report of several parts, in their order, at least one, with what
// mechanisms are worth. Goals are judged anew.
func Merged(title string, parts []*Report, ablations []Ablation) *Report {
	all := *parts[0]
	all.Ablations = ablations
	all.Title, all.Loads, all.Speeds, all.Finished, all.Units, all.Notes = title, nil, nil, 0, 0, nil
	for _, part := range parts {
		all.Loads = append(all.Loads, part.Loads...)
		all.Notes = append(all.Notes, part.Notes...)
		all.Finished, all.Units = all.Finished+part.Finished, all.Units+part.Units
		if len(all.Speeds) == 0 {
			all.Speeds = part.Speeds
		}
	}
	all.Judge()
	return &all
}
