package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/stack"
)

// many is how many InferenceSets a large installation has.
const many = 1000

// crowd is a cluster of its own with many InferenceSets, whose API server notes
// every write.
type crowd struct {
	*testing.T
	ctx   context.Context
	stack *stack.Stack
	audit string
}

// onlyScaledObjects is an audit policy: who wrote which.
const onlyScaledObjects = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - group: keda.sh
    resources: [scaledobjects]
- level: None
`

func TestAThousandInferenceSetsAreProvisionedWithinAMinuteAndThenLeftAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := &crowd{T: t, ctx: ctx, audit: filepath.Join(t.TempDir(), "audit.log")}
	var err error
	c.stack, err = stack.Start(ctx, stack.Options{
		NoKAITO: true, NoScaler: true, NoKEDAProcesses: true, Race: raceDetector,
		AuditLog: c.audit, AuditPolicy: onlyScaledObjects,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.stack.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := kaito.Install(ctx, c.stack.Config(), kaito.Both); err != nil {
		t.Fatal(err)
	}
	c.fill()

	took := c.run("first", "created")
	if n := c.writes(); n != many {
		t.Errorf("%d writes for %d new InferenceSets", n, many)
	}
	t.Logf("%d InferenceSets were provisioned %s after the scaler's start", many, took.Round(100*time.Millisecond))
	if limit := time.Minute; took > limit {
		t.Errorf("it took %s, want %s at most", took, limit)
	}

	took = c.run("second", "unchanged")
	if n := c.writes() - many; n != 0 {
		t.Errorf("%d writes after a restart, want none", n)
	}
	t.Logf("a restart found all of them as they should be within %s, without a write", took.Round(100*time.Millisecond))
}

// fill creates the InferenceSets.
func (c *crowd) fill() {
	c.Helper()
	var group errgroup.Group
	group.SetLimit(16)
	for i := range many {
		group.Go(func() error {
			u := kaito.NewInferenceSet("v1beta1", types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("set-%d", i)}, 1,
				map[string]string{"auto-provision": "true", "threshold": "10"})
			if err := unstructured.SetNestedField(u.Object, int64(5), "spec", "nodeCountLimit"); err != nil {
				return err
			}
			return c.stack.Client.Create(c.ctx, u)
		})
	}
	if err := group.Wait(); err != nil {
		c.Fatal(err)
	}
}

// run lets a scaler live until it has come to that result for all, and returns
// how long that took from its start.
func (c *crowd) run(name, result string) time.Duration {
	c.Helper()
	start := time.Now()
	// The address is the same for each: it is written into every ScaledObject.
	scaler, err := c.stack.StartScaler(c.ctx, name, "--scaler-address=keda-kaito-scaler-svc.keda.svc:10450")
	if err != nil {
		c.Fatal(err)
	}
	last := errors.New("not looked at")
	err = wait.PollUntilContextTimeout(c.ctx, 200*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		last = c.came(ctx, scaler.Metrics, result)
		return last == nil, nil
	})
	took := time.Since(start)
	if err != nil {
		c.Fatalf("%v\n%s", last, scaler.Tail(20))
	}
	if err := scaler.Stop(30 * time.Second); err != nil {
		c.Error(err)
	}
	return took
}

// came tells what is still missing in a scaler's metrics until all are there.
func (c *crowd) came(ctx context.Context, metrics, result string) error {
	text, err := page(ctx, metrics)
	if err != nil {
		return err
	}
	for _, want := range []string{
		fmt.Sprintf(`keda_kaito_scaler_provision_inferencesets{state="provisioned"} %d`, many),
		fmt.Sprintf(`keda_kaito_scaler_provision_reconciles_total{result=%q}`, result),
	} {
		if !strings.Contains(text, want) {
			return fmt.Errorf("its metrics don't have %s", want)
		}
	}
	return nil
}

func page(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// writes counts the scaler's requests to the API server that could change a
// ScaledObject, whether they did or not.
func (c *crowd) writes() int {
	c.Helper()
	file, err := os.Open(c.audit)
	if err != nil {
		c.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	n := 0
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct {
			User struct {
				Username string `json:"username"`
			} `json:"user"`
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			c.Fatal(err)
		}
		if entry.User.Username == "system:serviceaccount:keda:"+stack.Account {
			n++
		}
	}
	if err := lines.Err(); err != nil {
		c.Fatal(err)
	}
	return n
}
