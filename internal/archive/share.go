package archive

import (
	"slices"
	"strings"
)

// share picks the keys that fit into so many bytes, and those that don't. Each
// namespace gets as much as any other, unless it needs less, and within it each
// InferenceSet: nobody's entries evict those of a neighbour who keeps to its
// share. Of one InferenceSet the first keys are kept.
func share(keys []string, size func(key string) int, most int) (kept, left []string) {
	total := 0
	for _, key := range keys {
		total += size(key)
	}
	if total <= most {
		return keys, nil
	}
	var namespaces []*claim
	for _, key := range keys {
		namespace, rest, _ := strings.Cut(key, ".")
		name, _, _ := strings.Cut(rest, "_")
		set := part(&part(&namespaces, namespace).parts, name)
		set.keys = append(set.keys, key)
	}
	for total = 0; ; {
		namespace := poorest(namespaces)
		if namespace == nil {
			return kept, left
		}
		set := poorest(namespace.parts)
		key := set.keys[0]
		set.keys = set.keys[1:]
		n := size(key)
		if total+n > most {
			left = append(left, key)
			continue
		}
		kept = append(kept, key)
		total += n
		set.bytes += n
		namespace.bytes += n
	}
}

// claim is what a namespace, or an InferenceSet, asks for and has got.
type claim struct {
	name  string
	bytes int
	// parts are a namespace's InferenceSets, keys what an InferenceSet still asks
	// for.
	parts []*claim
	keys  []string
}

// part finds a claim by name, or adds it.
func part(claims *[]*claim, name string) *claim {
	i := slices.IndexFunc(*claims, func(c *claim) bool { return c.name == name })
	if i < 0 {
		i = len(*claims)
		*claims = append(*claims, &claim{name: name})
	}
	return (*claims)[i]
}

func (c *claim) asks() bool { return len(c.keys) > 0 || slices.ContainsFunc(c.parts, (*claim).asks) }

// poorest is the claim that has got least of those that ask for more; nil if none
// does.
func poorest(claims []*claim) *claim {
	var least *claim
	for _, c := range claims {
		if c.asks() && (least == nil || c.bytes < least.bytes) {
			least = c
		}
	}
	return least
}
