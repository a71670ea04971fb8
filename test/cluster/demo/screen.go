package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// screen shows frames on a terminal, on its alternate screen, so that the
// scrollback keeps only what is worth it.
type screen struct {
	terminal *os.File
	out      io.Writer // the same, with the colours that it may have
	title    string

	width, height int
	open          bool
}

// The sequences of a terminal (ECMA-48 and xterm's).
const (
	enter = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, no wrapping
	leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	// A terminal that knows synchronized output shows a frame at once.
	begin, end = "\x1b[?2026h\x1b[H", "\x1b[?2026l"
	wipe       = "\x1b[2J"
)

func (s *screen) show(now scene, points []point) {
	width, height, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	var b strings.Builder
	if !s.open {
		s.open = true
		b.WriteString(enter)
	}
	b.WriteString(begin)
	if width != s.width || height != s.height {
		s.width, s.height = width, height
		b.WriteString(wipe)
	}
	for i, line := range frame(now, points, s.title, width, height) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		// Spaces over what was there before: erasing the rest of a full line
		// would take its last character.
		b.WriteString(line + strings.Repeat(" ", max(width-ansi.StringWidth(line), 0)))
	}
	b.WriteString(end)
	_, _ = io.WriteString(s.out, b.String())
}

// close brings the usual screen back. Closing twice is harmless.
func (s *screen) close() {
	if s.open {
		s.open = false
		_, _ = fmt.Fprint(s.out, leave)
	}
}

// isTerminal tells whether frames can be drawn on a file.
func isTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// coloured passes on what the terminal may have of colours: all of ours are
// among the sixteen that every terminal has, unless the user wants none
// (https://no-color.org). On anything else there are no escape codes at all.
func coloured(out io.Writer, terminal bool) io.Writer {
	profile := colorprofile.ANSI
	switch {
	case !terminal:
		profile = colorprofile.NoTTY
	case os.Getenv("NO_COLOR") != "":
		profile = colorprofile.Ascii
	}
	return &colorprofile.Writer{Forward: out, Profile: profile}
}
