package hpa_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/kaito"
)

// looked is one sync of the controller: what it was told, and how many replicas
// there were then.
type looked struct {
	at           time.Time
	total        float64
	spec, status int32
}

// metrics is the external metrics API. Each HPA has a metric of its own, and
// gets the next value of its series at each sync.
type metrics struct {
	client client.Client
	series map[string][]float64
	// mu guards the rest.
	mu   sync.Mutex
	seen map[string][]looked
	errs []error
}

const group = "external.metrics.k8s.io"

func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(path) == 3 && path[1] == group:
		_, _ = fmt.Fprintf(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"%s/v1beta1","resources":[
			{"name":"externalmetrics","singularName":"","namespaced":true,"kind":"ExternalMetricValueList","verbs":["get"]}]}`, group)
	case len(path) == 6 && path[1] == group:
		m.value(w, r, path[5])
	default:
		http.NotFound(w, r)
	}
}

// value notes the sync and answers with the next value.
func (m *metrics) value(w http.ResponseWriter, r *http.Request, name string) {
	now := time.Now()
	object := inferenceSet(name)
	err := m.client.Get(r.Context(), client.ObjectKeyFromObject(object), object)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.errs = append(m.errs, fmt.Errorf("read %s: %w", name, err))
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	spec, _, _ := unstructured.NestedInt64(object.Object, "spec", "replicas")
	status, _, _ := unstructured.NestedInt64(object.Object, "status", "replicas")
	series := m.series[name]
	total := series[min(len(m.seen[name]), len(series)-1)]
	m.seen[name] = append(m.seen[name], looked{now, total, int32(spec), int32(status)})
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "ExternalMetricValueList", "apiVersion": group + "/v1beta1", "metadata": map[string]any{},
		"items": []map[string]any{{
			"metricName": name, "metricLabels": map[string]string{}, "timestamp": now.UTC().Format(time.RFC3339),
			"value": strconv.FormatFloat(total*1000, 'f', 0, 64) + "m",
		}},
	})
}

// syncs are those of one HPA so far.
func (m *metrics) syncs(name string) ([]looked, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.errs) > 0 {
		return nil, m.errs[0]
	}
	return append([]looked(nil), m.seen[name]...), nil
}

const service = `apiVersion: v1
kind: Service
metadata: {name: metrics-of-the-test, namespace: default}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics-of-the-test, namespace: default, port: %s}
`

// serve registers the metrics with the API server, and waits until it has seen
// them: an HPA that looked in vain would count that as its first look.
func (m *metrics) serve(t *testing.T) {
	t.Helper()
	server := httptest.NewTLSServer(m)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Apply(t.Context(), fmt.Appendf(nil, service, port)); err != nil {
		t.Fatal(err)
	}
	api := &unstructured.Unstructured{}
	api.SetGroupVersionKind(apiregistrationv1.SchemeGroupVersion.WithKind("APIService"))
	err = wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		if err := m.client.Get(ctx, client.ObjectKey{Name: "v1beta1." + group}, api); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		conditions, _, _ := unstructured.NestedSlice(api.Object, "status", "conditions")
		for _, entry := range conditions {
			if c, ok := entry.(map[string]any); ok && c["type"] == "Available" && c["status"] == "True" {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Fatalf("the external metrics API: %v: %v", err, api.Object["status"])
	}
}

// inferenceSet is the target of the HPA of that name.
func inferenceSet(name string) *unstructured.Unstructured {
	return kaito.Object("v1beta1", "InferenceSet", types.NamespacedName{Namespace: "default", Name: name})
}

// echo keeps status.replicas at spec.replicas, as KAITO does, until the context
// ends.
func echo(ctx context.Context, c client.WithWatch) error {
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("kaito.sh/v1beta1")
	list.SetKind("InferenceSetList")
	for ctx.Err() == nil {
		watch, err := c.Watch(ctx, list, client.InNamespace("default"))
		if err != nil {
			return client.IgnoreNotFound(err)
		}
		for event := range watch.ResultChan() {
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			if err := echoOne(ctx, c, object); err != nil && ctx.Err() == nil {
				watch.Stop()
				return err
			}
		}
	}
	return nil
}

func echoOne(ctx context.Context, c client.Client, object *unstructured.Unstructured) error {
	spec, _, _ := unstructured.NestedInt64(object.Object, "spec", "replicas")
	status, found, _ := unstructured.NestedInt64(object.Object, "status", "replicas")
	if found && spec == status {
		return nil
	}
	patch := fmt.Appendf(nil, `{"status":{"replicas":%d,"selector":"of=%s"}}`, spec, object.GetName())
	err := c.Status().Patch(ctx, object, client.RawPatch("application/merge-patch+json", patch))
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
