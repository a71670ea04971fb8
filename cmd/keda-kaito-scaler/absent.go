package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// absent says in words why nothing is read of an InferenceSet that a trigger
// names.
func (p *program) absent(ctx context.Context, key types.NamespacedName) string {
	watched := p.options.watchNamespaces
	if len(watched) > 0 && !slices.Contains(watched, key.Namespace) {
		return fmt.Sprintf("nothing is read in namespace %s: --watch-namespaces names %s", key.Namespace, strings.Join(watched, ", "))
	}
	if _, found := p.cached.inferenceSet(ctx, key); !found {
		return fmt.Sprintf("InferenceSet %s does not exist, or was made just now", key)
	}
	return fmt.Sprintf("InferenceSet %s exists, but no ScaledObject of its namespace is known to have this trigger, so that its pods are not read for it: "+
		"if the ScaledObject was made or changed just now, they are in a moment", key)
}
