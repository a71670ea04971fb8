package controlplane

import (
	"context"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

const (
	kedaNamespace = "keda"
	kedaAccount   = "keda-operator" // of all three parts, as in KEDA's own deployments
)

// kedaManifests are KEDA's own, in the order in which they are applied.
var kedaManifests = []string{
	"crd/bases/*.yaml",
	"general/namespace.yaml",
	"service_account/service_account.yaml",
	"rbac/role.yaml",
	"rbac/role_binding.yaml",
	aggregateRoles,
	"metrics-server/role.yaml",
	"metrics-server/role_binding.yaml",
}

// aggregateRoles let view and edit see KEDA's objects. KEDA 2.18 has none.
const aggregateRoles = "rbac/aggregate_cluster_roles.yaml"

// kedaCRDPatches are the JSON patches that KEDA puts on its generated CRDs when
// it is released (config/crd/kustomization.yaml).
var kedaCRDPatches = map[string]string{
	"scaledjobs.keda.sh":    "crd/patches/scaledjob_patch.yaml",
	"scaledobjects.keda.sh": "crd/patches/scaledobject_patch.yaml",
}

func (c *Cluster) kedaConfig(name string) string {
	return filepath.Join(c.options.Programs.KEDAConfig, filepath.FromSlash(name))
}

// applyKEDAManifests installs KEDA as an object of the cluster: its CRDs, its
// namespace, its ServiceAccount and its rights.
func (c *Cluster) applyKEDAManifests(ctx context.Context) error {
	// One of KEDA's role bindings goes there, and the API server may be ready a
	// moment before it has made its namespaces.
	if err := c.await(ctx, nil, "namespace kube-system", func(ctx context.Context) error {
		return c.admin.Get(ctx, client.ObjectKey{Name: "kube-system"}, &corev1.Namespace{})
	}); err != nil {
		return err
	}
	for _, pattern := range kedaManifests {
		files, err := filepath.Glob(c.kedaConfig(pattern))
		if err != nil {
			return err
		}
		if len(files) == 0 && pattern != aggregateRoles {
			return fmt.Errorf("KEDA's manifest %s is not in %s", pattern, c.options.Programs.KEDAConfig)
		}
		for _, file := range files {
			manifest, err := os.ReadFile(file) //nolint:gosec // KEDA's own manifest, from its module.
			if err != nil {
				return err
			}
			if err := c.Apply(ctx, manifest); err != nil {
				return fmt.Errorf("KEDA's %s: %w", filepath.Base(file), err)
			}
		}
	}
	return c.patchKEDACRDs(ctx)
}

func (c *Cluster) patchKEDACRDs(ctx context.Context) error {
	for name, file := range kedaCRDPatches {
		text, err := os.ReadFile(c.kedaConfig(file))
		if err != nil {
			return err
		}
		patch, err := yaml.YAMLToJSON(text)
		if err != nil {
			return err
		}
		crd := &unstructured.Unstructured{}
		crd.SetGroupVersionKind(crdKind)
		crd.SetName(name)
		if err := c.admin.Patch(ctx, crd, client.RawPatch(types.JSONPatchType, patch)); err != nil {
			return fmt.Errorf("patching KEDA's CRD %s: %w", name, err)
		}
	}
	return nil
}

// startKEDA starts the parts of KEDA that are wanted, all under KEDA's own
// ServiceAccount, so that its RBAC counts (*/scale above all).
func (c *Cluster) startKEDA(ctx context.Context) error {
	kubeconfig, err := c.ServiceAccountKubeconfig(ctx, kedaNamespace, kedaAccount)
	if err != nil {
		return err
	}
	k := &keda{
		Cluster: c,
		env: []string{
			"KUBECONFIG=" + kubeconfig,
			"WATCH_NAMESPACE=", // set and empty: all namespaces
			"POD_NAMESPACE=" + kedaNamespace,
			"KEDA_CLUSTER_OBJECT_NAMESPACE=" + kedaNamespace,
		},
		kubeconfig: kubeconfig,
		certDir:    c.file("keda-certs"),
	}
	if err := k.writeCertificates(); err != nil {
		return fmt.Errorf("making KEDA's certificates: %w", err)
	}
	if k.operatorPort, err = freePort(); err != nil {
		return err
	}
	parts, ctx := errgroup.WithContext(ctx)
	if !c.options.NoKEDAOperator {
		parts.Go(func() error { return k.startOperator(ctx) })
	}
	if !c.options.NoKEDAAdapter {
		parts.Go(func() error { return k.startAdapter(ctx) })
	}
	if !c.options.NoKEDAWebhooks {
		parts.Go(func() error { return k.startWebhooks(ctx) })
	}
	return parts.Wait()
}

// keda is what its three parts share.
type keda struct {
	*Cluster
	env          []string
	kubeconfig   string
	certDir      string // ca.crt, tls.crt, tls.key, as KEDA's Secret has them
	operatorPort string // of the gRPC service that the adapter asks
}

func (k *keda) writeCertificates() error {
	if err := os.Mkdir(k.certDir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(k.certDir, "ca.crt"), k.ca.pem, 0o600); err != nil {
		return err
	}
	signer := *k.ca
	signer.dir = k.certDir
	return signer.issue("tls", pkix.Name{CommonName: "keda-operator"}, "localhost",
		"keda-operator.keda.svc", "keda-metrics-apiserver.keda.svc", "keda-admission-webhooks.keda.svc")
}

var kedaLogging = []string{"--zap-log-level=info", "--zap-encoder=console", "--zap-time-encoding=rfc3339"}

func (k *keda) startOperator(ctx context.Context) error {
	health, err := freePort()
	if err != nil {
		return err
	}
	p, err := k.run("keda-operator", k.options.Programs.KEDAOperator, k.env, append([]string{
		"--kubeconfig=" + k.kubeconfig,
		"--cert-dir=" + k.certDir,
		"--leader-elect=false",
		"--enable-cert-rotation=false",
		"--metrics-bind-address=0",
		"--health-probe-bind-address=" + loopback + ":" + health,
		"--metrics-service-bind-address=" + loopback + ":" + k.operatorPort,
	}, kedaLogging...)...)
	if err != nil {
		return err
	}
	if err := k.await(ctx, p, "KEDA's operator", k.answersOK("http://"+loopback+":"+health+"/readyz")); err != nil {
		return err
	}
	if err := k.await(ctx, p, "KEDA's metrics service", listens(k.operatorPort)); err != nil {
		return err
	}
	k.say.Say("KEDA's operator is ready")
	return nil
}

func (k *keda) startAdapter(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	p, err := k.run("keda-adapter", k.options.Programs.KEDAAdapter, k.env, append([]string{
		"--lister-kubeconfig=" + k.kubeconfig,
		"--authentication-kubeconfig=" + k.kubeconfig,
		"--authorization-kubeconfig=" + k.kubeconfig,
		"--bind-address=" + loopback, "--secure-port=" + port,
		"--client-ca-file=" + k.ca.file("ca.crt"),
		"--tls-cert-file=" + filepath.Join(k.certDir, "tls.crt"),
		"--tls-private-key-file=" + filepath.Join(k.certDir, "tls.key"),
		"--cert-dir=" + k.certDir,
		"--metrics-service-address=" + loopback + ":" + k.operatorPort,
		"--port=0", // of its own metrics, on all interfaces by KEDA's choice: any
	}, kedaLogging...)...)
	if err != nil {
		return err
	}
	if err := k.await(ctx, p, "KEDA's metrics adapter", k.answersOK("https://"+loopback+":"+port+"/readyz")); err != nil {
		return err
	}
	// Registered only now: the API server looks at once and finds it ready; one
	// that isn't it would look at again with growing pauses of up to 30 s.
	if err := k.registerAdapter(ctx, port); err != nil {
		return err
	}
	if err := k.await(ctx, p, "the external metrics API", k.externalMetricsAvailable); err != nil {
		return err
	}
	k.say.Say("KEDA's metrics adapter is ready: the external metrics API is available")
	return nil
}

// metricsService leads to loopback. An ExternalName may do so; the API server
// refuses loopback addresses in EndpointSlices.
const metricsService = `apiVersion: v1
kind: Service
metadata:
  name: keda-metrics-apiserver
  namespace: keda
spec:
  type: ExternalName
  externalName: localhost
`

func (k *keda) registerAdapter(ctx context.Context, port string) error {
	if err := k.Apply(ctx, []byte(metricsService)); err != nil {
		return err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return err
	}
	return k.applyEdited(ctx, "metrics-server/api_service.yaml", func(object map[string]any) error {
		return errors.Join(
			unstructured.SetNestedField(object, number, "spec", "service", "port"),
			unstructured.SetNestedField(object, k.caBundle(), "spec", "caBundle"),
		)
	})
}

func (k *keda) externalMetricsAvailable(ctx context.Context) error {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(apiregistrationv1.SchemeGroupVersion.WithKind("APIService"))
	if err := k.admin.Get(ctx, client.ObjectKey{Name: "v1beta1.external.metrics.k8s.io"}, object); err != nil {
		return err
	}
	conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	if err != nil {
		return err
	}
	for _, entry := range conditions {
		condition, _ := entry.(map[string]any)
		if condition["type"] != "Available" {
			continue
		}
		if condition["status"] == "True" {
			return nil
		}
		return fmt.Errorf("not available: %v: %v", condition["reason"], condition["message"])
	}
	return errors.New("the API server has not looked at it yet")
}

func (k *keda) startWebhooks(ctx context.Context) error {
	health, err := freePort()
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	p, err := k.run("keda-webhooks", k.options.Programs.KEDAWebhooks, k.env, append([]string{
		"--kubeconfig=" + k.kubeconfig,
		"--cert-dir=" + k.certDir,
		"--port=" + port, // on all interfaces: KEDA has no flag for the address
		"--metrics-bind-address=0",
		"--health-probe-bind-address=" + loopback + ":" + health,
	}, kedaLogging...)...)
	if err != nil {
		return err
	}
	if err := k.await(ctx, p, "KEDA's webhooks", k.answersOK("http://"+loopback+":"+health+"/readyz")); err != nil {
		return err
	}
	if err := k.await(ctx, p, "KEDA's webhook port", listens(port)); err != nil {
		return err
	}
	if err := k.registerWebhooks(ctx, port); err != nil {
		return err
	}
	if err := k.await(ctx, p, "KEDA's admission", k.refusesBadScaledObject); err != nil {
		return err
	}
	k.say.Say("KEDA's admission is ready: it has refused a bad ScaledObject")
	return nil
}

func (k *keda) registerWebhooks(ctx context.Context, port string) error {
	return k.applyEdited(ctx, "webhooks/validation_webhooks.yaml", func(object map[string]any) error {
		webhooks, _, err := unstructured.NestedSlice(object, "webhooks")
		if err != nil {
			return err
		}
		for _, entry := range webhooks {
			webhook, _ := entry.(map[string]any)
			path, found, err := unstructured.NestedString(webhook, "clientConfig", "service", "path")
			if err != nil || !found {
				return fmt.Errorf("KEDA's webhook %v has no path: %w", webhook["name"], err)
			}
			webhook["clientConfig"] = map[string]any{
				"url":      "https://" + loopback + ":" + port + path,
				"caBundle": k.caBundle(),
			}
			// KEDA ships Ignore. Here a webhook that fails must be seen.
			webhook["failurePolicy"] = "Fail"
		}
		return unstructured.SetNestedSlice(object, webhooks, "webhooks")
	})
}

// applyEdited applies one of KEDA's manifests after the edit that a process
// instead of a pod needs.
func (k *keda) applyEdited(ctx context.Context, manifest string, edit func(map[string]any) error) error {
	text, err := os.ReadFile(k.kedaConfig(manifest))
	if err != nil {
		return err
	}
	objects, err := decode(text)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := edit(object.Object); err != nil {
			return fmt.Errorf("editing KEDA's %s: %w", manifest, err)
		}
		if err := k.applyObject(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

func (k *keda) caBundle() string { return base64.StdEncoding.EncodeToString(k.ca.pem) }

// refusesBadScaledObject tries, without storing anything, what only KEDA's
// admission refuses, in every version: two triggers of one name. (Min above max
// is already refused by a rule in the CRD.)
func (k *keda) refusesBadScaledObject(ctx context.Context) error {
	trigger := map[string]any{"type": "cron", "name": "same", "metadata": map[string]any{}}
	bad := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{
			"scaleTargetRef": map[string]any{"name": "nobody"},
			"triggers":       []any{trigger, trigger},
		},
	}}
	bad.SetGroupVersionKind(schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"})
	bad.SetNamespace("default")
	bad.SetName("admission-check")
	err := k.admin.Create(ctx, bad, client.DryRunAll)
	switch {
	case err == nil:
		return errors.New("a bad ScaledObject was accepted")
	case strings.Contains(err.Error(), "denied the request"):
		return nil
	default:
		return err
	}
}
