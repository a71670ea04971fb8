package command

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate/report"
)

// progressBar shows how far a study is: on a terminal as a bar in one line, elsewhere
// as a line for each tenth.
type progressBar struct {
	to       io.Writer
	terminal bool
	// tenths have been told, shown is set while the terminal has a bar.
	tenths int
	shown  bool
}

func newProgressBar(to io.Writer) *progressBar {
	b := &progressBar{to: to}
	if file, ok := to.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := file.Stat()
		b.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return b
}

func (b *progressBar) show(p report.Progress) {
	share := min(p.Done/p.Total+1e-9, 1) // the sum of many parts is a hair under 1
	if b.terminal {
		const width = 30
		full := int(share * width)
		what := p.What
		if runes := []rune(what); len(runes) > 60 {
			what = string(runes[:60])
		}
		// The line is cleared to its end, for what stood there before.
		_, _ = fmt.Fprintf(b.to, "\r%s%s %3.0f %%  %s\x1b[K", strings.Repeat("█", full), strings.Repeat("░", width-full), 100*share, what)
		b.shown = true
		return
	}
	if tenths := int(share * 10); tenths > b.tenths {
		b.tenths = tenths
		_, _ = fmt.Fprintf(b.to, "%3d %%: %s\n", 10*tenths, p.What)
	}
}

// done takes the bar away.
func (b *progressBar) done() {
	if b.shown {
		_, _ = io.WriteString(b.to, "\r\x1b[K")
	}
}
