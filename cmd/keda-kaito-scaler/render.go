package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/provision"
)

// renderer judges InferenceSets in files as the scaler would in the cluster.
type renderer struct {
	files         []string
	namespace     string
	service       string
	scalerAddress string
	version       string
	nodes         int32
	explain       bool

	// each is given every InferenceSet of the files with what is understood of
	// it.
	each func(is kaito.InferenceSet, p policy.Policy) error

	stdin          io.Reader
	stdout, stderr io.Writer
	// written counts the ScaledObjects, refused the documents and files that
	// are wrong.
	written, refused int
}

// renderCommand is the sub-command that needs no cluster.
func renderCommand() *cobra.Command {
	usual := defaults()
	r := &renderer{
		namespace:     "default",
		service:       usual.serviceName,
		scalerAddress: net.JoinHostPort(usual.serviceName+"."+fallbackNamespace+".svc", strconv.Itoa(usual.grpcPort)),
		version:       kaito.Versions[0],
	}
	r.each = r.scaledObject
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
			r.stdin, r.stdout, r.stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			if err := r.check(); err != nil {
				return err
			}
			return r.run()
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVarP(&r.files, "filename", "f", nil, "`file` with InferenceSets in YAML or JSON, - for stdin; may be given several times")
	f.BoolVar(&r.explain, "explain", false, "say in words, as comments, what will happen when")
	f.StringVarP(&r.namespace, "namespace", "n", r.namespace, "`namespace` of an InferenceSet that names none")
	f.StringVar(&r.scalerAddress, "scaler-address", r.scalerAddress, "`host:port` at which KEDA reaches the scaler")
	f.Int32Var(&r.nodes, "nodes-per-replica", 0, "`nodes` that a replica takes, which counts against nodeCountLimit; 0 if KAITO has not told yet")
	f.StringVar(&r.version, "kaito-version", r.version, "`version` of KAITO's API in the cluster: "+strings.Join(kaito.Versions, " or "))
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
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
	if len(r.files) == 0 {
		errs = append(errs, errors.New("--filename: required: a file with InferenceSets, or - for stdin"))
	}
	if r.nodes < 0 {
		errs = append(errs, fmt.Errorf("--nodes-per-replica %d: must not be negative", r.nodes))
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

func (r *renderer) run() error {
	for _, name := range r.files {
		if err := r.file(name); err != nil {
			r.refuse(name, err)
		}
	}
	if r.refused > 0 {
		return fmt.Errorf("%d refused, %d rendered", r.refused, r.written)
	}
	return nil
}

// refuse says what is wrong, one thing a line.
func (r *renderer) refuse(where string, err error) {
	r.refused++
	var problems policy.RefusalError
	if !errors.As(err, &problems) {
		r.say(where, "refused: "+err.Error())
		return
	}
	for _, problem := range problems {
		r.say(where, "refused: "+problem.String())
	}
}

func (r *renderer) say(where, text string) {
	_, _ = fmt.Fprintf(r.stderr, "%s: %s\n", where, text) // whoever closed stderr wants no words
}

// file judges all documents of a file. An error is about the file itself.
func (r *renderer) file(name string) error {
	from := r.stdin
	if name != "-" {
		data, err := os.ReadFile(name) //nolint:gosec // the user's own file, read with the user's own rights
		if err != nil {
			return err
		}
		from = bytes.NewReader(data)
	} else {
		name = "stdin"
	}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(from))
	for n := 1; ; n++ {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read document %d: %w", n, err)
		}
		where := fmt.Sprintf("%s, document %d", name, n)
		var value any
		if err := utilyaml.Unmarshal(text, &value); err != nil {
			r.refuse(where, err)
			continue
		}
		switch value := value.(type) {
		case nil: // nothing but comments
		case map[string]any:
			r.document(where, value)
		default:
			r.refuse(where, fmt.Errorf("it is %s, which must be an object", kindOf(value)))
		}
	}
}

// document judges an object, or each object of a list.
func (r *renderer) document(where string, object map[string]any) {
	u := &unstructured.Unstructured{Object: object}
	if items, ok := object["items"].([]any); ok && strings.HasSuffix(u.GetKind(), "List") {
		for i, item := range items {
			if object, ok := item.(map[string]any); ok {
				r.document(fmt.Sprintf("%s, item %d", where, i+1), object)
			}
		}
		return
	}
	gv, err := schema.ParseGroupVersion(u.GetAPIVersion())
	if err != nil || gv.Group != kaito.Group || u.GetKind() != kaito.KindInferenceSet {
		r.say(where, fmt.Sprintf("skipped: %s is no InferenceSet of %s",
			cmp.Or(strings.TrimSpace(u.GetKind()+" "+u.GetName()), "an object without a kind"), kaito.Group))
		return
	}
	if u.GetNamespace() == "" {
		u.SetNamespace(r.namespace)
	}
	if name := u.GetName(); name != "" {
		where = fmt.Sprintf("InferenceSet %s/%s", u.GetNamespace(), name)
	}
	if err := r.inferenceSet(where, gv.Version, u); err != nil {
		r.refuse(where, err)
	}
}

// inferenceSet understands one and hands it on, or says that it asks for no
// scaling.
func (r *renderer) inferenceSet(where, version string, u *unstructured.Unstructured) error {
	if err := wellFormed(version, u); err != nil {
		return err
	}
	is := kaito.ReadInferenceSet(u)
	wanted, err := policy.Wanted(is.Annotations)
	if err != nil {
		return err
	}
	if !wanted {
		r.say(where, fmt.Sprintf("does not ask for scaling: %sauto-provision is not \"true\"", policy.Prefix))
		return nil
	}
	p, notes, err := policy.Parse(policy.Request{
		Name: is.Name, Annotations: is.Annotations, NodeCountLimit: is.NodeCountLimit, NodesPerReplica: r.nodes,
	})
	if err != nil {
		return err
	}
	for _, note := range notes {
		r.say(where, "note: "+note)
	}
	return r.each(is, p)
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

// wellFormed checks what the API server would refuse or read otherwise, of the
// parts that matter here.
func wellFormed(version string, u *unstructured.Unstructured) error {
	var problems policy.RefusalError
	if !slices.Contains(kaito.Versions, version) {
		problems = append(problems, policy.Problem{
			Key: "apiVersion", Value: u.GetAPIVersion(), Rule: "must be of version " + strings.Join(kaito.Versions, " or "),
		})
	}
	if u.GetName() == "" {
		problems = append(problems, policy.Problem{Key: "metadata.name", Rule: "required"})
	}
	annotations, _, err := unstructured.NestedMap(u.Object, "metadata", "annotations")
	if err != nil {
		problems = append(problems, policy.Problem{Key: "metadata.annotations", Rule: "must be a map of strings"})
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if _, ok := annotations[key].(string); !ok {
			problems = append(problems, policy.Problem{Key: key, Rule: fmt.Sprintf(
				"is %s, which must be a string: write it in quotes, or after a |", kindOf(annotations[key]))})
		}
	}
	if limit, found, err := unstructured.NestedFieldNoCopy(u.Object, "spec", "nodeCountLimit"); found && err == nil {
		if _, ok := limit.(int64); !ok {
			problems = append(problems, policy.Problem{Key: "spec.nodeCountLimit", Rule: fmt.Sprintf(
				"is %s, which must be a whole number", kindOf(limit))})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// kindOf says what a value of YAML is.
func kindOf(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return fmt.Sprintf("the boolean %t", value)
	case int64, float64:
		return fmt.Sprintf("the number %v", value)
	case []any:
		return "a list"
	}
	return "an object"
}

// print writes a document after those before it, the explanation as comments.
func (r *renderer) print(object *unstructured.Unstructured, p policy.Policy) error {
	var b strings.Builder
	if r.written > 0 {
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
	r.written++
	_, err = io.WriteString(r.stdout, b.String())
	return err
}
