package report

import (
	_ "embed" // of the page
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// view is what the page's template is given.
type view struct {
	*Report
	Subtitle string
	Missed   int
	Glance   *plot
	Loads    []loadView
	Legend   []lane
	// Colours are the classes that have one.
	Colours []string
}

type loadView struct {
	Load
	Worlds []worldView
}

type worldView struct {
	Name string
	// Open is set for the one of each load that is seen at first.
	Open  bool
	Rows  []row
	Load  *plot
	Lanes []lane
}

// row is a policy's of the table of scores.
type row struct {
	Policy, Class, Words, Knob                                string
	Attained, TTFT50, TTFT99, GPUHours, Wasted, Ratio, Oracle string
	Turns, Refused, Broken, Peak                              string
	// Enough is set if it attains the target.
	Enough bool
}

// HTML writes the report as one page that needs nothing else.
func (r *Report) HTML(to io.Writer) error {
	v := view{
		Report: r, Glance: r.glance(), Colours: []string{"own"},
		Subtitle: fmt.Sprintf("Replicas of %s, %.0f thousand tokens a minute in KAITO's benchmark. SLO: the first token within %g s "+
			"up to 4096 tokens of prompt, and 1 s for each 4096 more; %g ms between tokens. Seeds: %d.",
			r.Engine, r.Rate/1000, r.TTFT, 1000*r.ITL, len(r.Seeds)),
	}
	for _, class := range slices.Sorted(maps.Values(colours)) {
		if !slices.Contains(v.Colours, class) {
			v.Colours = append(v.Colours, class)
		}
	}
	for _, g := range r.Goals {
		if !g.Met {
			v.Missed++
		}
	}
	for i := range r.Loads {
		v.Loads = append(v.Loads, r.loadView(&r.Loads[i]))
	}
	for i := range r.Loads {
		scores := r.Loads[i].Worlds[0].Scores
		for j := range scores {
			name := scores[j].Policy
			if !slices.ContainsFunc(v.Legend, func(l lane) bool { return l.Policy == name }) {
				v.Legend = append(v.Legend, lane{Policy: name, Class: colour(name), Words: scores[j].Words})
			}
		}
	}
	if err := page.Execute(to, v); err != nil {
		return fmt.Errorf("write the report's page: %w", err)
	}
	return nil
}

// fewLoads are so many that each is shown at once.
const fewLoads = 12

func (r *Report) loadView(l *Load) loadView {
	v := loadView{Load: *l}
	for i := range l.Worlds {
		w := &l.Worlds[i]
		one := worldView{
			Name: w.ColdStart.String(), Open: i == len(l.Worlds)/2 && len(r.Loads) < fewLoads,
			Load: w.loadPlot(l), Lanes: w.lanes(l, r.TTFT),
		}
		for j := range w.Scores {
			one.Rows = append(one.Rows, w.row(&w.Scores[j], l.ScoredHours))
		}
		v.Worlds = append(v.Worlds, one)
	}
	return v
}

func (w *World) row(s *Score, hours float64) row {
	mean := func(of func(*Run) float64) float64 { return s.over(of).mean }
	return row{
		Policy: s.Policy, Class: colour(s.Policy), Words: s.Words, Knob: knobs(s),
		Attained: s.attainment().percent(), Enough: s.attainment().mean >= Target,
		TTFT50:   span(mean(func(r *Run) float64 { return r.TTFT50 })),
		TTFT99:   span(mean(func(r *Run) float64 { return r.TTFT99 })),
		GPUHours: s.gpuHours().words(1, 1),
		Wasted:   fmt.Sprintf("%.1f", mean(func(r *Run) float64 { return r.WastedHours })),
		Ratio:    s.ratio(w.score(NameStatic)).words(1, 2), Oracle: s.ratio(w.score(NameOracle)).words(1, 2),
		Turns:   fmt.Sprintf("%.1f", s.turns(hours).mean),
		Refused: fmt.Sprintf("%.0f", mean(func(r *Run) float64 { return float64(r.Refused) })),
		Broken:  fmt.Sprintf("%.0f", mean(func(r *Run) float64 { return float64(r.Broken) })),
		Peak:    fmt.Sprintf("%.0f", mean(func(r *Run) float64 { return float64(r.PeakReplicas) })),
	}
}
