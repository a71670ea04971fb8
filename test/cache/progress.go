package cache

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	terminalBeat = time.Second      // one line, updated in place
	plainBeat    = 30 * time.Second // a line each, for a CI log
)

// Progress tells a waiting person what is going on.
type Progress struct {
	terminal *os.File // nil when out is none

	// mu guards out: components get ready at the same time.
	mu  sync.Mutex
	out io.Writer
}

// NewProgress writes to out; nil is silence. On a terminal one line is updated in place.
func NewProgress(out io.Writer) *Progress {
	if out == nil {
		out = io.Discard
	}
	p := &Progress{out: out}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.terminal = f
	}
	return p
}

// eraseLine moves a terminal to the start of an emptied line.
const eraseLine = "\r\x1b[K"

// write ignores errors: an output that is gone is no reason to stop.
func (p *Progress) write(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.out, text)
}

// Say prints one line.
func (p *Progress) Say(format string, args ...any) {
	p.write(fmt.Sprintf(format+"\n", args...))
}

// During repeats status() with the time passed until the returned function is
// called, which returns when the last line is out.
func (p *Progress) During(status func() string) (end func()) {
	beat := plainBeat
	if p.terminal != nil {
		beat = terminalBeat
	}
	begin := time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				p.clearLine()
				return
			case <-ticker.C:
				p.beat(fmt.Sprintf("  %s  %s", time.Since(begin).Round(time.Second), status()))
			}
		}
	})
	return func() { close(stop); wg.Wait() }
}

func (p *Progress) beat(line string) {
	if p.terminal == nil {
		p.Say("%s", line)
		return
	}
	if width, _, err := term.GetSize(int(p.terminal.Fd())); err == nil && width > 1 && len(line) >= width {
		line = line[:width-1] // a wrapped line could not be overwritten
	}
	p.write(eraseLine + line)
}

func (p *Progress) clearLine() {
	if p.terminal != nil {
		p.write(eraseLine)
	}
}
