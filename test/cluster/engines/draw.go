package engines

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// The picture's measures, in pixels.
const (
	width, left, right   = 860, 62, 20
	top, height, between = 128, 120, 48
)

// Picture is the course of real engines beside that of simulations.
type Picture struct {
	Title string
	// Subtitle is a line or two.
	Subtitle  []string
	World     *World
	Real      Run
	Simulated []Run
	// Serving are the real replicas that took requests.
	Serving Course
}

// panel is one of the plots, under each other.
type panel struct {
	b      *strings.Builder
	y      float64 // of its upper edge
	full   float64 // what its upper edge stands for
	length time.Duration
}

func (p *panel) x(at time.Duration) float64 {
	return left + (width-left-right)*at.Seconds()/p.length.Seconds()
}

func (p *panel) at(value float64) float64 { return p.y + height*(1-min(value, p.full)/p.full) }

// SVG draws it.
func (p *Picture) SVG() string {
	var b strings.Builder
	tall := top + 3*height + 3*between
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#333">`+"\n", width, tall, width, tall)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, tall)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="16" font-weight="bold">%s</text>`+"\n", left, html.EscapeString(p.Title))
	for i, line := range p.Subtitle {
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#666">%s</text>`+"\n", left, 46+16*i, html.EscapeString(line))
	}
	p.legend(&b)
	p.rates(p.panel(&b, 0, "requests a second", p.peak()))
	p.replicas(p.panel(&b, 1, "replicas", float64(p.World.Max)))
	p.missed(p.panel(&b, 2, "requests that missed the SLO, %", 100))
	b.WriteString("</svg>\n")
	return b.String()
}

const (
	realColour, servingColour, simulatedColour = "#c2410c", "#c2410c", "#1d4ed8"
	bandColour                                 = "#bfdbfe"
)

func (p *Picture) legend(b *strings.Builder) {
	x := left
	entry := func(mark, text string, room int) {
		fmt.Fprintf(b, mark, x, x+24)
		fmt.Fprintf(b, `<text x="%d" y="90">%s</text>`+"\n", x+30, text)
		x += room
	}
	line := `<path d="M%d 86H%d" stroke="` + realColour + `" stroke-width="2.5"/>`
	dashed := `<path d="M%d 86H%d" stroke="` + servingColour + `" stroke-width="1.5" stroke-dasharray="3 3"/>`
	blue := `<path d="M%d 86H%d" stroke="` + simulatedColour + `" stroke-width="1.5"/>`
	band := `<path d="M%d 86H%d" stroke="` + bandColour + `" stroke-width="10"/>`
	entry(line, "real engines", 130)
	entry(dashed, "of them serving", 145)
	entry(blue, fmt.Sprintf("median of %d simulations", len(p.Simulated)), 205)
	entry(band, "their 5 to 95 %", 150)
}

// panel draws the frame of the n-th plot.
func (p *Picture) panel(b *strings.Builder, n int, name string, full float64) *panel {
	panel := &panel{b: b, y: float64(top + n*(height+between)), full: full, length: p.World.Length}
	fmt.Fprintf(b, `<text x="%d" y="%.0f" font-weight="bold">%s</text>`+"\n", left, panel.y-7, name)
	parts := 2
	if math.Mod(full, 2) == 1 {
		parts = int(full) // no half replica
	}
	for i := range parts + 1 {
		value := full * float64(i) / float64(parts)
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#e5e7eb"/><text x="%d" y="%.1f" text-anchor="end">%.3g</text>`+"\n",
			left, panel.at(value), width-right, left-8, panel.at(value)+4, value)
	}
	for m := time.Duration(0); m <= p.World.Length; m += tick(p.World.Length) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle" fill="#666">%.0f min</text>`+"\n", panel.x(m), panel.y+height+16, m.Minutes())
	}
	return panel
}

// tick is the distance of the marks on the axis of time.
func tick(length time.Duration) time.Duration {
	for _, t := range []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute} {
		if length <= 10*t {
			return t
		}
	}
	return 10 * time.Minute
}

// perSecond are the requests a second in each stretch of missedEvery.
func (p *Picture) perSecond() []float64 {
	var counts []float64
	for _, r := range p.World.Requests {
		i := int(r.At / missedEvery)
		for len(counts) <= i {
			counts = append(counts, 0)
		}
		counts[i] += 1 / missedEvery.Seconds()
	}
	return counts
}

// peak is the upper edge of the rates, an even number.
func (p *Picture) peak() float64 {
	most := 2.0
	for _, rate := range p.perSecond() {
		most = max(most, rate)
	}
	return 2 * math.Ceil(most/2)
}

func (p *Picture) rates(panel *panel) {
	panel.line(p.perSecond(), missedEvery, "#666", 1.5, "")
}

func (p *Picture) replicas(panel *panel) {
	n := len(p.Real.Ordered)
	panel.spread(n, time.Second, func(i int) []float64 {
		return Each(p.Simulated, func(r Run) float64 { return float64(r.Ordered[i]) })
	})
	panel.line(floats(p.Serving), time.Second, servingColour, 1.5, "3 3")
	panel.line(floats(p.Real.Ordered), time.Second, realColour, 2.5, "")
}

func (p *Picture) missed(panel *panel) {
	percent := func(r Run, i int) float64 {
		if i >= len(r.Missed) {
			return math.NaN()
		}
		return 100 * r.Missed[i]
	}
	panel.spread(len(p.Real.Missed), missedEvery, func(i int) []float64 {
		return Each(p.Simulated, func(r Run) float64 { return percent(r, i) })
	})
	var missed []float64
	for i := range p.Real.Missed {
		missed = append(missed, percent(p.Real, i))
	}
	panel.line(missed, missedEvery, realColour, 2.5, "")
}

func floats(c Course) []float64 {
	values := make([]float64, len(c))
	for i, n := range c {
		values[i] = float64(n)
	}
	return values
}

// line draws values as steps.
func (p *panel) line(values []float64, every time.Duration, colour string, thick float64, dashes string) {
	var path strings.Builder
	pen := "M"
	for i := 0; i < len(values); {
		v, end := values[i], i+1
		for end < len(values) && values[end] == v {
			end++
		}
		if math.IsNaN(v) {
			pen = "M"
		} else {
			from, to := time.Duration(i)*every, min(time.Duration(end)*every, p.length)
			fmt.Fprintf(&path, "%s%.1f %.1fH%.1f", pen, p.x(from), p.at(v), p.x(to))
			pen = "L"
		}
		i = end
	}
	dash := ""
	if dashes != "" {
		dash = fmt.Sprintf(` stroke-dasharray="%s"`, dashes)
	}
	fmt.Fprintf(p.b, `<path d="%s" fill="none" stroke="%s" stroke-width="%g"%s/>`+"\n", path.String(), colour, thick, dash)
}

// spread draws n spreads: the band, and the median on it.
func (p *panel) spread(n int, every time.Duration, values func(i int) []float64) {
	spreads := make([]Spread, n)
	medians := make([]float64, n)
	for i := range spreads {
		spreads[i] = SpreadOf(values(i))
		medians[i] = spreads[i].Median
	}
	for i := 0; i < n; {
		s, end := spreads[i], i+1
		for end < n && spreads[end] == s {
			end++
		}
		if !math.IsNaN(s.Median) {
			from, to := p.x(time.Duration(i)*every), p.x(min(time.Duration(end)*every, p.length))
			// As high as a line where there is no spread.
			tall := max(p.at(s.Low)-p.at(s.High), 2)
			fmt.Fprintf(p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", from, p.at(s.High)-1, to-from, tall, bandColour)
		}
		i = end
	}
	p.line(medians, every, simulatedColour, 1.5, "")
}
