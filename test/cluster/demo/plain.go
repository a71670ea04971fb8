package main

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// plainEvery is how often there is a line when nothing changes.
const plainEvery = 5 * time.Second

// plain tells the story in lines, for a log or a screen reader: one when
// something changed, and one every few seconds.
type plain struct {
	out io.Writer

	header bool
	told   scene // the scene of the last line
	story  string
	events int
}

// show writes what is new in a scene.
func (p *plain) show(s scene, _ []point) {
	if s.Story != p.story {
		p.story = s.Story
		p.line("%5s  == %s", minutes(s.At), s.Story)
	}
	if len(s.Events) < p.events {
		p.events = 0 // the events were read anew
	}
	for _, e := range s.Events[p.events:] {
		p.line("%5s  event %s: %s", minutes(e.At), e.Reason, e.Note)
	}
	p.events = len(s.Events)
	if p.header && !p.news(s) {
		return
	}
	if !p.header {
		p.header = true
		p.line("%5s  %-8s %6s %8s %7s %7s %9s  %-15s %7s  %s", "TIME", "PHASE", "LOAD", "REPLICAS", "SERVING",
			"WAITING", "PUBLISHED", "TARGETS", "DESIRED", "THE HPA SAYS")
	}
	p.told = s
	p.line("%s", row(s))
}

// news tells whether a scene deserves a line.
func (p *plain) news(s scene) bool {
	return s.At-p.told.At >= plainEvery || s.Phase != p.told.Phase || s.Set.Wanted != p.told.Set.Wanted ||
		s.serving() != p.told.serving() || s.HPA.Targets != p.told.HPA.Targets
}

func row(s scene) string {
	published, targets, desired := "-", "-", "-"
	if s.Published.Known {
		published = number(s.Published.Value)
	}
	if s.HPA.Exists {
		targets, desired = s.HPA.Targets, strconv.Itoa(int(s.HPA.Desired))
	}
	return fmt.Sprintf("%5s  %-8s %6s %8d %7d %7d %9s  %-15s %7s  %s", minutes(s.At), s.Phase, perSecond(s.Offered),
		s.Set.Wanted, s.serving(), s.waiting(), published, targets, desired, s.HPA.Reason)
}

// close ends the lines: nothing is left open.
func (p *plain) close() {}

func (p *plain) line(format string, args ...any) {
	// An output that nobody reads any more is no reason to stop.
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}
