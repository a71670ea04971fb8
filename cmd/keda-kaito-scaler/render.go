package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/manifest"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/provision"
)

// renderer prints the ScaledObjects of InferenceSets in files.
type renderer struct {
	manifests     manifest.Reader
	service       string
	scalerAddress string
	version       string
	explain       bool

	stdout  io.Writer
	printed int
}

// renderCommand is the sub-command that needs no cluster.
func renderCommand() *cobra.Command {
	usual := defaults()
	r := &renderer{
		service:       usual.serviceName,
		scalerAddress: net.JoinHostPort(usual.serviceName+"."+fallbackNamespace+".svc", strconv.Itoa(usual.grpcPort)),
		version:       kaito.Versions[0],
	}
	r.manifests.Each = r.scaledObject
	cmd := &cobra.Command{
		Use:   "render -f FILE",
		Short: "Print the ScaledObjects that InferenceSets in files would get, without a cluster",
		Long: `render prints the ScaledObject that the scaler would write for each InferenceSet
in the files, and on stderr what is refused or understood otherwise than
written. It needs no cluster. It ends with 1 if anything is refused.`,
		Example: `  keda-kaito-scaler render -f examples/phi-4.yaml --explain
  kubectl get inferencesets -A -o yaml | keda-kaito-scaler render -f -`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r.manifests.Stdin, r.stdout, r.manifests.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			if err := r.check(); err != nil {
				return err
			}
			return r.manifests.Read()
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVarP(&r.manifests.Files, "filename", "f", nil, "`file` with InferenceSets in YAML or JSON, - for stdin; may be given several times")
	f.BoolVar(&r.explain, "explain", false, "say in words, as comments, what will happen when")
	f.StringVarP(&r.manifests.Namespace, "namespace", "n", "default", "`namespace` of an InferenceSet that names none")
	f.StringVar(&r.scalerAddress, "scaler-address", r.scalerAddress, "`host:port` at which KEDA reaches the scaler")
	f.Int32Var(&r.manifests.NodesPerReplica, "nodes-per-replica", 0, "`nodes` that a replica takes, which counts against nodeCountLimit; 0 if KAITO has not told yet")
	f.StringVar(&r.version, "kaito-version", r.version, "`version` of KAITO's API in the cluster: "+strings.Join(kaito.Versions, " or "))
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := fmt.Fprintf(cmd.OutOrStderr(), "Usage:\n  keda-kaito-scaler %s [flags]\n\nExamples:\n%s\n\nFlags:\n%s",
			cmd.Use, cmd.Example, cmd.Flags().FlagUsagesWrapped(100))
		return err
	})
	return cmd
}

// check refuses flags that can't be right, all of them at once.
func (r *renderer) check() error {
	var errs []error
	if len(r.manifests.Files) == 0 {
		errs = append(errs, errors.New("--filename: required: a file with InferenceSets, or - for stdin"))
	}
	if r.manifests.NodesPerReplica < 0 {
		errs = append(errs, fmt.Errorf("--nodes-per-replica %d: must not be negative", r.manifests.NodesPerReplica))
	}
	if !slices.Contains(kaito.Versions, r.version) {
		errs = append(errs, fmt.Errorf("--kaito-version %s: must be %s", r.version, strings.Join(kaito.Versions, " or ")))
	}
	names := certs.Names{Namespace: fallbackNamespace, Service: r.service, Address: r.scalerAddress}
	if err := names.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--scaler-address: %w", err))
	}
	return errors.Join(errs...)
}

// scaledObject prints the ScaledObject of an InferenceSet.
func (r *renderer) scaledObject(is kaito.InferenceSet, p policy.Policy) error {
	object, err := provision.Render(is, p, provision.Settings{
		Version: r.version, Address: r.scalerAddress, Authentication: certs.TriggerAuthentication,
	})
	if err != nil {
		return err
	}
	return r.print(object, p)
}

// print writes a document after those before it, the explanation as comments.
func (r *renderer) print(object *unstructured.Unstructured, p policy.Policy) error {
	var b strings.Builder
	if r.printed > 0 {
		b.WriteString("---\n")
	}
	if r.explain {
		for _, line := range policy.Explain(p) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
	}
	text, err := yaml.Marshal(object.Object)
	if err != nil {
		return fmt.Errorf("write the ScaledObject in YAML: %w", err)
	}
	b.Write(text)
	r.printed++
	_, err = io.WriteString(r.stdout, b.String())
	return err
}
