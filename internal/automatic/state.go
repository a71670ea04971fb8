package automatic

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"sync"
	"time"
)

// Version is that of the bytes of a Scaler. It is another one whenever an exported
// field comes, goes or means something else. 1 to 4 were those of an earlier model.
const Version = 5

const (
	// longFrom elements an array has a byte for each, shorter ones two: a week of slots
	// is 2 kB so, and 2 000 fleets fit into the ConfigMaps.
	longFrom = 512
	// mostBytes bounds what the state may be inflated to; ours is some 4 kB.
	mostBytes = 64 << 10
	// mostAmount bounds a number, mostSlice the elements of a slice.
	mostAmount, mostSlice = 1e15, 64
)

// MarshalBinary is what was learned: the version, then, deflated, every exported field
// in the order of its type. Numbers are rounded to what they are good for.
func (s *Scaler) MarshalBinary() ([]byte, error) {
	c := codec{}
	c.value(reflect.ValueOf(s).Elem())
	packed := bytes.NewBuffer([]byte{Version})
	w := compressors.Get().(*flate.Writer) //nolint:forcetypeassert // the pool has no others
	defer compressors.Put(w)
	w.Reset(packed)
	_, err := w.Write(c.data)
	err = errors.Join(err, w.Close())
	return packed.Bytes(), err
}

// compressors are 800 kB each: anew for each of 2 000 fleets they were 1.6 GB of garbage
// every five minutes.
var compressors = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.DefaultCompression) // which is a level
	return w
}}

// UnmarshalBinary reads what MarshalBinary wrote. The error says in words why it can't.
func (s *Scaler) UnmarshalBinary(data []byte) error {
	if len(data) == 0 || data[0] != Version {
		return errors.New("it is of another version")
	}
	fields, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data[1:])), mostBytes))
	if err != nil {
		return fmt.Errorf("it can't be inflated: %w", err)
	}
	var read Scaler
	c := codec{data: fields, reading: true}
	c.value(reflect.ValueOf(&read).Elem())
	switch {
	case c.wrong != "":
		return errors.New(c.wrong)
	case len(c.data) > 0:
		return fmt.Errorf("it has %d bytes too many", len(c.data))
	case read.Watched.After(read.Evaluated), read.Regretted.After(read.Evaluated),
		read.Demand.First > read.Demand.Last, read.Demand.Last > read.Evaluated.Unix()/60:
		return errors.New("its times make no sense")
	}
	*s = read
	return nil
}

// codec writes fields, or reads them if reading is set: one order for both ways.
type codec struct {
	data    []byte
	reading bool
	// wrong says in words what can't be read, "" for nothing.
	wrong string
}

func (c *codec) value(v reflect.Value) {
	if at, is := reflect.TypeAssert[*time.Time](v.Addr()); is {
		c.time(at)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				c.value(v.Field(i))
			}
		}
	case reflect.Array:
		if v.Type().Elem().Kind() == reflect.Float32 {
			c.parts(v)
			return
		}
		for i := range v.Len() {
			c.value(v.Index(i))
		}
	case reflect.Slice:
		c.slice(v)
	case reflect.Float64:
		c.number(v.Addr().Interface().(*float64)) //nolint:forcetypeassert // by its kind
	case reflect.Int64:
		c.integer(v)
	case reflect.Bool:
		if field := c.take(1); c.reading {
			v.SetBool(field[0] == 1)
		} else if v.Bool() {
			field[0] = 1
		}
	default:
		panic("a state has a field of a kind that isn't written: " + v.Type().String())
	}
}

func (c *codec) slice(v reflect.Value) {
	n := float64(min(v.Len(), mostSlice))
	if c.number(&n); c.reading {
		v.Set(reflect.MakeSlice(v.Type(), int(min(max(n, 0), mostSlice)), mostSlice))
	}
	for i := range min(v.Len(), int(n)) {
		c.value(v.Index(i))
	}
}

// integer is one that isn't below 0.
func (c *codec) integer(v reflect.Value) {
	if field := c.take(8); c.reading {
		v.SetInt(int64(binary.BigEndian.Uint64(field) & math.MaxInt64))
	} else {
		binary.BigEndian.PutUint64(field, uint64(max(v.Int(), 0)))
	}
}

// take is the next n bytes, to be read from or written to.
func (c *codec) take(n int) []byte {
	if !c.reading {
		c.data = append(c.data, make([]byte, n)...)
		return c.data[len(c.data)-n:]
	}
	if len(c.data) < n {
		c.wrong, c.data = "it is cut off", nil
		return make([]byte, n)
	}
	field := c.data[:n]
	c.data = c.data[n:]
	return field
}

func (c *codec) time(t *time.Time) {
	const end = 1 << 40 // in 36 000 years
	field := c.take(8)
	switch seconds := binary.BigEndian.Uint64(field); {
	case !c.reading && !t.IsZero():
		binary.BigEndian.PutUint64(field, uint64(t.Unix())) //nolint:gosec // after 1970
	case c.reading && seconds > end:
		c.wrong = fmt.Sprintf("it has a time of %d s", seconds)
	case c.reading && seconds > 0:
		*t = time.Unix(int64(seconds), 0).UTC() //nolint:gosec // up to end
	}
}

func (c *codec) number(x *float64) {
	field := c.take(4)
	if !c.reading {
		binary.BigEndian.PutUint32(field, math.Float32bits(float32(*x)))
		return
	}
	if *x = float64(math.Float32frombits(binary.BigEndian.Uint32(field))); !(math.Abs(*x) <= mostAmount) {
		c.wrong = fmt.Sprintf("it has an amount of %g", *x)
		*x = 0
	}
}

// parts are an array's elements, each in parts of the greatest and rounded up, so that
// a need is never told as less. Below 0 is what isn't known.
func (c *codec) parts(v reflect.Value) {
	most, width, parts := 0.0, 2, math.MaxUint16-1.0
	if v.Len() >= longFrom {
		width, parts = 1, math.MaxUint8-1.0
	}
	for i := range v.Len() {
		most = max(most, v.Index(i).Float())
	}
	c.number(&most)
	most = float64(float32(math.Abs(most)))
	field := make([]byte, 2)
	for i := range v.Len() {
		x := v.Index(i)
		if value := x.Float(); !c.reading && value >= 0 {
			part := 1.0
			if most > 0 { // less what float32 adds, or it would be a part more each time
				part += min(math.Ceil(value/most*parts-.01), parts)
			}
			binary.BigEndian.PutUint16(field, uint16(part))
			copy(c.take(width), field[2-width:])
			continue
		}
		raw := c.take(width)
		if !c.reading {
			continue
		}
		copy(field, []byte{0, 0})
		copy(field[2-width:], raw)
		if part := float64(binary.BigEndian.Uint16(field)); part > 0 {
			x.SetFloat(most * (part - 1) / parts)
		} else {
			x.SetFloat(-1)
		}
	}
}

// Merge takes over what another Scaler learned of the same fleet, unless this one has
// known it for longer. What this one has seen since then stays.
func (s *Scaler) Merge(other *Scaler) {
	if other.Demand.Last == 0 || s.Demand.Last != 0 && s.Demand.First <= other.Demand.First {
		return
	}
	own := *s
	s.Model, s.Seen, s.Missed = other.Model, other.Seen, other.Missed
	if len(other.ColdStarts) > len(s.ColdStarts) {
		s.ColdStarts = other.ColdStarts
	}
	s.Demand.Merge(&other.Demand, s.ahead())
	s.Regrets, s.Regretted = other.Regrets, other.Regretted
	// Who watched until this one began, or nearly, has seen the minutes before.
	if own.Watched.IsZero() || own.Watched.Sub(other.Evaluated) <= gap && other.Watched.Before(own.Watched) {
		s.Watched, s.Needs = other.Watched, other.Needs
		for m := own.Watched.Unix() / 60; !own.Watched.IsZero() && m <= own.Evaluated.Unix()/60; m++ {
			s.Needs[m%kept] = max(s.Needs[m%kept], own.Needs[m%kept])
		}
	}
	if own.Evaluated.IsZero() {
		s.Evaluated = other.Evaluated
	}
}
