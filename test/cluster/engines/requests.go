package engines

import (
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// Picker picks engines for requests: the one with the fewest in flight, as an endpoint
// picker does and as the simulator does. Its methods are load.Client's Pick and Done.
type Picker struct {
	serving func() []string

	mu       sync.Mutex
	inFlight map[string]int // guarded by mu
	turn     int            // guarded by mu
}

// NewPicker picks among the URLs that serving returns.
func NewPicker(serving func() []string) *Picker {
	return &Picker{serving: serving, inFlight: map[string]int{}}
}

// Pick returns an engine's URL, "" if none serves.
func (p *Picker) Pick() string {
	urls := p.serving()
	if len(urls) == 0 {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	best := urls[p.turn%len(urls)] // so that ties are spread
	for _, url := range urls {
		if p.inFlight[url] < p.inFlight[best] {
			best = url
		}
	}
	p.inFlight[best]++
	return best
}

// Done tells that a request has ended.
func (p *Picker) Done(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight[url]--
}

// Ends notes when engines were asked to end. The zero value is ready.
type Ends struct {
	mu sync.Mutex
	at map[string]time.Time // guarded by mu; by IP
}

// Watch returns a kaito.Options.Engines that notes its engines' ends.
func (e *Ends) Watch(start func(ip string) (kaito.Engine, error)) func(ip string) (kaito.Engine, error) {
	return func(ip string) (kaito.Engine, error) {
		started, err := start(ip)
		if err != nil {
			return nil, err
		}
		return &ending{Engine: started, note: func() { e.note(ip) }}, nil
	}
}

func (e *Ends) note(ip string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at == nil {
		e.at = map[string]time.Time{}
	}
	if _, noted := e.at[ip]; !noted {
		e.at[ip] = time.Now()
	}
}

type ending struct {
	kaito.Engine
	note func()
}

func (e *ending) Stop(grace time.Duration) {
	e.note()
	e.Engine.Stop(grace)
}

func (e *ending) Kill() {
	e.note()
	e.Engine.Kill()
}

// Lost tells what went wrong with requests. Cut are those that an engine had when it
// was asked to end: vLLM aborts them then. Lost are all others that weren't served, but
// for those that were refused or whose clients went away.
func (e *Ends) Lost(results []load.Result) (cut, lost []load.Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range results {
		switch r.Outcome {
		case load.Served, load.Refused, load.Cancelled:
			continue
		case load.Broken:
			if at, ended := e.at[ipOf(r.Engine)]; ended && r.Sent.Before(at) {
				cut = append(cut, r)
				continue
			}
		case load.Unserved, load.Failed:
		}
		lost = append(lost, r)
	}
	return cut, lost
}

// Alive are the URLs of an InferenceSet's replicas that take requests.
func Alive(k *kaito.KAITO, namespace, name string) []string {
	var urls []string
	for _, pod := range k.Serving(namespace, name) {
		urls = append(urls, "http://"+pod.Addr())
	}
	slices.Sort(urls)
	return urls
}

func ipOf(engine string) string {
	u, err := url.Parse(engine)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
