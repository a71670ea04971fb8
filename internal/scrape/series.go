package scrape

import (
	"bytes"
	"hash/maphash"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// series is one line of a wanted family, parsed. Its slices are of the line.
type series struct {
	value float64
	// id tells series apart whatever the order of their labels, and engine the
	// engines and models that they are of.
	id, engine uint64
	le         []byte
	awake      bool
	// known are the first labels of the lines before. Most stand on the next line too,
	// in the same place: not to read them again saves a third of what decoding takes.
	known [4]label
}

// label is a label as it stands on a line, text up to the quote that closes it.
type label struct {
	text, name, value []byte
	hash              uint64
}

// seed makes the hashes of labels this process's own, so that nobody can make two
// series look like one.
var seed = maphash.MakeSeed()

// parse reads what follows the name in a line: {labels} value timestamp. It takes
// what Prometheus' parser takes of the text format (a fuzz test compares them), in a
// fifth of the time, and of OpenMetrics an exemplar too, unread. It allocates
// nothing.
func (s *series) parse(rest []byte, openMetrics bool) (long, ok bool) {
	s.value, s.id, s.engine, s.le, s.awake = 0, 0, 0, nil, false // known is larger than all that
	rest = trimLeft(rest)
	if len(rest) > 0 && rest[0] == '{' {
		if rest, ok = s.labels(rest[1:]); !ok {
			return false, false
		}
		rest = trimLeft(rest)
	}
	number, rest := cutWord(rest)
	long = len(number) > longNumber
	if s.value, ok = parseFloat(number); !ok {
		return long, false
	}
	stamp, rest := cutWord(trimLeft(rest))
	if openMetrics {
		return long, len(stamp) == 0 || stamp[0] == '#' || isFloat(stamp) && (len(rest) == 0 || trimLeft(rest)[0] == '#')
	}
	return long, isTimestamp(stamp) && len(trimLeft(rest)) == 0
}

// labels reads label="value", … up to the closing brace, and returns what follows.
func (s *series) labels(rest []byte) (after []byte, ok bool) {
	for n := 0; ; n++ {
		if rest = trimLeft(rest); len(rest) == 0 {
			return nil, false
		}
		if rest[0] == '}' {
			return rest[1:], true
		}
		at := &s.known[min(n, len(s.known)-1)]
		// Nothing that follows the closing quote changes what is before it.
		if len(at.text) == 0 || !bytes.HasPrefix(rest, at.text) {
			if *at, ok = readLabel(rest); !ok {
				*at = label{}
				return nil, false
			}
		}
		s.add(at)
		if rest = trimLeft(rest[len(at.text):]); len(rest) == 0 || rest[0] != ',' && rest[0] != '}' {
			return nil, false
		}
		if rest[0] == ',' {
			rest = rest[1:]
		}
	}
}

func (s *series) add(l *label) {
	s.id += l.hash
	switch string(l.name) {
	case "le":
		s.le = l.value
	case "engine", "model_name":
		s.engine += l.hash
	case "sleep_state":
		s.awake = string(l.value) == "awake"
	}
}

// readLabel reads the label that text begins with.
func readLabel(text []byte) (l label, ok bool) {
	var rest []byte
	if l.name, rest, ok = labelName(text); !ok {
		return l, false
	}
	if rest = trimLeft(rest); len(rest) == 0 || rest[0] != '=' {
		return l, false
	}
	if l.value, rest, ok = quoted(trimLeft(rest[1:])); !ok {
		return l, false
	}
	l.text = text[:len(text)-len(rest)]
	h := maphash.Bytes(seed, l.name)*0x9e3779b97f4a7c15 + maphash.Bytes(seed, l.value)
	h ^= h >> 29
	l.hash = h * 0xbf58476d1ce4e5b9
	return l, true
}

func labelName(b []byte) (name, rest []byte, ok bool) {
	if b[0] == '"' {
		return quoted(b)
	}
	n := 0
	for n < len(b) && (b[n] == '_' || b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z' || n > 0 && b[n] >= '0' && b[n] <= '9') {
		n++
	}
	return b[:n], b[n:], n > 0
}

// quoted reads a string in quotes, and returns it as it stands, escapes and all.
func quoted(b []byte) (value, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	b = b[1:]
	end := bytes.IndexByte(b, '"')
	if end < 0 {
		return nil, nil, false
	}
	if bytes.IndexByte(b[:end], '\\') >= 0 {
		for end = 0; end < len(b) && b[end] != '"'; end++ {
			if b[end] == '\\' {
				end++
			}
		}
		if end >= len(b) {
			return nil, nil, false
		}
	}
	return b[:end], b[end+1:], utf8.Valid(b[:end])
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// cutWord cuts at the first white space.
func cutWord(b []byte) (word, rest []byte) {
	for i, c := range b {
		if c == ' ' || c == '\t' {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// parseFloat takes what Prometheus takes: no underscores, and nothing hexadecimal.
func parseFloat(b []byte) (float64, bool) {
	if v, ok := parseDecimal(b); ok {
		return v, true
	}
	if len(b) == 0 || len(b) > maxNumber || bytes.ContainsAny(b, "pP_") {
		return 0, false
	}
	// ParseFloat keeps its argument in an error alone, which is dropped here.
	v, err := strconv.ParseFloat(unsafe.String(&b[0], len(b)), 64) //nolint:gosec // as textparse has it
	return v, err == nil
}

// parseDecimal reads digits with or without a point, up to 15 of them: nearly all that
// is on a page. Both numbers that it divides are exact, so the quotient is the float64
// that is nearest, as strconv has it.
func parseDecimal(b []byte) (v float64, ok bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	digits, scale := 0, 1.0
	point := false
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			v = v*10 + float64(c-'0')
			digits++
			if point {
				scale *= 10
			}
		case c == '.' && !point:
			point = true
		default:
			return 0, false
		}
	}
	return v / scale, digits > 0 && digits <= 15
}

// maxNumber is longer than any program writes a number.
const maxNumber = 400

func isFloat(b []byte) bool {
	_, ok := parseFloat(b)
	return ok
}

// isTimestamp is of milliseconds, or of nothing at all.
func isTimestamp(b []byte) bool {
	if len(b) > 20 {
		return false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
