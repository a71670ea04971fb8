package scrape

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// maxFamily bounds one family of a protobuf page, which has to be in memory
// whole.
const maxFamily = 1 << 20

// readProtobuf turns a page of delimited protobuf into the lines of a text
// page. We never ask for protobuf and vLLM doesn't serve it, so it is made to
// be right, not fast.
func (p *selection) readProtobuf(body io.Reader, limit int64) *Failure {
	limited := &io.LimitedReader{R: body, N: limit + 1}
	br := bufio.NewReader(limited)
	var message []byte
	for {
		length, err := binary.ReadUvarint(br)
		switch {
		case limited.N <= 0:
			return failf(TooLarge, "the page is over the limit of %s", size(limit))
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return bodyFailure(err)
		case length > maxFamily:
			return failf(TooLarge, "a family of %d bytes is over the limit of %s", length, size(maxFamily))
		}
		// The parser wants the message with its length before it.
		message = append(binary.AppendUvarint(message[:0], length), make([]byte, length)...)
		if _, err := io.ReadFull(br, message[len(message)-int(length):]); err != nil {
			if limited.N <= 0 {
				return failf(TooLarge, "the page is over the limit of %s", size(limit))
			}
			return bodyFailure(err)
		}
		p.family(message)
	}
}

// family writes one family's message as text lines; one that can't be read is
// lost alone.
func (p *selection) family(message []byte) {
	parser := textparse.NewProtobufParser(message, true, true, false, false, labels.NewSymbolTable())
	var line []byte
	for {
		entry, err := parser.Next()
		if err != nil {
			return
		}
		switch entry {
		case textparse.EntryType:
			name, kind := parser.Type()
			line = append(append(append(line[:0], "# TYPE "...), name...), ' ')
			p.line(append(line, typeWord(kind)...))
		case textparse.EntrySeries:
			var l labels.Labels
			parser.Labels(&l)
			_, _, value := parser.Series()
			line = append(appendSeries(line[:0], l), ' ')
			p.line(strconv.AppendFloat(line, value, 'g', -1, 64))
		default:
		}
	}
}

func typeWord(t model.MetricType) string {
	if t == model.MetricTypeUnknown {
		return "untyped"
	}
	return string(t)
}

func appendSeries(b []byte, l labels.Labels) []byte {
	b = append(b, l.Get(model.MetricNameLabel)...)
	sep := byte('{')
	l.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			return
		}
		b = append(append(append(b, sep), l.Name...), '=', '"')
		for i := range len(l.Value) {
			switch c := l.Value[i]; c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			default:
				b = append(b, c)
			}
		}
		b = append(b, '"')
		sep = ','
	})
	if sep == ',' {
		b = append(b, '}')
	}
	return b
}
