package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	objects "github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/provision"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

// smallEngine takes 16 requests at once, each for about 5 s: sixty of them, full,
// cost a part of a core. KAITO's guard refuses beyond 16 waiting requests.
var smallEngine = vllm.Model{
	Name: "small", Base: 60 * time.Millisecond, PerPrefillToken: 100 * time.Microsecond, PerSequence: 2 * time.Millisecond,
	MaxNumSeqs: 16, MaxWaiting: 16, MaxBatchedTokens: 2048, KVBlocks: 4096, BlockSize: 16,
}

const (
	smallPrompt, smallOutput = 100, 50
	// The load is what two replicas serve at 60 %, then what ten serve at 90 %.
	fewReplicas, manyReplicas = 2, 10
	easyLoad, heavyLoad       = .6 * fewReplicas, .9 * manyReplicas
	// latePage is more than a scrape could take when it ended after 2 s.
	latePage = 3 * time.Second
)

// fullRate is how many requests a second a full replica serves.
func fullRate() float64 {
	return smallEngine.PeakTokensPerMinute(smallPrompt, smallOutput) / 60 / (smallPrompt + smallOutput)
}

// loadedFleet is a fleet under load.
type loadedFleet struct {
	*set
	mode      string
	generator *load.Generator
	// finished are the requests that each of its pods has served.
	finished map[*vllm.Pod]uint64
	desired  curve
}

// startLoadedFleet starts a fleet of two small engines that this scaler scales.
func startLoadedFleet(t *testing.T, scaler *stack.Scaler, mode string, page vllm.SlowPage) *loadedFleet {
	t.Helper()
	f := &loadedFleet{mode: mode, finished: map[*vllm.Pod]uint64{}}
	f.set = apply(t, nil, replicas(fewReplicas), adapted(func(o *kaito.Options) { o.Model, o.SlowPage = smallEngine, page }))
	f.scaledBy(scaler, scalingModes()[mode])
	f.generator = load.Start(func() []*vllm.Pod { return shared.KAITO.Serving(f.namespace, f.name) }, load.Options{
		Prompt: load.Tokens{Mean: smallPrompt}, Output: load.Tokens{Mean: smallOutput}, Balancing: load.LeastLoaded,
	})
	t.Cleanup(f.generator.Stop)
	return f
}

// scalingModes are the annotations of the three modes, with cooldowns of seconds.
func scalingModes() map[string]map[string]string {
	bounds := map[string]string{"min-replicas": strconv.Itoa(fewReplicas), "max-replicas": strconv.Itoa(manyReplicas)}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(bounds)
		maps.Copy(all, more)
		return all
	}
	pace := map[string]string{"evaluationwindow": "0", "scaleupcooldown": "5", "scaledowncooldown": "60"}
	threshold, list := with(pace), with(pace)
	threshold["threshold"] = "4"
	list["metrics"] = "[{name: vllm:num_requests_running, type: gauge, aggregation: windowed-avg, upthreshold: 13, downthreshold: 4, metriccachewindow: 5}]"
	return map[string]map[string]string{
		"threshold": threshold, "list": list, "automatic": with(map[string]string{"itl-slo": "150ms"}),
	}
}

// scaledBy writes the ScaledObject that annotations lead to, for a scaler other
// than the one that provisions.
func (s *set) scaledBy(scaler *stack.Scaler, annotations map[string]string) {
	s.Helper()
	prefixed := map[string]string{}
	for key, value := range annotations {
		prefixed[policy.Prefix+key] = value
	}
	wanted, _, err := policy.Parse(policy.Request{Name: s.name, Annotations: prefixed})
	if err != nil {
		s.Fatal(err)
	}
	so := provision.ScaledObject(objects.InferenceSet{NamespacedName: s.key()}, wanted, provision.Settings{
		Version: "v1alpha1", Address: scaler.GRPC, Authentication: "keda-kaito-scaler-creds",
	})
	// As a user's own: the scaler that provisions leaves it alone.
	so.OwnerReferences, so.Annotations = nil, nil
	if err := shared.Client.Create(s.ctx, so); err != nil {
		s.Fatal(err)
	}
	s.taken()
}

// sample notes the replicas that are desired, and what each pod has served.
func (f *loadedFleet) sample() {
	f.desired = append(f.desired, f.set.desired())
	for _, pod := range shared.KAITO.Serving(f.namespace, f.name) {
		f.finished[pod] = max(f.finished[pod], pod.Stats().Finished)
	}
}

func (f *loadedFleet) served() (n uint64) {
	for _, finished := range f.finished {
		n += finished
	}
	return n
}

// playFor samples all fleets each second for a while.
func playFor(t *testing.T, fleets []*loadedFleet, d time.Duration) {
	t.Helper()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-ticker.C:
		}
		for _, f := range fleets {
			f.sample()
		}
	}
}

// A saturated vLLM shows its page after seconds. Fleets whose loaded pods take 3 s
// for it serve what fleets with prompt pages serve, when the load grows from two
// replicas' worth to ten: in each mode, with the scraping that users have unless
// they say otherwise.
func TestFleetsWithLatePagesServeAsThoseWithPromptOnes(t *testing.T) {
	// Not beside other tests: sixty engines under load make pages late that are to be prompt.
	scaler, err := shared.StartOwnScaler(t.Context(), "late-pages", "--v=1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := scaler.Stop(20 * time.Second); err != nil {
			t.Errorf("%v\n%s", err, scaler.Tail(20))
		}
	})
	if err := shared.AwaitReady(t.Context(), scaler); err != nil {
		t.Fatal(err)
	}
	modes := slices.Sorted(maps.Keys(scalingModes()))
	var fleets []*loadedFleet
	for _, mode := range modes {
		fleets = append(fleets,
			startLoadedFleet(t, scaler, mode, vllm.SlowPage{}),
			startLoadedFleet(t, scaler, mode, vllm.SlowPage{From: .75, Delay: latePage}))
	}
	for _, f := range fleets {
		f.awaitReady(fewReplicas)
		f.generator.SetRate(easyLoad * fullRate())
	}
	// Automatic mode learns meanwhile what a replica can do.
	playFor(t, fleets, time.Minute)
	before := make([]uint64, len(fleets))
	for i, f := range fleets {
		before[i] = f.served()
		f.generator.SetRate(heavyLoad * fullRate())
	}
	playFor(t, fleets, 130*time.Second)

	var late, prompt uint64
	for i := 0; i < len(fleets); i += 2 {
		a, b := fleets[i].served()-before[i], fleets[i+1].served()-before[i+1]
		prompt, late = prompt+a, late+b
		if most := slices.Max(fleets[i].desired); most <= 2*fewReplicas {
			t.Errorf("%s: with prompt pages %d replicas were desired at most: this test shows nothing\n%s", fleets[i].mode, most, fleets[i].events())
		}
		ratio := float64(b) / float64(a)
		fmt.Printf("figure slow_served_ratio_%s %.3f\n", fleets[i].mode, ratio)
		t.Logf("%s: %d served of prompt pages, %d of late ones\ndesired, every 5 s: %s\nof late pages:      %s\nrefused: %d, %d",
			fleets[i].mode, a, b, fleets[i].desired.every(5), fleets[i+1].desired.every(5),
			fleets[i].generator.Stats().Refused, fleets[i+1].generator.Stats().Refused)
		// Of one fleet a single step that comes a scrape later costs 2 %.
		if ratio < .9 {
			t.Errorf("%s: fleets with late pages served %.0f %% of what prompt ones did, want 90 %% at least\n%s",
				fleets[i].mode, 100*ratio, fleets[i+1].events())
		}
	}
	ratio := float64(late) / float64(prompt)
	fmt.Printf("figure slow_served_ratio %.3f\n", ratio)
	if ratio < .95 {
		t.Errorf("all in all they served %.1f %%, want 95 %% at least", 100*ratio)
	}
}

// Pages that come later than a scrape waits are no reason to freeze either: right
// after readings that ask for eight replicas they are evidence of load, and bring two
// steps up. What the pages show at last brings the rest.
func TestPodsThatTimeOutUnderLoadBringTwoSteps(t *testing.T) {
	t.Parallel()
	for mode, annotations := range dialects() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			annotations["max-replicas"] = "8"
			// The first step is made on a reading. Before the next one is due the pages time out.
			annotations["scaleupcooldown"] = "10"
			s := apply(t, annotations, replicas(2))
			s.awaitReady(2)
			pods := shared.KAITO.Serving(s.namespace, s.name)
			s.queueEach(40)
			// A step shows that the queues were read.
			s.wantDesired(3)
			for _, pod := range pods {
				pod.SetSlowPage(vllm.SlowPage{From: .5, Delay: 8 * time.Second})
			}
			s.told("ScalingUp", " since a loaded reading ")
			s.eventually("two steps", func() error {
				if n := s.desired(); n < 4 {
					return fmt.Errorf("%d replicas are desired", n)
				}
				return nil
			})
			s.always("two steps are all that it brings", 15*time.Second, func() error {
				// It counts from the newest reading, which may be of after the first step or two.
				if n := s.desired(); n < 4 || n > 6 {
					return fmt.Errorf("%d replicas are desired", n)
				}
				return nil
			})
			for _, pod := range pods {
				pod.SetSlowPage(vllm.SlowPage{})
			}
			s.eventually("the rest, once the pages come", func() error {
				if n := s.desired(); n < 7 {
					return fmt.Errorf("%d replicas are desired", n)
				}
				return nil
			})
		})
	}
}

// curve is how many replicas are desired over time, one number each second.
type curve []int64

// every is a curve in words, one number each so many seconds.
func (c curve) every(seconds int) string {
	var b strings.Builder
	for i := 0; i < len(c); i += seconds {
		fmt.Fprintf(&b, "%d ", c[i])
	}
	return strings.TrimSpace(b.String())
}
