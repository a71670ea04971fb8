package simulate

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Request is one call of a user.
type Request struct {
	// At is seconds from the load's start.
	At float64
	// In and Out are tokens, ≥ 1.
	In, Out int32
}

// Load is a sequence of requests.
type Load struct {
	Name string
	// Requests ascend in time.
	Requests []Request
	// Cancels is for each request the time in seconds after its arrival at which
	// its client goes away, +Inf for never; nil if nobody does.
	Cancels []float64
	// Length is from the start to the end, > 0.
	Length time.Duration
}

// Mean are the mean tokens of a request.
func (l *Load) Mean() (in, out float64) {
	for _, r := range l.Requests {
		in += float64(r.In)
		out += float64(r.Out)
	}
	n := max(1, float64(len(l.Requests)))
	return in / n, out / n
}

// Peak is the greatest rate over any stretch of five minutes, in requests a
// second.
func (l *Load) Peak() float64 {
	const span = 300
	most, first := 0, 0
	for i := range l.Requests {
		for l.Requests[i].At-l.Requests[first].At > span {
			first++
		}
		most = max(most, i-first+1)
	}
	return float64(most) / min(span, l.Length.Seconds())
}

func random(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)) //nolint:gosec // a simulation has to be repeatable
}

// Lengths are quantiles of a token count in steps of 5 %, the first of q0.
type Lengths [21]float64

// draw takes one, log-linear between the quantiles.
func (q *Lengths) draw(r *rand.Rand) int32 {
	x := r.Float64() * 20
	i := min(int(x), 19)
	return int32(max(1, q[i]*math.Pow(q[i+1]/q[i], x-float64(i))))
}

func (q *Lengths) mean() float64 {
	sum := 0.0
	for i := range 20 {
		if q[i+1] == q[i] {
			sum += q[i]
			continue
		}
		sum += (q[i+1] - q[i]) / math.Log(q[i+1]/q[i])
	}
	return sum / 20
}

// Kind is what users ask for.
type Kind struct {
	Name    string
	In, Out Lengths
	// Swing is the standard deviation of the rate around its mean over
	// minutes, as a fraction, and Calm for how long it keeps a level.
	Swing float64
	Calm  time.Duration
}

// The kinds have the token quantiles and the dispersion of Azure's traces of
// 2023: conversation with an index of dispersion of 1.4, 3.9 and 16 over 1, 10
// and 60 s at 5.5 requests a second; of code what is left of its bursts where
// many users are added up.
var (
	Conversation = Kind{
		Name: "conversation",
		In: Lengths{
			2, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020, 1045, 1071, 1097, 1130, 1189, 1315, 1877, 2735, 4083, 7930,
		},
		Out: Lengths{
			7, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129, 151, 177, 217, 384, 395, 400, 411, 424, 451, 1000,
		},
		Swing: .05, Calm: 2 * time.Minute,
	}
	Code = Kind{
		Name: "code",
		In: Lengths{
			3, 75, 147, 232, 385, 578, 770, 938, 1075, 1261, 1469, 1690, 1909, 2164, 2433, 2745, 3193, 3923, 5194, 7315, 7437,
		},
		Out: Lengths{
			6, 6, 7, 7, 8, 9, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 29, 39, 55, 90, 420,
		},
		Swing: .12, Calm: 2 * time.Minute,
	}
)

// Shape is a load's rate over time as a fraction of its peak.
type Shape func(t time.Duration) float64

// Generate makes a load of a kind that keeps to a shape, with so many requests
// a second at its peak.
func Generate(name string, kind *Kind, shape Shape, peak float64, length time.Duration, seed uint64) *Load {
	r := random(seed)
	load := &Load{Name: name, Length: length}
	// The swing is a random walk towards the mean (Ornstein-Uhlenbeck) of the
	// rate's logarithm, in steps of a second.
	keep := math.Exp(-1 / kind.Calm.Seconds())
	swing := r.NormFloat64() * kind.Swing
	for second := range int(length.Seconds()) {
		swing = swing*keep + r.NormFloat64()*kind.Swing*math.Sqrt(1-keep*keep)
		rate := peak * shape(time.Duration(second)*time.Second) * math.Exp(swing-kind.Swing*kind.Swing/2)
		first := len(load.Requests)
		for range poisson(r, rate) {
			load.Requests = append(load.Requests, Request{
				At: float64(second) + r.Float64(), In: kind.In.draw(r), Out: kind.Out.draw(r),
			})
		}
		slices.SortFunc(load.Requests[first:], func(a, b Request) int { return cmp.Compare(a.At, b.At) })
	}
	return load
}

// poisson draws a count with the given mean.
func poisson(r *rand.Rand, mean float64) int {
	if mean > 60 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p, floor := 0, r.Float64(), math.Exp(-mean)
	for p > floor {
		p *= r.Float64()
		n++
	}
	return n
}

// Steady is a constant rate.
func Steady() Shape { return func(time.Duration) float64 { return 1 } }

// Days is a working day between 9 and 17 h, over and over: two peaks, at 10 and
// at 15.5 h, above a floor at night.
func Days(floor float64) Shape {
	return func(t time.Duration) float64 {
		hour := math.Mod(t.Hours(), 24)
		bump := func(at, width float64) float64 {
			d := min(math.Abs(hour-at), 24-math.Abs(hour-at))
			return math.Exp(-d * d / (2 * width * width))
		}
		return floor + (1-floor)*min(1, max(bump(10, 2), bump(15.5, 2.4)))
	}
}

// Week is five of those days and two at a third of the way up.
func Week(floor float64) Shape {
	day := Days(floor)
	return func(t time.Duration) float64 {
		if int(t.Hours()/24)%7 >= 5 {
			return floor + (day(t)-floor)/3
		}
		return day(t)
	}
}

// Step goes from low to 1 at the time.
func Step(low float64, at time.Duration) Shape {
	return func(t time.Duration) float64 {
		if t < at {
			return low
		}
		return 1
	}
}

// Spikes is low but for a spike at the end of every period.
func Spikes(low float64, period, spike time.Duration) Shape {
	return func(t time.Duration) float64 {
		if t%period >= period-spike {
			return 1
		}
		return low
	}
}

// Sawtooth rises from low to 1 within every period and falls back at once.
func Sawtooth(low float64, period time.Duration) Shape {
	return func(t time.Duration) float64 {
		return low + (1-low)*float64(t%period)/float64(period)
	}
}

// Replicate plays a trace several times at once and over and over, to length:
// each request's every copy at a time of its own within jitter of the
// original's. Copies may be a fraction: of the last, that share is played.
func Replicate(trace *Load, copies float64, jitter, length time.Duration, seed uint64) *Load {
	r := random(seed)
	load := &Load{Name: trace.Name, Length: length}
	end := length.Seconds()
	// A trace that begins anew is turned, so that no two rounds are in step
	// with anything but themselves.
	for begin := 0.0; begin < end; begin += trace.Length.Seconds() {
		for _, request := range trace.Requests {
			n := int(copies)
			if r.Float64() < copies-float64(n) {
				n++
			}
			for range n {
				at := begin + request.At + (2*r.Float64()-1)*jitter.Seconds()
				if at < 0 {
					at = -at
				}
				if at < end {
					load.Requests = append(load.Requests, Request{At: at, In: request.In, Out: request.Out})
				}
			}
		}
	}
	slices.SortFunc(load.Requests, func(a, b Request) int { return cmp.Compare(a.At, b.At) })
	return load
}

// Copies is how often a trace has to be played at once to need so many replicas
// at its peak.
func Copies(trace *Load, e *Engine, replicas float64, slo SLO) float64 {
	in, out := trace.Mean()
	return replicas * e.Capacity(in, out, slo.ITL) / trace.Peak()
}

// shapes are the generated loads by name, over a length and for a cold start.
var shapes = map[string]func(length, coldStart time.Duration) Shape{
	"steady":  func(_, _ time.Duration) Shape { return Steady() },
	"diurnal": func(_, _ time.Duration) Shape { return Days(.3) },
	"week":    func(_, _ time.Duration) Shape { return Week(.3) },
	"step":    func(length, _ time.Duration) Shape { return Step(.25, length/2) },
	"spike":   func(_, _ time.Duration) Shape { return Spikes(.125, time.Hour, 3*time.Minute) },
	"on-off":  func(_, _ time.Duration) Shape { return Spikes(.05, 20*time.Minute, 10*time.Minute) },
	// With the period of the cold start each replica comes too late for the
	// peak that it was ordered for.
	"sawtooth": func(_, coldStart time.Duration) Shape { return Sawtooth(.2, coldStart) },
}

// LoadNames are the loads that can be generated.
func LoadNames() []string { return slices.Sorted(maps.Keys(shapes)) }

// ShapeNamed is the shape of one of them.
func ShapeNamed(name string, length, coldStart time.Duration) (Shape, error) {
	shape, found := shapes[name]
	if !found {
		return nil, fmt.Errorf("load %q is not known: it must be one of %q", name, LoadNames())
	}
	return shape(length, coldStart), nil
}

// KindNamed is what users of that kind ask for.
func KindNamed(name string) (*Kind, error) {
	for _, kind := range []*Kind{&Conversation, &Code} {
		if kind.Name == name {
			return kind, nil
		}
	}
	return nil, fmt.Errorf("kind %q is not known: it must be %s or %s", name, Conversation.Name, Code.Name)
}
