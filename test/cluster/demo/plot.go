package main

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
)

// plotWidth and plotRows are the closing plot's: it stays in the scrollback,
// whatever the window's size becomes.
const plotWidth, plotRows = 66, 4

// plot draws load, queue and replicas over the whole demo. shortened is when
// the windows were, 0 for never.
func plot(points []point, shortened time.Duration) []string {
	if len(points) == 0 {
		return nil
	}
	length := points[len(points)-1].At + time.Second
	lines := panel("load, requests/s", points, offered, length, calmly)
	lines = append(lines, panel("waiting requests", points, waiting, length, busy)...)
	lines = append(lines, "  replicas: "+good.Render("█")+" serving, "+busy.Render("░")+" wanted, starting")
	lines = append(lines, staircase(points, length)...)
	return append(lines, axis(length, shortened)...)
}

func panel(name string, points []point, of func(point) float64, length time.Duration, style lipgloss.Style) []string {
	full := largest(points, of, 1)
	lines := []string{"  " + name}
	for i, line := range columns(resample(points, of, plotWidth, length), full, plotRows) {
		scale := ""
		switch i {
		case 0:
			scale = number(full)
		case plotRows - 1:
			scale = "0"
		}
		lines = append(lines, fmt.Sprintf("%5s ┤%s", scale, style.Render(line)))
	}
	return lines
}

// staircase has one row per replica.
func staircase(points []point, length time.Duration) []string {
	want, serve := resample(points, wanted, plotWidth, length), resample(points, serving, plotWidth, length)
	var lines []string
	for n := int(largest(points, wanted, 1)); n >= 1; n-- {
		var b strings.Builder
		for i := range want {
			switch {
			case serve[i] >= float64(n) && want[i] >= float64(n):
				b.WriteString(good.Render("█"))
			case want[i] >= float64(n):
				b.WriteString(busy.Render("░"))
			default:
				b.WriteString(" ")
			}
		}
		lines = append(lines, fmt.Sprintf("%5d ┤%s", n, b.String()))
	}
	return lines
}

// axis has a mark every half minute, and one where the windows were shortened.
func axis(length, shortened time.Duration) []string {
	marks := []rune(strings.Repeat("─", plotWidth))
	labels := []rune(strings.Repeat(" ", plotWidth+8))
	column := func(at time.Duration) int { return min(int(int64(plotWidth)*int64(at)/int64(length)), plotWidth-1) }
	// Whole minutes only where halves would run into each other.
	every := 30 * time.Second
	for plotWidth*every/length < 6 {
		every *= 2
	}
	for at := time.Duration(0); at < length; at += every {
		marks[column(at)] = '┴'
		copy(labels[column(at):], []rune(minutes(at)))
	}
	lines := []string{"      └" + string(marks), "       " + strings.TrimRight(string(labels), " ")}
	if shortened > 0 {
		lines = append(lines, "       "+strings.Repeat(" ", column(shortened))+"▲ the windows were shortened")
	}
	return lines
}
