package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// mode is how a fleet is scaled.
type mode int

const (
	// byThreshold has one threshold, byList a metric list of gauges, byLatency one
	// of a histogram with thresholds that no load here comes near.
	byThreshold mode = iota
	byList
	byLatency
	// automatic has nothing but a maximum.
	automatic
)

// modeOf mixes the modes: of ten fleets four, three, one and two.
func modeOf(i int) mode {
	switch i % 10 {
	case 0, 2, 4, 6:
		return byThreshold
	case 1, 3, 5:
		return byList
	case 7:
		return byLatency
	}
	return automatic
}

// real tells whether the pods of a fleet get requests. Others are told what to
// show, which costs nothing.
func (m mode) real() bool { return m == byLatency || m == automatic }

// small is the model of pods that get requests: with 16 seats instead of 256, so
// that few requests fill it. Full it makes a token in 57 ms, which is below the
// default SLO of 75 ms, and serves 1.4 requests of 200 tokens per second.
func small() vllm.Model {
	return vllm.Model{
		Name: "phi-4-mini-instruct", Base: 40 * time.Millisecond, PerPrefillToken: 10 * time.Microsecond,
		PerSequence: time.Millisecond, MaxNumSeqs: 16, MaxBatchedTokens: 8192, KVBlocks: 2000, BlockSize: 16, MaxWaiting: 64,
	}
}

// perReplica is how many requests per second a full replica of small serves.
const perReplica = 1.4

// The user's numbers.
const (
	fleetMax      = 5
	threshold     = 10
	listUp        = 10
	listDown      = 2
	startReplicas = 2
)

// fleet is an InferenceSet, and what the soak lets it do.
type fleet struct {
	types.NamespacedName
	index  int
	limits limits
	random *rand.Rand // of the load's script alone

	// leaving lets it be taken away once at a time.
	leaving sync.Mutex
	// generator sends requests, where the mode is real.
	generator *load.Generator

	// mu guards what follows.
	mu sync.Mutex
	// uid is the object's; "" while it is away.
	uid     types.UID
	since   time.Time // when an object of that uid was seen first
	desired int
	// counted is status.replicas, which KAITO's controller writes.
	counted int
	looked  time.Time // when desired was seen
	total   int       // requests that wait, spread over the pods
	next    time.Time // when the load changes
	ails    map[string]ailment
	history []second
	ref     *pb.ScaledObjectRef
}

// ailment is what the soak did to a replica.
type ailment struct {
	deed  deedKind
	since time.Time
}

func newFleet(i int, seed uint64) *fleet {
	f := &fleet{
		NamespacedName: types.NamespacedName{Namespace: namespaceOf(i), Name: fmt.Sprintf("set-%03d", i)},
		index:          i,
		random:         rand.New(rand.NewPCG(seed, uint64(i)+1)),
		ails:           map[string]ailment{},
		desired:        startReplicas,
	}
	f.limits = limits{
		mode: modeOf(i), min: 1, max: fleetMax, threshold: threshold, up: listUp, down: listDown,
		seats: small().MaxNumSeqs,
	}
	return f
}

// namespaces are few, as tenants are.
const namespaces = 4

func namespaceOf(i int) string { return "soak-" + strconv.Itoa(i%namespaces) }

// annotations are what the user writes: times are short, so that an hour has
// many moves.
func (f *fleet) annotations() map[string]string {
	a := map[string]string{"auto-provision": "true", "max-replicas": strconv.Itoa(fleetMax)}
	if f.limits.mode != automatic {
		a["evaluationwindow"], a["scaleupcooldown"], a["scaledowncooldown"] = "30", "60", "60"
	}
	switch f.limits.mode {
	case byThreshold:
		a["threshold"] = strconv.Itoa(threshold)
		if f.index%4 == 0 {
			a["downguard"] = "false"
		}
	case byList:
		a["metrics"] = fmt.Sprintf(`[{"name":"vllm:num_requests_waiting","type":"gauge","aggregation":"windowed-avg","upthreshold":%d,"downthreshold":%d,"metriccachewindow":30},`+
			`{"name":"vllm:kv_cache_usage_perc","type":"gauge","aggregation":"windowed-avg","upthreshold":0.85,"downthreshold":0.12,"metriccachewindow":30}]`, listUp, listDown)
		if f.index%4 == 1 {
			a["combinepolicy"] = "OR"
		}
	case byLatency:
		a["metrics"] = `[{"name":"vllm:time_to_first_token_seconds","type":"histogram","quantile":0.9,"upthreshold":100,"downthreshold":0,"metriccachewindow":60}]`
	case automatic:
	}
	return a
}

// kvUsage goes with what waits, so that both metrics of a list say the same: its
// thresholds lie between those numbers of requests that are just beyond the
// queue's and those that aren't.
func kvUsage(waiting int) float64 { return min(0.08*float64(waiting), 1) }

func (f *fleet) key() *unstructured.Unstructured {
	return kaito.Object("v1beta1", "InferenceSet", f.NamespacedName)
}

func (f *fleet) object() *unstructured.Unstructured {
	return kaito.NewInferenceSet("v1beta1", f.NamespacedName, startReplicas, f.annotations())
}

// loadFor is how long a load stays as it is.
func (f *fleet) loadFor() time.Duration {
	return 3*time.Minute + time.Duration(f.random.Int64N(int64(5*time.Minute)))
}

// turn changes the load, once it is time: between the thresholds as often as
// above or below.
func (f *fleet) turn(now time.Time) {
	if now.Before(f.next) {
		return
	}
	f.next = now.Add(f.loadFor())
	kind, part := f.random.IntN(4), f.random.Float64()
	switch f.limits.mode {
	case byLatency:
		f.generator.SetRate(0.2 + 0.6*part)
	case automatic:
		// Nothing, little, and what one to all but one replicas can serve.
		rates := [...]float64{0, 0.3 * part, 1 + part, 1 + (fleetMax-2)*part}
		f.generator.SetRate(rates[kind] * perReplica)
	default:
		f.total = f.draw(kind, part)
	}
}

// draw is a total of waiting requests that is above (0), below (1) or between
// what the desired replicas should have.
func (f *fleet) draw(kind int, part float64) int {
	n := float64(f.desired)
	switch kind {
	case 0:
		return int(threshold * n * (1.2 + part))
	case 1:
		return int(listDown * n * 0.9 * part)
	default:
		return int(threshold * n * (0.6 + 0.4*part))
	}
}

// tick makes the pods show the load, and notes what they show.
func (f *fleet) tick(k *kaito.KAITO, now time.Time) {
	replicas := k.Replicas(f.Namespace, f.Name)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	s := second{at: now}
	var serving, idle []kaito.Replica
	for _, r := range replicas {
		ail, ails := f.ails[r.Workspace]
		switch {
		case ails && ail.deed.idles():
			s.broken = s.broken || ail.deed == crash
			idle = append(idle, r)
		case r.Served:
			serving = append(serving, r)
			s.lost = s.lost || (ails && ail.deed.hides() && now.Sub(ail.since) > readingsCount)
		}
	}
	f.show(serving, &s)
	f.hush(idle)
	f.history = append(f.history, s)
	if n := len(f.history) - keptSeconds; n > keptSeconds {
		f.history = append(f.history[:0:0], f.history[n:]...)
	}
}

const (
	// readingsCount is how long the last reading of a pod that answers no more
	// counts, three intervals, with as much again for busy cores.
	readingsCount = 30 * time.Second
	// keptSeconds is more than any move looks back.
	keptSeconds = 4 * 60 * 60
)

// show spreads the load over the serving pods. Whoever serves, serves: also a
// pod that nobody can read.
func (f *fleet) show(serving []kaito.Replica, s *second) {
	for i, r := range serving {
		if f.limits.mode.real() {
			s.running += r.VLLM.Load()
			continue
		}
		share := f.total / len(serving)
		if i < f.total%len(serving) {
			share++
		}
		r.VLLM.SetWaiting(share)
		if f.limits.mode == byList {
			r.VLLM.SetKVUsage(kvUsage(share))
		}
		s.total += float64(share)
		s.most = max(s.most, float64(share))
		if i == 0 || float64(share) < s.least {
			s.least = float64(share)
		}
	}
}

// hush takes the load from pods that have none any more.
func (f *fleet) hush(idle []kaito.Replica) {
	for _, r := range idle {
		if !f.limits.mode.real() {
			r.VLLM.SetWaiting(0)
		}
	}
}

// look is what was seen of an InferenceSet.
type look struct {
	uid types.UID
	// desired and counted are replicas: spec's and status's.
	desired, counted int
	at               time.Time
}

// seen takes note of a look, and judges a move. moved tells whether there was one.
func (f *fleet) seen(l look) (moved, back bool, wrong string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := move{from: f.desired, to: l.desired, before: f.looked, at: l.at}
	known, counted := f.uid == l.uid, f.counted
	if !known {
		f.uid, f.since, f.history = l.uid, l.at, nil
	}
	f.desired, f.counted, f.looked = l.desired, l.counted, l.at
	if !known || m.from == m.to {
		return false, false, ""
	}
	why := f.limits.wrong(m, f.history)
	// Where the HPA tolerates a value it goes to status.replicas, and not to what
	// it had ordered: if KAITO's controller hasn't followed, as after an outage of
	// the API server, it takes its own step back. Whatever is published, that is
	// between these two.
	if why != "" && m.to == counted {
		return true, true, ""
	}
	if why != "" {
		wrong = fmt.Sprintf("%s %s: %d → %d: %s", l.at.Format(time.TimeOnly), f.NamespacedName, m.from, m.to, why)
	}
	return true, false, wrong
}

// gone takes note that there is no such InferenceSet now.
func (f *fleet) gone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uid = ""
}

// age is for how long the InferenceSet has been seen.
func (f *fleet) age(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uid == "" {
		return 0
	}
	return now.Sub(f.since)
}

func (f *fleet) ail(workspace string, deed deedKind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ails[workspace] = ailment{deed: deed, since: time.Now()}
}

func (f *fleet) heal(workspace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ails, workspace)
}

// healthy tells whether the soak has left a replica alone.
func (f *fleet) healthy(workspace string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ails := f.ails[workspace]
	return !ails
}

// begin starts the fleet's requests, and end ends them.
func (f *fleet) begin(k *kaito.KAITO) {
	if !f.limits.mode.real() {
		return
	}
	f.generator = load.Start(func() []*vllm.Pod { return k.Serving(f.Namespace, f.Name) },
		load.Options{Balancing: load.LeastLoaded, Seed: uint64(f.index)})
}

func (f *fleet) end() {
	if f.generator != nil {
		f.generator.Stop()
	}
}

// asked is the reference that KEDA would ask with, nil before there is one.
func (f *fleet) asked() *pb.ScaledObjectRef {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ref
}

func (f *fleet) setAsked(metadata map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ref = &pb.ScaledObjectRef{Namespace: f.Namespace, Name: f.Name, ScalerMetadata: metadata}
}
