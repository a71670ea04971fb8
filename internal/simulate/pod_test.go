package simulate

import (
	"math"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// Two engines behind one page serve as two pods of one do, and their page says of both
// together what the pods' say: a ratio is of so many engines.
func TestAPageIsOfAllEnginesOfAPod(t *testing.T) {
	load := evenly(4, 3*time.Minute, Request{In: 200, Out: 60})
	load.Length = 170 * time.Second
	apart := calm(2)
	together := calm(1)
	together.EnginesPerPod = 2
	one := func(s Setting) ([]seen, *Result) { return watch(t, s, load) }
	two, separate := one(apart)
	both, joint := one(together)
	if joint.Requests != separate.Requests || math.Abs(joint.Attainment()-separate.Attainment()) > .02 || joint.GPUHours >= separate.GPUHours {
		t.Errorf("together %v attained with %v GPU-hours, apart %v with %v", joint.Attainment(), joint.GPUHours, separate.Attainment(), separate.GPUHours)
	}
	page, pods := both[len(both)-1].fleet.Replicas[0].Last, two[len(two)-1].fleet.Replicas
	for _, name := range []string{policy.FamilyFinished, policy.FamilyTTFT, policy.FamilyPrompt, policy.FamilyGenerated, policy.FamilySteps} {
		sum := of(t, &pods[0], name) + of(t, &pods[1], name)
		got := of(t, &both[len(both)-1].fleet.Replicas[0], name)
		if math.Abs(got/sum-1) > .1 {
			t.Errorf("%s is %v on the page of two, %v on two pages", name, got, sum)
		}
	}
	kv, _ := page.Family(policy.FamilyKV)
	a, _ := pods[0].Last.Family(policy.FamilyKV)
	if kv.Engines != 2 || a.Engines != 1 || kv.Sum > 4*a.Sum+.1 || kv.Sum == 0 {
		t.Errorf("the cache's use is %+v on the page of two, %+v on one of one", kv, a)
	}
	if f := both[0].fleet; f.PeakTokensPerMinute != 2*two[0].fleet.PeakTokensPerMinute {
		t.Errorf("its benchmark is %v", f.PeakTokensPerMinute)
	}
}

// Nothing is lost in a pod of four engines, as in one of one.
func TestNothingIsLostInAPodOfEngines(t *testing.T) {
	for _, steps := range []bool{false, true} {
		s := calm(1)
		s.EnginesPerPod, s.Steps = 4, steps
		load := evenly(40, time.Minute, Request{In: 200, Out: 60})
		load.Length = 5 * time.Minute
		r := play(t, s, load, Static("1", 1))
		if r.Requests != len(load.Requests) || r.Refused == 0 || r.Unfinished > 0 {
			t.Errorf("in steps %t: %d of %d, %d refused, %d unfinished", steps, r.Requests, len(load.Requests), r.Refused, r.Unfinished)
		}
	}
}

// The second request of a session finds its beginning in the cache: less to work off,
// all of it counted.
func TestAPrefixCacheHasWhatItServed(t *testing.T) {
	e := slowEngine()
	e.Block = 16
	s := serve(t, e, Request{At: 0, In: 1600, Out: 5}, Request{At: 10, In: 1600, Out: 5})
	s.cache = &prefixCache{Sessions: Sessions{Count: 1, Shared: .9}, used: make([]int, 1)}
	s.to(30).says(0, 0, 2, 2, 3200)
	hits, _ := s.family("vllm:prefix_cache_hits_total")
	queries, _ := s.family("vllm:prefix_cache_queries_total")
	near(t, "hits", hits, 1440)
	near(t, "queries", queries, 3200)
	near(t, "the first one's time", s.tally.results[0].TTFT, .031+1600*.0003)
	near(t, "the second one's time", s.tally.results[1].TTFT, .031+160*.0003)
	if s.free != s.total || s.context != 0 {
		t.Errorf("%d of %d blocks are free, %d tokens are in the cache of running requests", s.free, s.total, s.context)
	}
}

// A cache with room for two sessions of three has evicted the one that is asked for
// next, however often; with room for three each is found from its second time on.
func TestASmallPrefixCacheEvicts(t *testing.T) {
	for cached, want := range map[int]float64{0: 6, 1: 0, 2: 0, 3: 6} {
		sessions := Sessions{Count: 3, Shared: .5, Cached: cached}
		cache := &prefixCache{Sessions: sessions, used: make([]int, 3)}
		hits := 0.
		for id, asked := int32(0), 0; asked < 9; id++ {
			if sessions.of(id, 0) == asked%3 { // each in its turn
				hits += float64(cache.hit(id, 320, 16)) / 160
				asked++
			}
		}
		if hits != want {
			t.Errorf("with room for %d sessions %v of 9 are found, want %v", cached, hits, want)
		}
	}
}

// What is evicted doesn't stand on the page as a hit.
func TestEvictedPrefixesAreNoHits(t *testing.T) {
	shares := map[int]float64{}
	for _, cached := range []int{0, 10} {
		s := calm(1)
		s.Sessions = Sessions{Count: 50, Shared: .5, Cached: cached}
		all, _ := watch(t, s, evenly(2, 2*time.Minute, Request{In: 320, Out: 5}))
		last := &all[len(all)-1].fleet.Replicas[0]
		shares[cached] = of(t, last, policy.FamilyCached) / of(t, last, "vllm:prefix_cache_queries_total")
	}
	if shares[0] < .35 || shares[10] > .7*shares[0] || shares[10] == 0 {
		t.Errorf("of what is asked %.2f is found, with room for a fifth of the sessions %.2f", shares[0], shares[10])
	}
}

// Sticky sessions make some replicas busier than others, and find their prefix more
// often than those that go to the least busy.
func TestSessionsAreRouted(t *testing.T) {
	load := evenly(6, 5*time.Minute, Request{In: 400, Out: 60})
	type found struct{ hits, uneven float64 }
	by := map[Routing]found{}
	for _, routing := range []Routing{LeastBusy, Sticky, PrefixAware} {
		s := calm(4)
		s.Sessions, s.Routing = Sessions{Count: 100, Shared: .5}, routing
		pages, _ := watch(t, s, load)
		var hits, least, most float64
		least = math.Inf(1)
		for i := range 4 {
			r := &pages[len(pages)-1].fleet.Replicas[i]
			hits += of(t, r, policy.FamilyCached)
			finished := of(t, r, policy.FamilyFinished)
			least, most = min(least, finished), max(most, finished)
		}
		by[routing] = found{hits, most / least}
	}
	if by[Sticky].uneven < 1.3 || by[LeastBusy].uneven > 1.1 {
		t.Errorf("the busiest has %.2f times the requests of the least busy if sticky, %.2f if not", by[Sticky].uneven, by[LeastBusy].uneven)
	}
	if by[Sticky].hits < 1.05*by[LeastBusy].hits || by[PrefixAware].hits < by[LeastBusy].hits {
		t.Errorf("hits: %v", by)
	}
	// When a replica comes, few sessions move.
	engines := make([]seat, 5)
	moved := 0
	for i := range engines {
		engines[i].number = uint64(i)
	}
	for session := range 1000 {
		if home(engines, session) != home(engines[:4], session) {
			moved++
		}
	}
	if moved < 120 || moved > 280 {
		t.Errorf("%d of 1000 sessions moved when the fifth of five came", moved)
	}
}

// What is played of what isn't played is refused.
func TestAWorldIsRefusedInWords(t *testing.T) {
	for name, change := range map[string]func(*Setting){
		"a prefix cache as a fluid": func(s *Setting) { s.Steps, s.Sessions = false, Sessions{Count: 1, Shared: .5} },
		"patience as a fluid":       func(s *Setting) { s.Steps, s.Patience = false, time.Second },
		"a flap of no length":       func(s *Setting) { s.Flaps.Every = time.Hour },
		"a restart of no length":    func(s *Setting) { s.Crashes.Every = time.Hour },
	} {
		s := calm(1)
		change(&s)
		if _, err := Run(t.Context(), s, evenly(1, time.Minute, Request{In: 1, Out: 1}), Static("1", 1)); err == nil {
			t.Errorf("%s was played", name)
		}
	}
}

var _ machine = (*pod)(nil)

// A sample's families outlive the engines' own counters.
func TestAPodsPageIsItsOwn(t *testing.T) {
	s := calm(1)
	s.EnginesPerPod = 3
	pages, _ := watch(t, s, evenly(6, time.Minute, Request{In: 50, Out: 5}))
	last := 0.0
	for _, p := range pages {
		n := of(t, &p.fleet.Replicas[0], policy.FamilyTTFT)
		if n < last {
			t.Fatalf("a count fell from %v to %v", last, n)
		}
		last = n
	}
	if f, _ := pages[0].fleet.Replicas[0].Last.Family(policy.FamilyTTFT); f.Kind != sample.Histogram || f.Buckets.Count() >= last {
		t.Errorf("the first page says %v of %v", f.Buckets.Count(), last)
	}
}
