//go:build linux

// Command bench measures how the scaler keeps up with a fleet: thousands of
// simulated pods, read at the product's interval, while KEDA's calls are
// answered over mutual TLS. Pods, scaler and KEDA are a process each, so that
// CPU and memory are the scaler's alone: a scrape.Reader and a scaler.Service,
// without the Kubernetes client and its cache. It ends with one line per
// figure, "figure NAME VALUE".
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

func main() {
	be := flag.String("be", "", "one of the other processes: pods, or scaler")
	sizes := flag.String("pods", "100,1000,10000", "fleet sizes; the last one gives the figures")
	var b bench
	flag.IntVar(&b.perSet, "per-set", 5, "pods of one InferenceSet")
	flag.IntVar(&b.oneIn, "one-in", 50, "one pod in so many hangs, 0 for none")
	flag.IntVar(&b.port, "port", 0, "where the pods listen")
	flag.BoolVar(&b.guarded, "guarded", policy.GuardQueues, "learn beside the queue what the load needs")
	flag.DurationVar(&b.interval, "interval", 5*time.Second, "scrape interval")
	flag.DurationVar(&b.alone, "alone", 20*time.Second, "how long each size is left alone to measure its CPU")
	flag.DurationVar(&b.called, "called", 30*time.Second, "how long the last size answers calls")
	flag.StringVar(&b.profiles, "profiles", "", "prefix of the scaler's CPU and heap profiles, written for each size")
	flag.Parse()

	var err error
	switch *be {
	case "pods":
		err = servePods(b.oneIn)
	case "scaler":
		if b.pods, err = strconv.Atoi(*sizes); err == nil {
			err = b.beScaler()
		}
	default:
		err = b.all(strings.Split(*sizes, ","))
	}
	if err != nil {
		log.Fatal(err)
	}
}

// bench is one fleet size, and how to measure it.
type bench struct {
	pods, perSet, oneIn, port int
	interval, alone, called   time.Duration
	profiles                  string
	guarded                   bool
}

func (b *bench) sets() int { return b.pods / b.perSet }

// all measures one size after the other, each with a scaler of its own.
func (b *bench) all(sizes []string) error {
	pods, err := startChild("-be=pods", "-one-in="+strconv.Itoa(b.oneIn))
	if err != nil {
		return err
	}
	defer pods.stop()
	if err := pods.answer(&b.port); err != nil {
		return fmt.Errorf("start the pods: %w", err)
	}
	var figures []string
	for i, size := range sizes {
		one := *b
		if one.pods, err = strconv.Atoi(size); err != nil {
			return err
		}
		its, err := one.measure(i == len(sizes)-1)
		if err != nil {
			return fmt.Errorf("%s pods: %w", size, err)
		}
		figures = append(figures, its...)
	}
	fmt.Println(strings.Join(figures, "\n"))
	return nil
}

// measure one size: first how its scaler does when nobody asks for anything,
// and then, for the last size, how it answers.
func (b *bench) measure(last bool) (figures []string, err error) {
	s, err := b.startScaler()
	if err != nil {
		return nil, err
	}
	defer s.stop()
	began := time.Now()
	var k *keda
	if last {
		if k, err = dial(s.hello, b.guarded); err != nil {
			return nil, err
		}
		defer k.hangUp()
		// By the end of the first interval each healthy pod has been read.
		time.Sleep(b.interval)
		k.askAll(b.sets())
	}
	// A pod that hangs is known to hang by the end of the second.
	time.Sleep(time.Until(began.Add(2 * b.interval)))

	used, err := s.cpuWithin(b.alone)
	if err != nil {
		return nil, err
	}
	perScrape := used.Seconds() * 1e6 / (float64(b.pods) * b.alone.Seconds() / b.interval.Seconds())
	fmt.Printf("%5d pods: %4.0f µs CPU per pod and interval, %.1f %% of one core\n",
		b.pods, perScrape, 100*used.Seconds()/b.alone.Seconds())
	figures = append(figures, fmt.Sprintf("figure fleet_cpu_us_per_scrape_%d %.0f", b.pods, perScrape))
	if !last {
		return figures, nil
	}
	ages, err := b.ask(k, s)
	if err != nil {
		return nil, err
	}
	end, err := s.do("usage")
	if err != nil {
		return nil, err
	}
	return append(figures, b.report(ages, k, s.hello.Peak, end.Peak)...), nil
}

// lookEvery is seldom enough for the look not to show in the calls' times, and
// no multiple of the interval: pods are caught at all ages.
const lookEvery = 3100 * time.Millisecond

// ask calls as KEDA and the HPA would, and looks at the samples now and then.
func (b *bench) ask(k *keda, s *scalerProcess) (ages []time.Duration, err error) {
	stop := k.keepAsking(b.sets())
	defer stop()
	for range b.called / lookEvery {
		time.Sleep(lookEvery)
		seen, err := s.do("look")
		if err != nil {
			return nil, err
		}
		ages = append(ages, seen.Ages...)
	}
	if len(ages) == 0 {
		return nil, errors.New("no pod was looked at")
	}
	return ages, nil
}

// report prints what was measured in words, and returns it as figures.
func (b *bench) report(ages []time.Duration, k *keda, atStart, peak int64) []string {
	const mb = 1 << 20
	fmt.Printf("%5d pods: newest sample of a healthy pod: p50 %v, p99 %v, max %v old\n",
		b.pods, quantile(ages, .5), quantile(ages, .99), quantile(ages, 1))
	fmt.Printf("%5d pods: GetMetrics over mutual TLS: p50 %v, p99 %v, max %v; %d of %d calls without an answer\n",
		b.pods, quantile(k.took, .5), quantile(k.took, .99), quantile(k.took, 1), k.failed, k.calls)
	fmt.Printf("%5d pods: at most %d MB resident in the scaler's process alone (VmHWM), %d MB before its first pod\n",
		b.pods, peak/mb, atStart/mb)
	return []string{
		fmt.Sprintf("figure fleet_age_p99_intervals %.3f", quantile(ages, .99).Seconds()/b.interval.Seconds()),
		fmt.Sprintf("figure getmetrics_p99_ms %.3f", quantile(k.took, .99).Seconds()*1e3),
		fmt.Sprintf("figure fleet_unanswered %d", k.failed),
		fmt.Sprintf("figure fleet_rss_mb %.1f", float64(peak)/mb),
	}
}

// quantile sorts d.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[int(q*float64(len(d)-1))].Round(time.Microsecond)
}
