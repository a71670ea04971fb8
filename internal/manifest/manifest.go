// Package manifest reads InferenceSets in files as the scaler would read them in
// the cluster.
package manifest

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// Reader reads InferenceSets in files.
type Reader struct {
	// Files are their names, - for Stdin.
	Files []string
	// Namespace is that of an InferenceSet that names none.
	Namespace string
	// NodesPerReplica counts against nodeCountLimit; 0 if KAITO has not told yet.
	NodesPerReplica int32
	// Each is given every InferenceSet that asks for scaling, with its policy.
	Each func(is kaito.InferenceSet, p policy.Policy) error

	Stdin io.Reader
	// Stderr is told what is refused, skipped or understood otherwise than written.
	Stderr io.Writer

	// taken counts the InferenceSets that Each took, refused the documents and
	// files that are wrong.
	taken, refused int
}

// Read reads all files. It fails at the end if anything was refused.
func (r *Reader) Read() error {
	for _, name := range r.Files {
		if err := r.file(name); err != nil {
			r.refuse(name, err)
		}
	}
	if r.refused > 0 {
		return fmt.Errorf("%d refused, %d rendered", r.refused, r.taken)
	}
	return nil
}

// refuse says what is wrong, one thing a line.
func (r *Reader) refuse(where string, err error) {
	r.refused++
	var problems policy.RefusalError
	if !errors.As(err, &problems) {
		r.print(where, "refused: "+err.Error())
		return
	}
	for _, problem := range problems {
		r.print(where, "refused: "+problem.String())
	}
}

func (r *Reader) print(where, text string) {
	_, _ = fmt.Fprintf(r.Stderr, "%s: %s\n", where, text) // whoever closed stderr wants no words
}

// file judges all documents of a file. An error is about the file itself.
func (r *Reader) file(name string) error {
	from := r.Stdin
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
func (r *Reader) document(where string, object map[string]any) {
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
		r.print(where, fmt.Sprintf("skipped: %s is no InferenceSet of %s",
			cmp.Or(strings.TrimSpace(u.GetKind()+" "+u.GetName()), "an object without a kind"), kaito.Group))
		return
	}
	if u.GetNamespace() == "" {
		u.SetNamespace(r.Namespace)
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
func (r *Reader) inferenceSet(where, version string, u *unstructured.Unstructured) error {
	if err := wellFormed(version, u); err != nil {
		return err
	}
	is := kaito.ReadInferenceSet(u)
	wanted, err := policy.Wanted(is.Annotations)
	if err != nil {
		return err
	}
	if !wanted {
		r.print(where, fmt.Sprintf("does not ask for scaling: %sauto-provision is not \"true\"", policy.Prefix))
		return nil
	}
	p, notes, err := policy.Parse(policy.Request{
		Name: is.Name, Annotations: is.Annotations, NodeCountLimit: is.NodeCountLimit, NodesPerReplica: r.NodesPerReplica,
	})
	if err != nil {
		return err
	}
	for _, note := range notes {
		r.print(where, "note: "+note)
	}
	if err := r.Each(is, p); err != nil {
		return err
	}
	r.taken++
	return nil
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
