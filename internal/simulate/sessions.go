package simulate

// Routing is who gets a request.
type Routing uint8

// The ways to route.
const (
	// LeastBusy gives it to the replica with the fewest in flight.
	LeastBusy Routing = iota
	// Sticky gives all of a session to the same replica.
	Sticky
	// PrefixAware does so unless that one has half as many again in flight as the
	// least busy, and four more.
	PrefixAware
)

// Sessions are requests that begin as others did: turns of one conversation, calls
// of one agent. Of them some are much busier than others.
type Sessions struct {
	// Count is how many there are, 0 for none; the busiest has 1/√Count of all
	// requests.
	Count int
	// Shared is the share of a prompt that a replica's prefix cache has if it served
	// the session before, from 0 to 1.
	Shared float64
	// Cached is of how many sessions an engine's prefix cache has room for: that which
	// was used longest ago is evicted. 0 for all.
	Cached int
}

// mix makes a number of two that looks drawn.
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ b*0xbf58476d1ce4e5b9
	x ^= x >> 31
	x *= 0x94d049bb133111eb
	x ^= x >> 29
	x *= 0xbf58476d1ce4e5b9
	return x ^ x>>32
}

// of is the session of a request, from 0 to Count.
func (s Sessions) of(request int32, seed uint64) int {
	u := float64(mix(uint64(request), seed)>>11) / (1 << 53) //nolint:gosec // not below 0
	return int(float64(s.Count) * u * u)
}

// home is the engine of a session: another one for few of them when engines come or
// go (rendezvous hashing).
func home(engines []seat, session int) int {
	best, most := 0, uint64(0)
	for i := range engines {
		if weight := mix(uint64(session)+1, engines[i].number); weight >= most { //nolint:gosec // not below 0
			best, most = i, weight
		}
	}
	return best
}

// bySession is the engine for a request, given the least busy.
func (r *run) bySession(id int32, least int) int {
	h := home(r.engines, r.Sessions.of(r.attempts.origin(id), r.Seed))
	if r.Routing == PrefixAware && r.engines[h].inFlight > r.engines[least].inFlight*3/2+4 {
		return least
	}
	return h
}

// prefixCache is what an engine has of the sessions that it served before. What it has
// takes no room from running requests.
type prefixCache struct {
	Sessions
	seed     uint64
	attempts *attempts
	// used is when each session was looked up last, in lookups; 0 if it isn't there.
	used          []int
	lookups, kept int
}

// hit is how many tokens of a prompt need no work, a multiple of a block and never
// all.
func (c *prefixCache) hit(request, in, block int32) int32 {
	if c == nil {
		return 0
	}
	session := c.of(c.attempts.origin(request), c.seed)
	c.lookups++
	there := c.used[session] > 0
	c.used[session] = c.lookups
	if !there {
		c.evict()
		return 0
	}
	return min(int32(float64(in)*c.Shared), in-1) / block * block
}

// evict makes room for one session more.
func (c *prefixCache) evict() {
	if c.kept++; c.Cached == 0 || c.kept <= c.Cached {
		return
	}
	oldest := -1
	for i, used := range c.used {
		if used > 0 && (oldest < 0 || used < c.used[oldest]) {
			oldest = i
		}
	}
	c.used[oldest] = 0
	c.kept--
}
