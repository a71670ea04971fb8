package kaito

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
)

// What is answered for one InferenceSet at most, whoever writes ScaledObjects that
// name it.
const (
	// MaxTriggers bounds what is evaluated and measured. Version 0.6 wrote a
	// trigger for each of 16 metrics and a readiness gate; one more is of the
	// annotations that replace them.
	MaxTriggers = 18
	// MaxPages bounds the readings: each page is a GET of every pod in every
	// interval, and a history of its own.
	MaxPages = 4
	// MaxSLOs bounds what is learned: each pair of SLOs is an estimator of its own.
	MaxSLOs = 4
)

// limit is one of these bounds.
type limit uint8

const (
	within limit = iota
	tooManyTriggers
	tooManyPages
	tooManySLOs
)

// limits say in words what a trigger beyond them runs into.
var limits = [...]string{
	tooManyTriggers: fmt.Sprintf("%d triggers", MaxTriggers),
	tooManyPages:    fmt.Sprintf("%d pages (metricProtocol, metricPort, metricPath and scrapeTimeout together make one)", MaxPages),
	tooManySLOs:     fmt.Sprintf("%d pairs of ttftSLO and itlSLO", MaxSLOs),
}

// Admission is which triggers on an InferenceSet are answered: those of its own
// ScaledObject come first, and then those of the oldest.
type Admission struct {
	// Triggers are those, of ScaledObjects first: these have the bounds that are
	// in force.
	Triggers []policy.Trigger

	digests []uint64
	pages   []policy.Page
	slos    []policy.Saturation
	// exceeded are the limits that some trigger ran into.
	exceeded [len(limits)]bool
}

// Admit finds who asks for a fleet: the ScaledObjects that are there, and the
// annotations, for which there is one soon. It parses MaxLooked triggers at most,
// however many there are.
func Admit(ctx context.Context, c client.Reader, is InferenceSet) (Admission, error) {
	var list kedav1alpha1.ScaledObjectList
	// Copies of thousands would be a tenant's way to the memory.
	if err := c.List(ctx, &list, client.InNamespace(is.Namespace),
		client.MatchingFields{indexTrigger: is.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return Admission{}, fmt.Errorf("list ScaledObjects that name %s: %w", is.NamespacedName, err)
	}
	objects := make([]*kedav1alpha1.ScaledObject, len(list.Items))
	for i := range list.Items {
		objects[i] = &list.Items[i]
	}
	slices.SortFunc(objects, func(a, b *kedav1alpha1.ScaledObject) int {
		return cmp.Or(cmp.Compare(rank(a, is), rank(b, is)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var a Admission
	own, wanted := annotated(is)
	if wanted {
		a.reserve(own)
	}
	a.admit(is, objects)
	if wanted {
		a.Triggers = append(a.Triggers, own)
	}
	return a, nil
}

// rank is 0 for the InferenceSet's own ScaledObject, 1 for others.
func rank(so *kedav1alpha1.ScaledObject, is InferenceSet) int {
	if controller := metav1.GetControllerOfNoCopy(so); controller != nil && controller.UID == is.UID && so.Name == is.Name {
		return 0
	}
	return 1
}

// annotated is the trigger that the annotations ask for, if they do.
func annotated(is InferenceSet) (policy.Trigger, bool) {
	if wanted, err := policy.Wanted(is.Annotations); err != nil || !wanted {
		return policy.Trigger{}, false
	}
	// With bounds for one node in each replica, until the ScaledObject has them.
	p, _, err := policy.Parse(policy.Request{Annotations: is.Annotations, NodeCountLimit: is.NodeCountLimit})
	if err != nil {
		return policy.Trigger{}, false
	}
	return p.Trigger(is.Namespace, is.Name), true
}

// admit takes triggers of the objects in their order, as far as the limits go.
func (a *Admission) admit(is InferenceSet, objects []*kedav1alpha1.ScaledObject) {
	parsed := 0
	for _, so := range objects {
		if so.Annotations[CutScaledObject] != "" {
			a.exceeded[tooManyTriggers] = true
		}
		for i := range so.Spec.Triggers {
			if parsed == MaxParsed {
				a.exceeded[tooManyTriggers] = true
				return
			}
			t, ok := triggerOf(so, i)
			if !ok {
				continue
			}
			if parsed++; t.InferenceSet != is.Name {
				continue
			}
			if exceeded := a.limit(t); exceeded != within {
				a.exceeded[exceeded] = true
				continue
			}
			a.reserve(t)
			a.Triggers = append(a.Triggers, t)
		}
	}
}

// reserve counts a trigger that is within the limits.
func (a *Admission) reserve(t policy.Trigger) {
	if digest := t.Digest(); !slices.Contains(a.digests, digest) {
		a.digests = append(a.digests, digest)
	}
	if t.Page != policy.NoPage && !slices.Contains(a.pages, t.Page) {
		a.pages = append(a.pages, t.Page)
	}
	if slo := t.Learned(); slo != nil && !slices.Contains(a.slos, *slo) {
		a.slos = append(a.slos, *slo)
	}
}

// limit is what keeps a trigger from being answered beside those that are.
func (a *Admission) limit(t policy.Trigger) limit {
	slo := t.Learned()
	switch {
	case slices.Contains(a.digests, t.Digest()):
		return within
	case t.Page != policy.NoPage && len(a.pages) >= MaxPages && !slices.Contains(a.pages, t.Page):
		return tooManyPages
	case slo != nil && len(a.slos) >= MaxSLOs && !slices.Contains(a.slos, *slo):
		return tooManySLOs
	case len(a.digests) >= MaxTriggers:
		return tooManyTriggers
	}
	return within
}

// full tells whether any trigger is refused.
func (a *Admission) full() bool { return a.exceeded != [len(limits)]bool{} }

// Refused says in words why a trigger isn't answered, "" if it is.
func (a *Admission) Refused(t policy.Trigger) string {
	if !a.full() {
		return ""
	}
	exceeded := a.limit(t)
	if exceeded == within {
		// There is room for it, but not among those that were looked at.
		if slices.Contains(a.digests, t.Digest()) || !a.exceeded[tooManyTriggers] {
			return ""
		}
		exceeded = tooManyTriggers
	}
	return fmt.Sprintf("InferenceSet %s/%s has more triggers than are answered, and this one comes after %s, the most of one InferenceSet. "+
		"%s: delete ScaledObjects that aren't needed, or give this trigger what an older one has",
		t.Namespace, t.InferenceSet, limits[exceeded], order)
}

const order = "Its own ScaledObject's come first, then the oldest ScaledObject's"

// Message says in words, for the InferenceSet's owner, that some triggers aren't
// answered; "" if all are.
func (a *Admission) Message() string {
	var most []string
	for i, exceeded := range a.exceeded {
		if exceeded {
			most = append(most, limits[i])
		}
	}
	if len(most) == 0 {
		return ""
	}
	return fmt.Sprintf("not every trigger that names it is answered: there are more than %s. %s: delete those that aren't needed",
		strings.Join(most, ", and than "), order)
}
