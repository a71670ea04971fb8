package simulate

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Outcome is what came of a request.
type Outcome uint8

// The outcomes of a request.
const (
	// Unfinished was in flight when the load ended, or had not come.
	Unfinished Outcome = iota
	Served
	// Refused got a 429, or found no replica.
	Refused
	// Broken was lost with its replica.
	Broken
	// Cancelled is of a client that went away.
	Cancelled
)

func (o Outcome) String() string {
	return [...]string{"unfinished", "served", "refused", "broken", "cancelled"}[o]
}

// RequestResult is what came of one request.
type RequestResult struct {
	Outcome Outcome
	// TTFT is the time to the first token, 0 if there was none; PerToken the mean
	// time between tokens of one that was served, 0 if it had one token alone. Both
	// in seconds.
	TTFT, PerToken float64
}

const (
	requestsHeader = "arrival_seconds,prompt_tokens,output_tokens"
	cancelHeader   = requestsHeader + ",cancel_after_seconds"
	resultsHeader  = requestsHeader + ",outcome,ttft_seconds,seconds_per_token"
)

// maxArrival is the latest time in a file of requests, in seconds: 31 days.
const maxArrival = 31 * 24 * 3600

// ReadRequests reads given requests, for a simulated engine and a real one to be
// given the very same: a header arrival_seconds,prompt_tokens,output_tokens, which
// may go on with ,cancel_after_seconds, then a request a line. Times are in seconds
// from the start and ascend; a client that stays has an empty cancel_after_seconds.
// The load ends two minutes after its last request, at a whole minute.
func ReadRequests(name string, from io.Reader) (*Load, error) {
	lines := bufio.NewScanner(from)
	load := &Load{Name: name}
	columns := 0
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "":
			continue
		case columns == 0:
			line = strings.TrimPrefix(line, "\ufeff")
			if line != requestsHeader && line != cancelHeader {
				return nil, fmt.Errorf("%s: the first line is %.80q: it must be %s, or %s", name, line, requestsHeader, cancelHeader)
			}
			columns = 1 + strings.Count(line, ",")
			continue
		}
		if err := load.add(strings.Split(line, ","), columns); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(load.Requests) == 0 {
		return nil, fmt.Errorf("%s has no request", name)
	}
	last := load.Requests[len(load.Requests)-1].At
	load.Length = time.Duration(math.Ceil(last/60)+2) * time.Minute
	return load, nil
}

// add takes a line's fields as a request.
func (l *Load) add(fields []string, columns int) error {
	if len(fields) != columns {
		return fmt.Errorf("%d fields: must be %d, as in the first line", len(fields), columns)
	}
	at, err := secondsOf(fields[0])
	if err != nil {
		return fmt.Errorf("arrival_seconds %w", err)
	}
	if n := len(l.Requests); n > 0 && at < l.Requests[n-1].At {
		return fmt.Errorf("arrival_seconds %s is before the line above it: the times must ascend", fields[0])
	}
	r := Request{At: at}
	if r.In, err = tokens(fields[1]); err != nil {
		return err
	}
	if r.Out, err = tokens(fields[2]); err != nil {
		return err
	}
	cancel := math.Inf(1)
	if columns > 3 && strings.TrimSpace(fields[3]) != "" {
		if cancel, err = secondsOf(fields[3]); err != nil {
			return fmt.Errorf("cancel_after_seconds %w", err)
		}
	}
	l.Requests = append(l.Requests, r)
	if columns > 3 {
		l.Cancels = append(l.Cancels, cancel)
	}
	return nil
}

func secondsOf(field string) (float64, error) {
	s, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
	if err != nil || !(s >= 0 && s <= maxArrival) {
		return 0, fmt.Errorf("%.40q: must be a number from 0 to %d", field, maxArrival)
	}
	return s, nil
}

// WriteRequests writes a load as ReadRequests reads it.
func (l *Load) WriteRequests(to io.Writer) error {
	w := bufio.NewWriter(to)
	header := requestsHeader
	if l.Cancels != nil {
		header = cancelHeader
	}
	_, _ = fmt.Fprintln(w, header) // Flush has its error
	for i, r := range l.Requests {
		_, _ = fmt.Fprintf(w, "%s,%d,%d", plain(r.At), r.In, r.Out)
		if l.Cancels != nil {
			_, _ = fmt.Fprintf(w, ",%s", finite(l.Cancels[i]))
		}
		_, _ = fmt.Fprintln(w)
	}
	return w.Flush()
}

// ResultsHeader is the first line of a file of results, after other columns.
func ResultsHeader(before string) string { return before + resultsHeader + "\n" }

// WriteResults writes what came of each request of the load, a line each, with
// other columns before it. Of what there wasn't the field is empty.
func (l *Load) WriteResults(to io.Writer, before string, results []RequestResult) error {
	w := bufio.NewWriter(to)
	for i, r := range l.Requests {
		ttft, perToken := "", ""
		if results[i].TTFT > 0 {
			ttft = strconv.FormatFloat(results[i].TTFT, 'f', 6, 64)
		}
		if results[i].PerToken > 0 {
			perToken = strconv.FormatFloat(results[i].PerToken, 'f', 6, 64)
		}
		_, _ = fmt.Fprintf(w, "%s%s,%d,%d,%s,%s,%s\n", before, plain(r.At), r.In, r.Out, results[i].Outcome, ttft, perToken)
	}
	return w.Flush()
}

func plain(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func finite(x float64) string {
	if math.IsInf(x, 1) {
		return ""
	}
	return plain(x)
}
