package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// colours are the classes of policies, each with its colour in the page.
var colours = map[string]string{
	NameAutomatic: "automatic", "kaito-queue": "queue", "kaito-queue-guarded": "guarded", "kaito-list": "list", "knative": "knative", "llm-d": "llmd",
	NameStatic: "static", "static-mean": "static", "static-peak": "static", "static": "static", NameOracle: "oracle",
}

// colour is a policy's class; InferenceSets of the user have one of their own.
func colour(policy string) string { return cmp.Or(colours[policy], "own") }

// lane is a policy over time: a picture for each quantity.
type lane struct {
	Policy, Class, Words string
	Attained, GPUHours   string
	Plots                []plot
}

// lanes are all policies of a world over time, on common scales.
func (w *World) lanes(l *Load, ttft float64) []lane {
	var replicas, useful, waiting float64
	for i := range w.Scores {
		c := w.Scores[i].Course
		if c == nil {
			continue
		}
		most := float64(max(slices.Max(c.Desired), slices.Max(c.Ready)))
		replicas, waiting = max(replicas, most), max(waiting, float64(slices.Max(c.Waiting)))
		if name := w.Scores[i].Policy; name == l.Judged || name == NameStatic || name == NameOracle {
			useful = max(useful, most)
		}
	}
	// One policy that orders without measure would flatten all others.
	if useful > 0 {
		replicas = min(replicas, 2*useful)
	}
	var all []lane
	for i := range w.Scores {
		s := &w.Scores[i]
		if s.Course == nil {
			continue
		}
		all = append(all, lane{
			Policy: s.Policy, Class: colour(s.Policy), Words: s.Words,
			Attained: s.attainment().percent(), GPUHours: s.gpuHours().words(1, 1),
			Plots: []plot{
				replicaPlot(s, l.Hours, replicas), waitingPlot(s, l.Hours, waiting), firstTokenPlot(s, l.Hours, ttft),
			},
		})
	}
	return all
}

// frame is an empty picture over time with its y axis.
func frame(length float64, ys []float64, by func(float64) float64, label, unit string) (p plot, x, y scale) {
	p = plot{
		Width: 400, Height: 146, Left: 40, Right: 392, Top: 22, Bottom: 114,
		Label: label, XLabel: "hours", YLabel: unit,
	}
	x = scale{0, length, p.Left, p.Right, linear}
	y = scale{ys[0], ys[len(ys)-1], p.Bottom, p.Top, by}
	for _, h := range hours(length) {
		p.X = append(p.X, tick{At: x.at(h), Text: number(h)})
	}
	p.X[0].Text = "0"
	for _, v := range ys {
		p.Y = append(p.Y, tick{At: y.at(v), Text: number(v)})
	}
	if ys[0] == 0 {
		p.Y[0].Text = "0"
	}
	return p, x, y
}

func replicaPlot(s *Score, length, most float64) plot {
	p, x, y := frame(length, round(most), linear, "replicas of "+s.Policy+" over time", "replicas")
	c, step := s.Course, float64(s.Course.Step)/60
	p.Areas = []path{
		series(floats(c.Desired), x, y, step, true, "starting"),
		series(floats(c.Ready), x, y, step, true, "ready fill-"+colour(s.Policy)),
	}
	p.Lines = []path{series(floats(c.Desired), x, y, step, false, "line-"+colour(s.Policy))}
	p.Areas = append(p.Areas, missStrip(c, x, p.Top))
	return p
}

// missStrip marks above the picture when more than one request in a hundred
// missed the SLO.
func missStrip(c *Course, x scale, top float64) path {
	values := make([]float64, len(c.Missed))
	for i, m := range c.Missed {
		values[i] = math.NaN()
		if m > .01 {
			values[i] = 1
		}
	}
	return series(values, x, scale{0, 1, top - 3, top - 9, linear}, float64(c.Step)/60, true, "missed")
}

func waitingPlot(s *Score, length, most float64) plot {
	p, x, y := frame(length, round(most), linear, "waiting requests under "+s.Policy+" over time", "waiting requests")
	p.Areas = []path{series(floats(s.Course.Waiting), x, y, float64(s.Course.Step)/60, true, "fill-"+colour(s.Policy))}
	return p
}

func firstTokenPlot(s *Score, length, slo float64) plot {
	p, x, y := frame(length, []float64{.01, .1, 1, 10, 100}, math.Log10, "time to first token under "+s.Policy+" over time", "slowest TTFT, s")
	p.Y = append(p.Y, tick{At: y.at(slo), Strong: true})
	values := floats(s.Course.TTFT)
	for i, v := range values {
		if v <= 0 {
			values[i] = math.NaN()
		}
	}
	p.Lines = []path{series(values, x, y, float64(s.Course.Step)/60, false, "line-"+colour(s.Policy))}
	return p
}

// loadPlot is the load itself.
func (w *World) loadPlot(l *Load) *plot {
	if len(w.Scores) == 0 || w.Scores[0].Course == nil {
		return nil
	}
	c := w.Scores[0].Course
	most := 0.0
	for _, v := range c.Arrived {
		most = max(most, float64(v))
	}
	p, _, _ := frame(l.Hours, round(most), linear, "load over time", "requests a second")
	p.Width, p.Right = 1240, 1232
	x := scale{0, l.Hours, p.Left, p.Right, linear}
	y := scale{0, p.top(most), p.Bottom, p.Top, linear}
	for i, h := range hours(l.Hours) {
		p.X[i].At = x.at(h)
	}
	p.Areas = []path{series(floats(c.Arrived), x, y, float64(c.Step)/60, true, "load")}
	return &p
}

func (p *plot) top(most float64) float64 {
	all := round(most)
	return all[len(all)-1]
}

// glance is the overview: for each load and cold start a row, for each policy
// its GPU-hours as a share of the smallest fixed fleet's.
func (r *Report) glance() *plot {
	p := plot{Left: 190, Right: 980, Top: 34, Width: 1000, XLabel: "GPU-hours ÷ those of the smallest fixed fleet that attains 99 %", Label: "GPU-hours of each policy"}
	const row, widest = 24, 2.0
	x := scale{0, widest, p.Left, p.Right, linear}
	y := p.Top
	for i := range r.Loads {
		l := &r.Loads[i]
		for j := range l.Worlds {
			w := &l.Worlds[j]
			base := w.score(NameStatic)
			if base == nil {
				continue
			}
			y += row
			if j == 0 {
				y += row / 2
				p.Texts = append(p.Texts, text{X: p.Left - 46, Y: y + 4, Words: l.Name, Class: "label", End: true})
			}
			p.Texts = append(p.Texts, text{X: p.Left - 10, Y: y + 4, Words: w.ColdStart.String(), Class: "faint", End: true})
			p.Y = append(p.Y, tick{At: y})
			for k := range w.Scores {
				p.place(&w.Scores[k], base, l.Judged, x, y)
			}
		}
	}
	if len(p.Marks) == 0 {
		return nil
	}
	p.Bottom = y + row
	p.Height = p.Bottom + 40
	for v := 0.0; v <= widest; v += .25 {
		p.X = append(p.X, tick{At: x.at(v), Text: number(v), Strong: v == 1})
	}
	p.X[0].Text = "0"
	return &p
}

// place puts a policy into its row of the overview: full if it attains the
// target, hollow if not.
func (p *plot) place(s, base *Score, judged string, x scale, y float64) {
	ratio := s.ratio(base)
	m := mark{X: x.at(ratio.mean), Y: y, Shape: "dot", Class: "mark-" + colour(s.Policy), Title: fmt.Sprintf(
		"%s: %s × the GPU-hours, %s %% attained", s.Policy, ratio.words(1, 2), s.attainment().percent())}
	switch {
	case s.attainment().mean < Target:
		m.Shape = "hollow"
	case s.Policy == NameOracle:
		m.Shape = "diamond"
	case s.Policy == NameStatic:
		m.Shape = "square"
	case s.Policy == judged:
		m.Shape = "big"
	}
	p.Marks = append(p.Marks, m)
}
