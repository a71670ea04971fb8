//go:build linux

// Command bench measures how the scaler keeps up with a fleet: thousands of
// simulated pods, read at the product's interval, while KEDA's calls are
// answered over mutual TLS. Pods, scaler and KEDA are a process each, so that
// CPU and memory are the scaler's alone: a scrape.Reader and a scaler.Service,
// without the Kubernetes client and its cache. It ends with one line per
// figure, "figure NAME VALUE", and with -held fails if one is beyond its budget.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
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
	held := flag.Bool("held", false, "hold the last size's figures to the budgets of 10000 guarded pods")
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
		err = b.all(strings.Split(*sizes, ","), *held)
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

// figure is what was measured, with the most that it may be; Inf for one that is for
// reading alone.
type figure struct {
	name          string
	value, budget float64
}

// tries is how often figures are measured that are beyond their budgets: what else
// the machine does makes them only dearer, so the least of each counts.
const tries = 3

// all measures one size after the other, each with a scaler of its own.
func (b *bench) all(sizes []string, held bool) error {
	pods, err := startChild("-be=pods", "-one-in="+strconv.Itoa(b.oneIn))
	if err != nil {
		return err
	}
	defer pods.stop()
	if err := pods.answer(&b.port); err != nil {
		return fmt.Errorf("start the pods: %w", err)
	}
	var figures, beyond []figure
	for i, size := range sizes {
		one := *b
		if one.pods, err = strconv.Atoi(size); err != nil {
			return err
		}
		var its []figure
		for try := range tries {
			again, err := one.measure(i == len(sizes)-1)
			if err != nil {
				return fmt.Errorf("%s pods: %w", size, err)
			}
			if its = least(its, again); !held {
				break
			}
			if beyond = overBudget(its); len(beyond) == 0 {
				break
			}
			fmt.Printf("%s pods: %v beyond budget after %d of %d tries\n", size, beyond, try+1, tries)
		}
		figures = append(figures, its...)
	}
	for _, f := range figures {
		fmt.Printf("figure %s %.3f\n", f.name, f.value)
	}
	if len(beyond) > 0 {
		return fmt.Errorf("beyond budget: %v", beyond)
	}
	return nil
}

func (f figure) String() string { return fmt.Sprintf("%s %.3g of %g", f.name, f.value, f.budget) }

// least is the lesser of each figure that was measured twice.
func least(before, now []figure) []figure {
	for i := range before {
		now[i].value = min(now[i].value, before[i].value)
	}
	return now
}

// overBudget are those that are beyond their budget.
func overBudget(figures []figure) []figure {
	return slices.DeleteFunc(slices.Clone(figures), func(f figure) bool { return f.value <= f.budget })
}

// measure one size: first how its scaler does when nobody asks for anything,
// and then, for the last size, how it answers.
func (b *bench) measure(last bool) (figures []figure, err error) {
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
	cores := used.Seconds() / b.alone.Seconds()
	perScrape := cores * 1e6 / (float64(b.pods) / b.interval.Seconds())
	fmt.Printf("%5d pods: %4.0f µs CPU per pod and interval, %.1f %% of one core\n", b.pods, perScrape, 100*cores)
	figures = append(figures, figure{name: fmt.Sprintf("fleet_cpu_us_per_scrape_%d", b.pods), value: perScrape, budget: math.Inf(1)})
	if !last {
		return figures, nil
	}
	figures = append(figures, figure{"fleet_cpu_cores", cores, .4})
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
func (b *bench) report(ages []time.Duration, k *keda, atStart, peak int64) []figure {
	const mb = 1 << 20
	fmt.Printf("%5d pods: newest sample of a healthy pod: p50 %v, p99 %v, max %v old\n",
		b.pods, quantile(ages, .5), quantile(ages, .99), quantile(ages, 1))
	fmt.Printf("%5d pods: GetMetrics over mutual TLS: p50 %v, p99 %v, max %v; %d of %d calls without an answer\n",
		b.pods, quantile(k.took, .5), quantile(k.took, .99), quantile(k.took, 1), k.failed, k.calls)
	fmt.Printf("%5d pods: at most %d MB resident in the scaler's process alone (VmHWM), %d MB before its first pod\n",
		b.pods, peak/mb, atStart/mb)
	return []figure{
		{"fleet_age_p99_intervals", quantile(ages, .99).Seconds() / b.interval.Seconds(), 1.1},
		{"getmetrics_p99_ms", quantile(k.took, .99).Seconds() * 1e3, 2},
		{"fleet_unanswered", float64(k.failed), 0},
		{"fleet_rss_mb", float64(peak) / mb, 150},
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
