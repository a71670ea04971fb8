package chart

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// strictly decodes Kubernetes' and KEDA's kinds into their types, and refuses
// fields that these don't have.
var strictly = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(kedav1alpha1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// spec is as much of a CRD's schema as tells what a spec may hold. testdata has
// those of the Prometheus operator's API 0.95 and of cert-manager 1.21, so that
// neither is a dependency; of cert-manager's issuers only those that the chart makes.
type spec struct {
	Type        string          `json:"type"`
	Properties  map[string]spec `json:"properties"`
	Additional  *spec           `json:"additionalProperties"`
	Items       *spec           `json:"items"`
	Required    []string        `json:"required"`
	Enum        []string        `json:"enum"`
	IntOrString bool            `json:"x-kubernetes-int-or-string"`
}

var specs = sync.OnceValues(func() (all map[string]spec, err error) {
	text, err := os.ReadFile("testdata/specs.json")
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(text, &all)
	return all, err
})

// check returns what is wrong with a value, at its path.
func (s spec) check(at string, value any) []string {
	wrong := func(format string, args ...any) []string {
		return []string{at + ": " + fmt.Sprintf(format, args...)}
	}
	var is string
	switch v := value.(type) {
	case map[string]any:
		return s.checkObject(at, v)
	case []any:
		is = "array"
	case string:
		is = "string"
	case bool:
		is = "boolean"
	case int64:
		is = "integer"
	case float64:
		is = "number"
	}
	switch {
	case s.IntOrString && (is == "string" || is == "integer"), s.Type == "number" && is == "integer":
		return nil
	case is != s.Type:
		return wrong("is %T, want %s", value, s.Type)
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, fmt.Sprint(value)):
		return wrong("is %v, want one of %q", value, s.Enum)
	}
	var all []string
	if list, ok := value.([]any); ok {
		for i, item := range list {
			all = append(all, s.Items.check(fmt.Sprintf("%s[%d]", at, i), item)...)
		}
	}
	return all
}

func (s spec) checkObject(at string, object map[string]any) []string {
	if s.Type != "object" {
		return []string{at + ": is an object, want " + s.Type}
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(object)) {
		inner, known := s.Properties[key]
		switch {
		case known:
		case s.Additional != nil:
			inner = *s.Additional
		default:
			all = append(all, at+": unknown field "+key)
			continue
		}
		all = append(all, inner.check(at+"."+key, object[key])...)
	}
	for _, key := range s.Required {
		if _, there := object[key]; !there {
			all = append(all, at+": lacks "+key)
		}
	}
	return all
}

// clusterScoped are the chart's kinds that are in no namespace.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "ClusterTriggerAuthentication"}

// faults is what an API server would say of a render, none for one that is right.
func faults(t *testing.T, render string) []string {
	t.Helper()
	known, err := specs()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	there := map[string]bool{}
	for document := range strings.SplitSeq("\n"+render, "\n---\n") {
		var object map[string]any
		// Twice the same key is refused.
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			all = append(all, err.Error())
		}
		if len(object) == 0 {
			continue
		}
		meta := metav1.PartialObjectMetadata{}
		if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
			all = append(all, err.Error())
		}
		name := fmt.Sprintf("%s %s/%s", meta.Kind, meta.Namespace, meta.Name)
		if there[name] {
			all = append(all, name+": is there twice")
		}
		there[name] = true
		found := metaFaults(&meta)
		if s, pinned := known[meta.APIVersion+" "+meta.Kind]; pinned {
			found = append(found, pinnedFaults(s, document)...)
		} else if _, _, err := strictly.Decode([]byte(document), nil, nil); err != nil {
			found = append(found, err.Error())
		}
		found = append(found, innerFaults(field.NewPath(""), object)...)
		for _, fault := range found {
			all = append(all, name+": "+fault)
		}
	}
	if len(there) == 0 {
		all = append(all, "there is no object")
	}
	return all
}

// pinnedFaults are those of an object by its CRD's schema.
func pinnedFaults(s spec, document string) []string {
	var whole struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              map[string]any `json:"spec"`
	}
	var all []string
	if err := yaml.UnmarshalStrict([]byte(document), &whole); err != nil {
		all = append(all, err.Error())
	}
	return append(all, s.check("spec", integers(whole.Spec))...)
}

// integers has the whole numbers of a value as such: JSON has but floats.
func integers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			v[key] = integers(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = integers(inner)
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return value
}

// metaFaults are those of names.
func metaFaults(meta *metav1.PartialObjectMetadata) []string {
	var all []string
	switch {
	case meta.Kind == "Service":
		all = validation.IsDNS1035Label(meta.Name)
	case strings.HasPrefix(meta.APIVersion, "rbac.authorization.k8s.io/"):
		all = content.IsPathSegmentName(meta.Name)
	default:
		all = validation.IsDNS1123Subdomain(meta.Name)
	}
	if slices.Contains(clusterScoped, meta.Kind) {
		if meta.Namespace != "" {
			all = append(all, "is in a namespace")
		}
		return all
	}
	return append(all, validation.IsDNS1123Label(meta.Namespace)...)
}

// innerFaults are those of labels, annotations and ports, wherever they stand.
func innerFaults(at *field.Path, value any) []string {
	var all []string
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			inner := at.Child(key)
			texts := map[string]string{}
			fields, _ := v[key].(map[string]any)
			for name, text := range fields {
				texts[name], _ = text.(string)
			}
			switch key {
			case "labels", "matchLabels", "nodeSelector":
				for _, err := range metav1validation.ValidateLabels(texts, inner) {
					all = append(all, err.Error())
				}
			case "annotations":
				// Those of alerts are Prometheus' own.
				if _, alert := v["alert"]; !alert {
					for _, err := range apivalidation.ValidateAnnotations(texts, inner) {
						all = append(all, err.Error())
					}
				}
			}
			all = append(all, innerFaults(inner, v[key])...)
		}
		if name, named := v["name"].(string); named && v["containerPort"] != nil {
			for _, fault := range validation.IsValidPortName(name) {
				all = append(all, at.String()+": port "+name+": "+fault)
			}
		}
	case []any:
		for i, inner := range v {
			all = append(all, innerFaults(at.Index(i), inner)...)
		}
	}
	return all
}

// valid holds a render to what an API server takes.
func valid(t *testing.T, render string) {
	t.Helper()
	for _, fault := range faults(t, render) {
		t.Error(fault)
	}
}

// Helm lets through what an API server refuses, or drops without a word.
func TestEveryRenderIsValid(t *testing.T) {
	renders, err := filepath.Glob("*/render.yaml")
	if err != nil || len(renders) < 5 {
		t.Fatalf("renders %q: %v", renders, err)
	}
	for _, name := range renders {
		t.Run(filepath.Dir(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			valid(t, string(text))
		})
	}
}

// What is no part of the golden renders, or only together with everything else.
func TestRendersOfOtherValuesAreValid(t *testing.T) {
	for story, set := range map[string]string{
		"all monitoring":            "serviceMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true",
		"metrics over https":        "serviceMonitor.enabled=true,metricsSecure=true,serviceMonitor.scrapeTimeout=5s",
		"pods' monitor, relabelled": "podMonitor.enabled=true,podMonitor.interval=,podMonitor.metricRelabelings[0].action=drop,podMonitor.metricRelabelings[0].regex=go_.*",
		"a CA of cert-manager":      "certManager.enabled=true",
		"an address":                "certManager.enabled=true,scalerAddress=192.0.2.1:443",
		"one replica, no metrics":   "replicaCount=1,ports.metrics=0",
		"a long name":               "fullnameOverride=a23456789012345678901234567890123456789012345678901234567x",
		"a network policy":          "networkPolicy.enabled=true,networkPolicy.apiServerCIDRs={192.0.2.0/24}",
		"namespaces, and KEDA's":    "watchNamespaces={team-a,team-b},keda.namespace=keda-system,namespaceOverride=scaling",
	} {
		t.Run(story, func(t *testing.T) { valid(t, template(t, "--set", set)) })
	}
}

func TestAFaultyRenderIsNoticed(t *testing.T) {
	text, err := os.ReadFile("everything/render.yaml")
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := os.ReadFile("cert-manager/render.yaml")
	if err != nil {
		t.Fatal(err)
	}
	whole := string(text) + "\n---\n" + strings.ReplaceAll(string(certificates), "namespace: keda\n", "namespace: other\n")
	for _, tt := range []struct{ story, old, broken, want string }{
		{"a field of a Deployment", "\n  replicas: 3\n", "\n  replica: 3\n", `unknown field "spec.replica"`},
		{"a field of a container", "imagePullPolicy:", "imagePullpolicy:", `unknown field "spec.template.spec.containers[0].imagePullpolicy"`},
		{"a field of a ServiceMonitor", "scrapeTimeout: 5s", "scrapeTimout: 5s", "spec.endpoints[0]: unknown field scrapeTimout"},
		{"a field of an alert", "keep_firing_for: 5m", "keepFiringFor: 5m", "unknown field keepFiringFor"},
		{"a rule without an expression", "record: namespace:gpu_replicas:sum", "recrod: x", "unknown field recrod"},
		{"a field of a Certificate", "dnsNames:", "dnsName:", "spec: unknown field dnsName"},
		{"a usage that there isn't", "server auth", "sever auth", "is sever auth, want one of"},
		{"text for a truth", "honorLabels: false", `honorLabels: "false"`, "is string, want boolean"},
		{"a number for a text", "scrapeTimeout: 5s", "scrapeTimeout: 5", "is int64, want string"},
		{"metadata of a CRD's kind", "annotations:\n    example.com/team: platform\nspec:\n  jobLabel", "annotation:\n    example.com/team: platform\nspec:\n  jobLabel", "unknown field"},
		{"a key that is there twice", "\n  replicas: 3\n", "\n  replicas: 3\n  replicas: 3\n", `key "replicas" already set`},
		{"a label's value", "app.kubernetes.io/name: scaler", "app.kubernetes.io/name: the scaler", "metadata.labels: Invalid value"},
		{"a name", "kind: Deployment\nmetadata:\n  name: the-scaler", "kind: Deployment\nmetadata:\n  name: The_Scaler", "RFC 1123 subdomain"},
		{"a port's name", "name: grpc-server", "name: grpc-server-of-keda", "must be no more than 15 characters"},
		{"no such kind", "kind: Deployment\n", "kind: Deploymnet\n", `no kind "Deploymnet"`},
	} {
		t.Run(tt.story, func(t *testing.T) {
			if !strings.Contains(whole, tt.old) {
				t.Fatalf("no render has %q", tt.old)
			}
			found := strings.Join(faults(t, strings.Replace(whole, tt.old, tt.broken, 1)), "\n")
			if !strings.Contains(found, tt.want) {
				t.Errorf("found %q, want %q", found, tt.want)
			}
		})
	}
	if found := faults(t, whole); len(found) > 0 {
		t.Errorf("nothing is broken, and yet: %q", found)
	}
	if found := faults(t, "# nothing\n"); len(found) == 0 {
		t.Error("no object, and no fault")
	}
}
