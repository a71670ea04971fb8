package report

import (
	"fmt"
	"math"
	"strings"
)

// plot is a picture in its own coordinates: the page's template draws it as it
// is. Units of all lengths are those of the SVG's viewBox.
type plot struct {
	Width, Height float64
	// Left, Right, Top and Bottom bound the area that data are drawn in.
	Left, Right, Top, Bottom float64
	// Label says what is seen, for who can't; XLabel and YLabel have units.
	Label, XLabel, YLabel string
	X, Y                  []tick
	Areas, Lines          []path
	Marks                 []mark
	Texts                 []text
}

// tick is a grid line with its number.
type tick struct {
	At   float64
	Text string
	// Strong is a line that means something.
	Strong bool
}

// path is a shape with its CSS classes.
type path struct{ D, Class string }

// mark is a point, Shape its form: dot, ring, square or diamond.
type mark struct {
	X, Y         float64
	Shape, Class string
	// Title is shown when somebody points at it.
	Title string
}

// UnitAt is where the y axis' unit stands: above the data, and above what marks
// misses there.
func (p *plot) UnitAt() float64 { return p.Top - 12 }

// Diamond is the mark's outline as one.
func (m mark) Diamond() string {
	return fmt.Sprintf("M%.1f %.1fl6 6l-6 6l-6 -6z", m.X, m.Y-6)
}

// text is a word in the picture, End if it ends at X instead of beginning there.
type text struct {
	X, Y  float64
	Words string
	Class string
	End   bool
}

// scale maps values to coordinates.
type scale struct {
	from, to float64 // values
	a, b     float64 // coordinates
	by       func(float64) float64
}

func linear(x float64) float64 { return x }

// misses spreads attainment: each halving of the misses is as far as the last.
// Beyond one miss in 10 000 no seed tells.
func misses(attainment float64) float64 { return -math.Log10(max(1e-4, 1-attainment)) }

func (s scale) at(value float64) float64 {
	lo, hi := s.by(s.from), s.by(s.to)
	along := (s.by(min(max(value, s.from), s.to)) - lo) / (hi - lo)
	return s.a + along*(s.b-s.a)
}

// round numbers from 0 to at least most, in about four steps.
func round(most float64) []float64 {
	const about = 4
	if most <= 0 {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most/about)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if most/(step*factor) <= about {
			step *= factor
			break
		}
	}
	var all []float64
	for i := 0; ; i++ {
		all = append(all, float64(i)*step)
		if float64(i)*step >= most {
			return all
		}
	}
}

func number(x float64) string {
	switch {
	case x >= 10_000:
		return fmt.Sprintf("%gk", x/1000)
	case x >= 1:
		return fmt.Sprintf("%g", math.Round(x*100)/100)
	}
	return fmt.Sprintf("%.2g", x)
}

// hours are the ticks of a time axis.
func hours(length float64) []float64 {
	for _, step := range []float64{.25, .5, 1, 2, 3, 4, 6, 12, 24, 48} {
		if length/step > 8 {
			continue
		}
		var all []float64
		for h := 0.0; h <= length+1e-9; h += step {
			all = append(all, h)
		}
		return all
	}
	return []float64{0, length}
}

// series draws values over time as steps: area down to the axis, or a line. A
// value that isn't a number is a gap.
func series(values []float64, x, y scale, step float64, area bool, class string) path {
	var b strings.Builder
	open := false
	for i, v := range values {
		left, right := x.at(float64(i)*step), x.at(float64(i+1)*step)
		if math.IsNaN(v) {
			if open && area {
				fmt.Fprintf(&b, "V%.1fZ", y.a)
			}
			open = false
			continue
		}
		at := y.at(v)
		switch {
		case open:
			fmt.Fprintf(&b, "V%.1fH%.1f", at, right)
		case area:
			fmt.Fprintf(&b, "M%.1f %.1fV%.1fH%.1f", left, y.a, at, right)
		default:
			fmt.Fprintf(&b, "M%.1f %.1fH%.1f", left, at, right)
		}
		open = true
	}
	if open && area {
		fmt.Fprintf(&b, "V%.1fZ", y.a)
	}
	return path{D: b.String(), Class: class}
}

func floats[T int32 | float32](values []T) []float64 {
	all := make([]float64, len(values))
	for i, v := range values {
		all[i] = float64(v)
	}
	return all
}
