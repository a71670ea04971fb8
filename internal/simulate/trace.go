package simulate

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxTokens of one request: beyond, a line is not believed.
const maxTokens = 10_000_000

// ReadTrace reads a trace in the format of Azure's public ones: a header
// TIMESTAMP,ContextTokens,GeneratedTokens, then a request a line with a
// timestamp as 2023-11-16 18:17:03.9799600 or, as those of 2024 have it, as
// 2024-05-10 00:00:00.009930+00:00. It ends with its last request.
func ReadTrace(name string, from io.Reader) (*Load, error) {
	lines := bufio.NewScanner(from)
	load := &Load{Name: name}
	var first time.Time
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		if n == 1 {
			if strings.TrimPrefix(line, "\ufeff") != "TIMESTAMP,ContextTokens,GeneratedTokens" {
				return nil, fmt.Errorf("%s: the first line is %q: it must be TIMESTAMP,ContextTokens,GeneratedTokens", name, line)
			}
			continue
		}
		at, in, out, err := traceLine(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		if first.IsZero() {
			first = at
		}
		seconds := at.Sub(first).Seconds()
		if last := len(load.Requests) - 1; last >= 0 && seconds < load.Requests[last].At {
			return nil, fmt.Errorf("%s, line %d: %s is before the line above it: the times must ascend", name, n, at)
		}
		load.Requests = append(load.Requests, Request{At: seconds, In: in, Out: out})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(load.Requests) < 2 {
		return nil, fmt.Errorf("%s has %d requests: at least 2 are needed", name, len(load.Requests))
	}
	load.Length = time.Duration(load.Requests[len(load.Requests)-1].At*float64(time.Second)) + time.Second
	return load, nil
}

func traceLine(line string) (at time.Time, in, out int32, err error) {
	fields := strings.Split(line, ",")
	if len(fields) != 3 {
		return at, 0, 0, fmt.Errorf("%d fields: must be 3", len(fields))
	}
	for _, layout := range []string{"2006-01-02 15:04:05.9999999", "2006-01-02 15:04:05.9999999Z07:00", time.RFC3339Nano} {
		if at, err = time.Parse(layout, fields[0]); err == nil {
			break
		}
	}
	if err != nil {
		return at, 0, 0, fmt.Errorf("time %q: must be as 2023-11-16 18:17:03.9799600, which may have a zone: +00:00", fields[0])
	}
	if in, err = tokens(fields[1]); err != nil {
		return at, 0, 0, err
	}
	out, err = tokens(fields[2])
	return at, in, out, err
}

func tokens(field string) (int32, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(field), 10, 32)
	if err != nil || n < 0 || n > maxTokens {
		return 0, fmt.Errorf("tokens %q: must be a whole number from 0 to %d", field, maxTokens)
	}
	// Nothing is asked without a token, or answered with none.
	return int32(max(1, n)), nil
}
