package decision

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
)

// What a Scaler has learned, for another process: a version, then, deflated, every
// field in turn, big-endian. Amounts are rounded to what they are good for: floats
// to seven digits, the demand of a minute to 1/254 of the day's peak.
const (
	// memoryVersion is another one whenever a field comes, goes or means
	// something else.
	memoryVersion = 4
	// recent minutes of need are kept: a window of the way down is as long as a
	// cold start, at least ten minutes.
	recent = 120
	// maxFields bounds what a memory may come to when it is inflated; ours is
	// a part of that.
	maxFields = 64 << 10
)

// Memory is what the Scaler has learned, for Recall; nil while that is nothing.
func (m *Scaler) Memory() []byte {
	if m.next != nil {
		return m.next.memory()
	}
	if m.learned.Began.IsZero() || m.learned.At.IsZero() {
		return nil
	}
	p := packers.Get().(*packer) //nolint:forcetypeassert // the pool has no others
	defer packers.Put(p)
	c := codec{data: p.fields[:0]}
	c.mind(m) // which writes nothing into it
	p.fields = c.data
	return p.pack()
}

// packer is what Memory needs for a moment. A compressor is 800 kB, and made
// anew for each of 2 000 fleets it was 1.6 GB of garbage every five minutes.
type packer struct {
	fields  []byte
	packed  bytes.Buffer
	deflate *flate.Writer
}

var packers = sync.Pool{New: func() any {
	p := &packer{}
	var err error
	// At the usual level a memory is 1 % longer than at the best, in a third of
	// the time.
	if p.deflate, err = flate.NewWriter(&p.packed, flate.DefaultCompression); err != nil {
		panic(fmt.Sprintf("make a compressor: %v", err)) // a level that isn't one
	}
	return p
}}

// pack is the fields, deflated.
func (p *packer) pack() []byte {
	p.packed.Reset()
	p.packed.WriteByte(memoryVersion)
	p.deflate.Reset(&p.packed)
	_, err := p.deflate.Write(p.fields)
	if err = errors.Join(err, p.deflate.Close()); err != nil {
		panic(fmt.Sprintf("deflate into memory: %v", err)) // a buffer takes everything
	}
	return bytes.Clone(p.packed.Bytes())
}

func unpack(memory []byte) ([]byte, error) {
	if len(memory) == 0 || memory[0] != memoryVersion {
		return nil, errors.New("it is of another version")
	}
	fields, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(memory[1:])), maxFields))
	if err != nil {
		return nil, fmt.Errorf("it can't be inflated: %w", err)
	}
	return fields, nil
}

// Recall is a Scaler that learned what Memory told, at the time now. The error
// says in words why it can't be.
func Recall(memory []byte, now time.Time) (*Scaler, error) {
	if len(memory) > 0 && memory[0] == automatic.Version {
		return recallNext(memory, now)
	}
	fields, err := unpack(memory)
	if err != nil {
		return nil, err
	}
	m := &Scaler{}
	c := codec{data: fields, reading: true}
	c.mind(m)
	switch {
	case c.wrong != "":
		return nil, errors.New(c.wrong)
	case len(c.data) > 0:
		return nil, fmt.Errorf("it has %d bytes too many", len(c.data))
	case !m.timely(now):
		return nil, errors.New("its times make no sense, or lie ahead of this clock")
	}
	m.learned.Before = m.learned.At
	return m, nil
}

// timely tells whether the times of what was learned make sense at the time now.
func (m *Scaler) timely(now time.Time) bool {
	l, ahead := &m.learned, now.Add(Interval)
	return !l.Began.IsZero() && !l.At.Before(l.Began) && !l.At.After(ahead) &&
		!l.Enough.After(l.At) && !l.Calm.After(l.At) && !l.Peaked.After(l.At) &&
		!l.Swings.Burst.After(l.At) && !l.Swings.Earlier.After(l.Swings.Burst) &&
		!m.seen.After(ahead) && !m.watched.After(m.seen) && !m.lowered.After(m.seen)
}

// Merge takes over what another Scaler learned of the same fleet, unless it has
// known it for less long. What this one has seen since then stays.
func (m *Scaler) Merge(other *Scaler) {
	if m.next != nil || other.next != nil {
		m.next.merge(other.next)
		return
	}
	if m.learned.Began.IsZero() {
		judged, verdict := m.judged, m.verdict
		*m = *other
		m.judged, m.verdict = judged, verdict
		return
	}
	if other.learned.Began.After(m.learned.Began) {
		return
	}
	m.peak = other.peak
	if other.lowered.After(m.lowered) {
		m.lowered = other.lowered
	}
	m.learned = other.learned.follow(&m.learned)
}

// Since is when the Scaler learned first and last; zero before.
func (m *Scaler) Since() (began, at time.Time) {
	if m.next != nil {
		return m.next.since()
	}
	return m.learned.Began, m.learned.At
}

// follow is what was learned, with the minutes that another has seen since.
func (l Learned) follow(newer *Learned) Learned {
	if !newer.At.After(l.At) {
		return l
	}
	for at := max(minute(l.At), minute(newer.Began)); at <= minute(newer.At); at++ {
		i := slot(at)
		l.Demand[i], l.Need[i] = newer.Demand[i], newer.Need[i]
	}
	l.Before, l.At = newer.Before, newer.At
	if newer.Enough.After(l.Enough) {
		l.Enough = newer.Enough
	}
	return l
}

// codec writes a Scaler's fields, or reads them if reading is set: one list of them
// for both ways.
type codec struct {
	data    []byte
	reading bool
	// wrong says in words what can't be read, "" for nothing.
	wrong string
}

func (c *codec) mind(m *Scaler) {
	l := &m.learned
	for _, t := range []*time.Time{&l.Began, &l.At, &l.Enough, &l.Calm, &l.Peaked, &l.Swings.Burst, &l.Swings.Earlier, &m.seen, &m.watched, &m.lowered} {
		c.time(t)
	}
	// What a busy replica's time goes into may come out as less than nothing.
	c.amounts(math.Inf(-1), l.Speed[:]...)
	for i := range l.Doubt {
		c.amounts(math.Inf(-1), l.Doubt[i][:]...)
	}
	for _, x := range []*float64{&m.peak, &l.Prompt, &l.Generated, &l.Requests, &l.Seen, &l.Missed, &l.Highest} {
		c.amount(0, x)
	}
	for _, xs := range [][]float64{l.Answered[:], l.Late[:], l.ColdStarts[:]} {
		c.amounts(0, xs...)
	}
	for _, x := range []*float64{&l.Ceiling.Prompt, &l.Ceiling.Generated, &l.Ceiling.Requests, &l.Ceiling.Minutes} {
		c.amount(0, x)
	}
	c.count(&l.Started)
	for i := range l.Errors {
		e := &l.Errors[i]
		c.amount(0, &e.Square)
		c.amount(0, &e.Minutes)
	}
	c.amount(0, &l.Swings.Minutes)
	for tide := range l.Swings.Ratio {
		c.parts(ratios, func(i int) *float32 { return &l.Swings.Ratio[tide][i] })
	}
	c.parts(remembered, func(i int) *float32 { return &l.Demand[slot(minute(l.At)-int64(i))] })
	c.parts(recent, func(i int) *float32 { return &l.Need[slot(minute(l.At)-int64(i))] })
}

// take is the next n bytes, to be read from or written to.
func (c *codec) take(n int) []byte {
	if !c.reading {
		at := len(c.data)
		c.data = slices.Grow(c.data, n)[:at+n]
		clear(c.data[at:])
		return c.data[at:]
	}
	if len(c.data) < n {
		if c.wrong == "" {
			c.wrong = "it is cut off"
		}
		c.data = nil
		return make([]byte, n)
	}
	field := c.data[:n]
	c.data = c.data[n:]
	return field
}

func (c *codec) time(t *time.Time) {
	field := c.take(8)
	if !c.reading {
		if !t.IsZero() {
			binary.BigEndian.PutUint64(field, uint64(t.Unix())) //nolint:gosec // after 1970
		}
		return
	}
	const end = 1 << 40 // in 36 000 years
	switch seconds := binary.BigEndian.Uint64(field); {
	case seconds > end:
		c.wrong = fmt.Sprintf("it has a time of %d s", seconds)
	case seconds > 0:
		*t = time.Unix(int64(seconds), 0).UTC()
	}
}

// amount is a number of at least low.
func (c *codec) amount(low float64, x *float64) {
	field := c.take(4)
	if !c.reading {
		binary.BigEndian.PutUint32(field, math.Float32bits(float32(*x)))
		return
	}
	const most = 1e15
	value := float64(math.Float32frombits(binary.BigEndian.Uint32(field)))
	if math.IsNaN(value) || value < max(low, -most) || value > most {
		c.wrong = fmt.Sprintf("it has an amount of %g", value)
		return
	}
	*x = value
}

func (c *codec) amounts(low float64, xs ...float64) {
	for i := range xs {
		c.amount(low, &xs[i])
	}
}

func (c *codec) count(n *int) {
	field := c.take(2)
	if !c.reading {
		binary.BigEndian.PutUint16(field, uint16(min(max(*n, 0), math.MaxUint16)))
		return
	}
	*n = int(binary.BigEndian.Uint16(field))
}

// parts are n numbers, each in 254 parts of the greatest and rounded up, so that
// a need is never told as less. A part of zero is one that isn't known.
func (c *codec) parts(n int, number func(i int) *float32) {
	const parts = math.MaxUint8 - 1
	most := 0.0
	if !c.reading {
		for i := range n {
			most = max(most, float64(*number(i)))
		}
	}
	c.amount(0, &most)
	field := c.take(n)
	for i := range field {
		value := number(i)
		switch {
		case c.reading && field[i] == 0:
			*value = -1
		case c.reading:
			*value = float32(most * float64(field[i]-1) / parts)
		case *value >= 0 && most == 0:
			field[i] = 1
		case *value >= 0:
			// Less what float32 adds, or it would be a part more each time.
			field[i] = 1 + byte(min(math.Ceil(float64(*value)/most*parts-1e-4), parts))
		}
	}
}

// slot is a minute's place in a ring.
func slot(minute int64) int { return int((minute%remembered + remembered) % remembered) }
