package simulate

import (
	"math"
	"slices"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// pod is a replica of several engines behind one page: vLLM's data parallelism. Its
// own balancer gives a request to the engine with the fewest, and the page adds their
// series up, as a reader of it does.
type pod struct {
	clock
	engines []machine
	turn    int
}

func newPod(n int, engine func() machine) machine {
	if n <= 1 {
		return engine()
	}
	p := &pod{}
	for range n {
		p.engines = append(p.engines, engine())
	}
	p.at = p.engines[0].head().at
	p.look()
	return p
}

// look takes over what the engines' clocks say.
func (p *pod) look() {
	p.next, p.inFlight = math.Inf(1), 0
	for _, e := range p.engines {
		p.next = min(p.next, e.head().next)
		p.inFlight += e.head().inFlight
	}
}

func (p *pod) advance(t float64) {
	for _, e := range p.engines {
		e.advance(t)
	}
	p.at = t
	p.look()
}

func (p *pod) push(request int32) bool {
	p.turn++
	best := p.engines[p.turn%len(p.engines)]
	for _, e := range p.engines {
		if e.head().inFlight < best.head().inFlight {
			best = e
		}
	}
	taken := best.push(request)
	p.look()
	return taken
}

func (p *pod) unfinished() (ids []int32) {
	for _, e := range p.engines {
		ids = append(ids, e.unfinished()...)
	}
	return ids
}

func (p *pod) silent() (ids []int32) {
	for _, e := range p.engines {
		ids = append(ids, e.silent()...)
	}
	return ids
}

func (p *pod) occupied() (running, waiting int) {
	for _, e := range p.engines {
		r, w := e.occupied()
		running, waiting = running+r, waiting+w
	}
	return running, waiting
}

func (p *pod) read(names []string, at time.Time, like *sample.Sample) *sample.Sample {
	var sum []sample.Family
	start := 0.0
	for _, e := range p.engines {
		page := e.read(names, at, nil)
		start = page.ProcessStart
		for i, f := range page.Families() {
			if i == len(sum) {
				f.Buckets.Cumulative = slices.Clone(f.Buckets.Cumulative)
				sum = append(sum, f)
				continue
			}
			s := &sum[i]
			s.Sum += f.Sum
			s.Engines += f.Engines
			s.Buckets.Sum += f.Buckets.Sum
			for j, n := range f.Buckets.Cumulative {
				s.Buckets.Cumulative[j] += n
			}
		}
	}
	sample := sample.NewSample(at, sum, like)
	sample.ProcessStart = start
	return sample
}
