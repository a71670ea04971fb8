//go:build oldest

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/discovery"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/load"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

func TestItIsTheOldest(t *testing.T) {
	t.Parallel()
	cluster, err := discovery.NewDiscoveryClientForConfig(shared.Config())
	if err != nil {
		t.Fatal(err)
	}
	info, err := cluster.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(shared.Process("keda-operator").LogFile())
	if err != nil {
		t.Fatal(err)
	}
	keda := regexp.MustCompile(`KEDA Version: (\S+)`).FindSubmatch(log)
	if len(keda) != 2 || string(keda[1][:min(5, len(keda[1]))]) != "2.18." {
		t.Errorf("KEDA says that it is %q, want 2.18", keda)
	}
	if info.EmulationMinor != "34" {
		t.Errorf("Kubernetes %s behaves as 1.%s, want 1.34", info.GitVersion, info.EmulationMinor)
	}
	t.Logf("%s on Kubernetes %s as 1.%s", keda[0], info.GitVersion, info.EmulationMinor)
}

// noTolerance checks that the HPA has lost the tolerances of the ScaledObject.
func (s *set) noTolerance() {
	s.Helper()
	so, err := s.scaledObject()
	if err != nil {
		s.Fatal(err)
	}
	wanted := so.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior
	hpa, err := s.hpa()
	if err != nil {
		s.Fatal(err)
	}
	if wanted.ScaleUp.Tolerance == nil || wanted.ScaleDown.Tolerance == nil {
		s.Error("the ScaledObject asks for no tolerances: this test shows nothing")
	}
	if b := hpa.Spec.Behavior; b.ScaleUp.Tolerance != nil || b.ScaleDown.Tolerance != nil {
		s.Errorf("the HPA has tolerances, up %v and down %v", b.ScaleUp.Tolerance, b.ScaleDown.Tolerance)
	}
}

func TestOnTheOldestAThresholdGoesUpAndDown(t *testing.T) {
	t.Parallel()
	annotations := brisk()
	annotations["downguard"] = "false"
	s := apply(t, annotations)
	s.awaitReady(1)
	s.published("0")
	s.noTolerance()
	s.queue(25)
	s.wantDesired(3)
	s.awaitReady(3)
	s.queue(25, 10, 10)
	s.wantDesired(5)
	s.awaitReady(5)
	s.queue(25, 10, 11)
	s.stays("46 on five are within the HPA's own 10 %", 5, 15*time.Second)
	// With a tolerance of 50 % they would stay.
	s.queue(20, 10, 10)
	s.wantDesired(4)
	s.queueEach(0)
	s.steps(4, 1)
	s.awaitReady(1)
	s.published("0")
}

func TestOnTheOldestAListGoesUpAndDownByOneBeyondTen(t *testing.T) {
	t.Parallel()
	annotations := listed(queues)
	annotations["max-replicas"] = "13"
	s := apply(t, annotations, replicas(11))
	s.awaitReady(11)
	s.noTolerance()
	for n := 12; n <= 13; n++ {
		s.queueEach(50)
		s.eventually(fmt.Sprintf("%d replicas desired", n), func() error {
			switch got := s.desired(); {
			case got > int64(n):
				s.Fatalf("%d replicas are desired, want %d", got, n)
			case got < int64(n):
				return fmt.Errorf("%d are", got)
			}
			return nil
		})
		s.awaitReady(n)
	}
	s.queueEach(0)
	s.steps(13, 8)
}

// The way down takes 18 minutes to its first step.
func TestOnTheOldestAutomaticModeGoesUpAndDownBeyondTen(t *testing.T) {
	t.Parallel()
	const most = 12
	s := apply(t, map[string]string{"auto-provision": "true", "max-replicas": strconv.Itoa(most), "itl-slo": "150ms"},
		adapted(func(o *kaito.Options) { o.Model = smallEngine }))
	s.awaitReady(1)
	generator := load.Start(func() []*vllm.Pod { return shared.KAITO.Serving(s.namespace, s.name) }, load.Options{
		Prompt: load.Tokens{Mean: smallPrompt}, Output: load.Tokens{Mean: smallOutput}, Balancing: load.LeastLoaded,
	})
	t.Cleanup(generator.Stop)
	generator.SetRate(.6 * fullRate())
	s.within(2*time.Minute, "it has learned what the load needs", func() error {
		value, err := s.value("desired-replicas")
		if err == nil && generator.Stats().Sent < 100 {
			err = fmt.Errorf("%s after %d requests", value, generator.Stats().Sent)
		}
		return err
	})
	s.noTolerance()
	generator.SetRate(.7 * most * fullRate())
	began := time.Now()
	s.within(3*time.Minute, "all replicas for a load that needs all of them", func() error {
		if n := s.desired(); n < most {
			return fmt.Errorf("%d are desired", n)
		}
		return nil
	})
	t.Logf("%d replicas %s after the load rose", most, time.Since(began).Round(time.Second))
	s.awaitReady(most)

	generator.SetRate(.6 * fullRate())
	began = time.Now()
	at := int64(most)
	s.within(35*time.Minute, "fewer than ten after the load fell", func() error {
		n := s.desired()
		if n != at && n != at-1 {
			s.Fatalf("from %d to %d replicas in one step", at, n)
		}
		if n < at {
			t.Logf("%d replicas %s after the load fell", n, time.Since(began).Round(time.Second))
		}
		if at = n; n >= 10 {
			return fmt.Errorf("%d are desired", n)
		}
		return nil
	})
}
