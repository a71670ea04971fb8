package chart

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// An installation of 0.6 that works is upgraded, rolled back and upgraded again
// by Helm while KEDA asks. No replica moves, the HPAs stay the same objects, and
// a poll fails only where its connection moved. After that the fleets still
// scale: the one that 0.6 provided for, and the one whose ScaledObject was copied
// from it by hand.
func TestAnUpgradeFrom06AndBackMovesNothing(t *testing.T) {
	s := start(t, stack.Options{HPASync: time.Second, KAITO: quick})
	u := newUpgrade(t, s)
	// Under load before anybody reads them.
	provided, copied := u.fleet("provided"), u.fleet("copied")
	helm(t, s, "install", release, earlierChart(t, "0.6.2"), "--namespace", stack.Namespace)
	u.roll()
	provided.annotate()
	provided.awaitScaledObject()
	provided.wantFormula(true)
	copied.copyScaledObject(provided)
	copied.awaitScaledObject()
	u.fleets = []*fleet{provided, copied}
	var ends []func()
	for _, f := range u.fleets {
		ends = append(ends, f.still())
		defer ends[len(ends)-1]()
	}
	u.polls = stack.Poll(200*time.Millisecond, stack.Answer{Value: waitingEach, Active: true}, u.connect, copied.ref())
	defer u.polls.Stop()

	upgrade := []string{"upgrade", release, ours, "--namespace", stack.Namespace, "--reuse-values"}
	u.through("upgrade", func() {
		helm(t, s, upgrade...)
		u.roll()
		provided.wantFormula(false)
	})
	u.through("rollback", func() {
		helm(t, s, "rollback", release, "1", "--namespace", stack.Namespace)
		u.roll()
		provided.wantFormula(true)
	})
	u.through("upgrade_without_secrets", func() {
		helm(t, s, upgrade...)
		u.prune()
		u.roll()
		provided.wantFormula(false)
	})
	for _, end := range ends {
		end()
	}
	for _, f := range u.fleets {
		f.wantGrowth()
	}
}

// upgrade plays the rollouts of a Deployment where there are no pods: processes
// with the flags, the account and the number that it says, behind one address.
type upgrade struct {
	*testing.T
	stack   *stack.Stack
	front   *stack.Front
	earlier string // the program
	polls   *stack.Polls
	fleets  []*fleet

	rolls     int
	running   []*stack.Scaler
	leaving   []context.CancelFunc
	following sync.WaitGroup
}

func newUpgrade(t *testing.T, s *stack.Stack) *upgrade {
	t.Helper()
	front, err := stack.NewFront(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := &upgrade{T: t, stack: s, front: front}
	if u.earlier, err = controlplane.BuildEarlier(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		u.end(u.running, u.leaving)
		u.following.Wait()
		front.Close()
	})
	return u
}

// roll starts what the Deployment says now, waits until all of it is ready, and
// ends what ran before: RollingUpdate with maxUnavailable 0.
func (u *upgrade) roll() {
	u.Helper()
	u.rolls++
	old, leaving := u.running, u.leaving
	u.running, u.leaving = nil, nil
	d := deployment(u.T, u.stack, stack.Namespace)
	for i := range int(*d.Spec.Replicas) {
		u.start(fmt.Sprintf("%s-%d-%d", d.Spec.Template.Spec.Containers[0].Name, u.rolls, i), d.Spec.Template.Spec)
	}
	for _, scaler := range u.running {
		if err := u.stack.AwaitReady(u.Context(), scaler); err != nil {
			u.Fatal(err)
		}
	}
	want := len(u.running) + len(old)
	eventually(u.T, "the new ones are behind the address", func(context.Context) error {
		if n := u.front.Ready(); n != want {
			return fmt.Errorf("%d are, want %d", n, want)
		}
		return nil
	})
	u.end(old, leaving)
}

// prune deletes the Secrets that the chart of 0.6 had made, as tools do that
// render a chart without asking the cluster what is there.
func (u *upgrade) prune() {
	u.Helper()
	for _, name := range []string{serverSecret, clientSecret} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: name}}
		if err := u.stack.Client.Delete(u.Context(), secret); err != nil {
			u.Fatal(err)
		}
	}
}

func (u *upgrade) start(name string, pod corev1.PodSpec) {
	u.Helper()
	ports := freePorts(u.T)
	at := func(port string) string { return net.JoinHostPort("127.0.0.1", port) }
	args := append([]string{}, pod.Containers[0].Args...)
	args = append(args, "--bind-address=127.0.0.1", "--scaler-address="+u.front.Address(),
		"--grpc-port="+ports[0], "--metrics-port="+ports[1], "--grpc-health-port="+ports[2])
	binary := u.earlier
	if !strings.Contains(pod.Containers[0].Image, ":0.6.2") {
		var err error
		if binary, err = controlplane.BuildScaler(u.Context(), os.Stderr, false); err != nil {
			u.Fatal(err)
		}
		args = append(args, "--allow-host-network") // simulated pods have loopback addresses
	}
	kubeconfig, err := u.stack.ServiceAccountKubeconfig(u.Context(), stack.Namespace, pod.ServiceAccountName)
	if err != nil {
		u.Fatal(err)
	}
	process, err := u.stack.Cluster.StartScaler(u.Context(), controlplane.ScalerOptions{
		Name: name, Binary: binary, Kubeconfig: kubeconfig, Args: args,
	})
	if err != nil {
		u.Fatal(err)
	}
	scaler := &stack.Scaler{Process: process, GRPC: at(ports[0]), Metrics: at(ports[1]), Health: at(ports[2])}
	ctx, cancel := context.WithCancel(context.Background())
	u.running, u.leaving = append(u.running, scaler), append(u.leaving, cancel)
	u.following.Go(func() {
		if err := u.front.Follow(ctx, scaler); err != nil {
			u.Errorf("the probe of %s: %v", name, err)
		}
	})
}

// end is what a kubelet does to pods that are deleted.
func (u *upgrade) end(scalers []*stack.Scaler, leaving []context.CancelFunc) {
	u.Helper()
	for i, scaler := range scalers {
		leaving[i]()
		if err := scaler.Stop(20 * time.Second); err != nil {
			u.Errorf("%v\n%s", err, scaler.Tail(20))
		}
	}
}

// connect is how KEDA does it, with what the Secret says now.
func (u *upgrade) connect(ctx context.Context, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	config, err := u.stack.Material(ctx)
	if err != nil {
		return nil, err
	}
	return stack.Connect(u.front.Address(), config, options...)
}

// through wants polls answered while something is done: at most one fails for
// each connection that moved. Of KEDA's, which come several times a second, two fail
// at most: it has one connection for all ScaledObjects.
func (u *upgrade) through(what string, do func()) {
	u.Helper()
	before, keda, began := u.polls.Count(stack.PollCount{}), kedaLogFromNow(u.T, u.stack), time.Now()
	do()
	fmt.Printf("figure %s_seconds %.0f\n", what, time.Since(began).Seconds())
	made := u.polls.Count(before).Made
	for _, f := range u.fleets {
		f.wantSameHPA()
	}
	eventually(u.T, "polls go on after the "+what, func(context.Context) error {
		if n := u.polls.Count(before).Made - made; n < 15 {
			return fmt.Errorf("%d were made", n)
		}
		return nil
	})
	polls := u.polls.Count(before)
	fmt.Printf("figure %s_polls %d\nfigure %s_polls_failed %d\nfigure %s_connections_moved %d\n",
		what, polls.Made, what, len(polls.Failed), what, polls.Moved)
	if stack.Missed(polls.At) > polls.Moved {
		u.Errorf("%s: %d polls failed and %d connections moved:\n%s", what, len(polls.Failed), polls.Moved, strings.Join(polls.Failed, "\n"))
	}
	for _, f := range u.fleets {
		failed := stack.FailedCalls(keda.text(), f.Namespace)
		n := stack.Seconds(failed)
		fmt.Printf("figure %s_keda_failed_seconds_%s %d\n", what, f.Namespace, n)
		if n := stack.Missed(stack.Times(failed)); n > 2 {
			u.Errorf("%s: %d polls of KEDA's about %s failed, want 2 at most:\n%s", what, n, f, strings.Join(failed, "\n"))
		}
	}
}

// text is what KEDA has written since.
func (l *kedaLog) text() string {
	l.Helper()
	data, err := os.ReadFile(l.file)
	if err != nil {
		l.Fatal(err)
	}
	return string(data[min(l.from, int64(len(data))):])
}
