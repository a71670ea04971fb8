package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// The colours are the terminal's own sixteen, so that they suit its theme.
var (
	strong = lipgloss.NewStyle().Bold(true)
	dim    = lipgloss.NewStyle().Foreground(lipgloss.BrightBlack)
	good   = lipgloss.NewStyle().Foreground(lipgloss.Green)
	busy   = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	calmly = lipgloss.NewStyle().Foreground(lipgloss.Blue)
	told   = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
)

const (
	// storyLines are kept for the story, so that nothing below it jumps. One
	// that needs it, a long command, has one more.
	storyLines = 3
	// replicaLines are kept for replicas.
	replicaLines = 5
	// label is the width of the names at the left.
	label = 10
	// usual is how long the demo takes: the plots' width until it takes longer.
	usual = 200 * time.Second
)

// frame draws a scene on so many columns and rows. What came before is in the
// points. Every line fits the width, and there are just height lines.
func frame(s scene, points []point, title string, width, height int) []string {
	lines := head(s, title, width)
	lines = append(lines, fleet(s, width)...)
	if height > 24 {
		lines = append(lines, "")
	}
	lines = append(lines, way(s, width)...)
	rest := height - len(lines)
	var plots []string
	if rest >= 4 {
		plots = live(points, width, min(max((rest-12)/3, 1), 3))
		rest -= len(plots)
	}
	if rest >= 2 {
		lines = append(lines, "")
		some := min(rest-1, 10)
		if rest > 10 {
			some = min(rest-2, 10) // and a gap
		}
		lines = append(lines, happenings(s, some)...)
	}
	for range height - len(lines) - len(plots) {
		lines = append(lines, "")
	}
	lines = append(lines, plots...)
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], width, "…")
	}
	return lines[:min(len(lines), height)]
}

// head is the title with the clock, and the story.
func head(s scene, title string, width int) []string {
	left, right := " "+strong.Render(title), strong.Render(minutes(s.At))
	if hint := "Ctrl-C stops it all"; ansi.StringWidth(left+right+hint)+4 <= width {
		right = dim.Render(hint) + "  " + right
	}
	gap := max(width-ansi.StringWidth(left)-ansi.StringWidth(right)-1, 1)
	lines := []string{left + strings.Repeat(" ", gap) + right}
	story := strings.Split(ansi.Wrap(s.Story, max(width-3, 1), ""), "\n")
	for i := range max(storyLines, min(len(story), storyLines+1)) {
		line := ""
		if i < len(story) {
			line = told.Render("▌ " + strings.TrimSpace(story[i]))
		}
		lines = append(lines, line)
	}
	return append(lines, "")
}

// fleet is the InferenceSet and its replicas.
func fleet(s scene, width int) []string {
	var dots strings.Builder
	for i := range max(s.HPA.Max, s.Set.Wanted) {
		switch {
		case int(i) < s.serving():
			dots.WriteString(good.Render("●"))
		case i < s.Set.Wanted:
			dots.WriteString(busy.Render("○"))
		default:
			dots.WriteString(dim.Render("·"))
		}
	}
	lines := []string{fmt.Sprintf(" %s %s  %s  load %s", strong.Render("InferenceSet "+s.Set.Name), dots.String(),
		fmt.Sprintf("replicas %d, ready %d", s.Set.Wanted, s.Set.Ready), strong.Render(perSecond(s.Offered)))}
	columns := min((width-63)/2, 24) // with room for a note
	if columns < 6 {
		columns = max(min((width-51)/2, 6), 0)
	}
	for _, r := range s.Replicas {
		lines = append(lines, replicaLine(r, columns))
	}
	for len(lines) <= replicaLines {
		lines = append(lines, "")
	}
	return lines
}

func replicaLine(r replica, columns int) string {
	style := busy
	switch {
	case r.Ready:
		style = good
	case r.Stage == "terminating":
		style = dim
	case r.Counted:
		style = bad // it was ready once
	}
	load, queue := calmly, busy
	note := ""
	if !r.Counted {
		load, queue = dim, dim
		if r.Running+r.Waiting > 0 && r.Stage == "benchmarking" {
			note = dim.Render(" KAITO's own")
		}
	}
	full := float64(max(r.Seats, 1))
	return fmt.Sprintf("   %-12s %s run %s %3d  wait %s %3d%s", ansi.Truncate(r.Name, 12, "…"),
		style.Render(fmt.Sprintf("%-15s", r.Stage)),
		load.Render(bar(float64(r.Running), full, columns)), r.Running,
		queue.Render(bar(float64(r.Waiting), full, columns)), r.Waiting, note)
}

// way is the number's way: the scaler, KEDA, the HPA.
func way(s scene, width int) []string {
	name := func(n string) string { return " " + strong.Render(fmt.Sprintf("%-*s", label, n)) }
	return []string{
		name("scaler") + "publishes " + strong.Render(text(s.Published)) + dim.Render(" requests waiting, in total"),
		name("") + ansi.Truncate(why(s), width-label-1, "…"),
		name("KEDA") + kedaLine(s.KEDA),
		name("HPA") + hpaLine(s.HPA),
		name("") + dim.Render(behaviour(s.HPA)),
		name("") + ansi.Truncate(reason(s.HPA), width-label-1, "…"),
	}
}

// why is the scaler's latest word, which it says when its verdict turns.
func why(s scene) string {
	v, ok := s.recommendation()
	if !ok {
		return ""
	}
	return dim.Render("at "+minutes(v.At)+": ") + told.Render(v.Note)
}

func text(r reading) string {
	if !r.Known {
		return "nothing yet"
	}
	return number(r.Value)
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func kedaLine(k scaledObject) string {
	if !k.Exists {
		return dim.Render("no ScaledObject yet")
	}
	return "ScaledObject Ready " + truth(k.Ready) + ", Active " + truth(k.Active)
}

func truth(status string) string {
	if status == "True" {
		return good.Render(status)
	}
	return busy.Render(status)
}

func hpaLine(h autoscaler) string {
	if !h.Exists {
		return dim.Render("none yet")
	}
	targets := strong.Render(h.Targets)
	if h.Current.Known && h.Current.Value > 1.1*h.Target {
		targets = busy.Bold(true).Render(h.Targets)
	}
	return fmt.Sprintf("TARGETS %s  MIN %d  MAX %d  desired %s", targets, h.Min, h.Max, strong.Render(strconv.Itoa(int(h.Desired))))
}

func behaviour(h autoscaler) string {
	if !h.Exists {
		return ""
	}
	one := func(sign string, r rules) string {
		return fmt.Sprintf("window %.0f s, %s1 per %.0f s", r.Window.Seconds(), sign, r.Cooldown.Seconds())
	}
	return "up: " + one("+", h.Up) + "; down: " + one("−", h.Down)
}

func reason(h autoscaler) string {
	if h.Reason == "" {
		return ""
	}
	return busy.Render(h.Reason) + ": " + h.Message
}

// happenings are the last events on the InferenceSet, on so many lines.
func happenings(s scene, lines int) []string {
	var out []string
	switch {
	case s.Trouble != "":
		out = append(out, " "+bad.Render("can't look: "+strings.ReplaceAll(s.Trouble, "\n", "; ")))
	case lines > 3: // else the events take all there is
		out = append(out, " "+strong.Render("Events")+dim.Render(" on the InferenceSet"))
	}
	last := s.Events[max(0, len(s.Events)-(lines-len(out))):]
	width := 0
	for _, e := range last {
		width = max(width, len(e.Reason))
	}
	for _, e := range last {
		style := told
		if e.Warning {
			style = bad
		}
		out = append(out, fmt.Sprintf("   %s %s %s", dim.Render(minutes(e.At)),
			style.Render(fmt.Sprintf("%-*s", width, e.Reason)), e.Note))
	}
	return out
}

// live are the plots under the live view: one row each, or a few with a gap
// between them.
func live(points []point, width, rows int) []string {
	length := usual
	if n := len(points); n > 0 && points[n-1].At > length {
		length = points[n-1].At
	}
	room := max(width-label-10, 8)
	var out []string
	for _, plot := range []struct {
		name  string
		of    func(point) float64
		low   float64
		style lipgloss.Style
		unit  string
	}{
		{"load", offered, 10, calmly, "/s"}, {"waiting", waiting, 10, busy, ""}, {"replicas", wanted, 5, good, ""},
	} {
		now := 0.0
		if len(points) > 0 {
			now = plot.of(points[len(points)-1])
		}
		if rows > 1 && len(out) > 0 {
			out = append(out, "")
		}
		full := largest(points, plot.of, plot.low)
		for i, line := range columns(resample(points, plot.of, room, length), full, rows) {
			name, value := "", ""
			if i == rows-1 {
				name, value = plot.name, number(now)+plot.unit
			}
			out = append(out, fmt.Sprintf(" %-*s%s %s", label, name, plot.style.Render(line), value))
		}
	}
	return out
}

// minutes is a time as m:ss.
func minutes(d time.Duration) string {
	d = max(d, 0).Truncate(time.Second)
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func perSecond(x float64) string { return number(x) + "/s" }
