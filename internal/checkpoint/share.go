package checkpoint

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
	var namespaces []*request
	for _, key := range keys {
		namespace, rest, _ := strings.Cut(key, ".")
		name, _, _ := strings.Cut(rest, "_")
		set := part(&part(&namespaces, namespace).parts, name)
		set.keys = append(set.keys, key)
	}
	for total = 0; ; {
		namespace := leastServed(namespaces)
		if namespace == nil {
			return kept, left
		}
		set := leastServed(namespace.parts)
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

// request is what a namespace, or an InferenceSet, asks for and has got.
type request struct {
	name  string
	bytes int
	// parts are a namespace's InferenceSets, keys what an InferenceSet still asks
	// for.
	parts []*request
	keys  []string
}

// part finds a claim by name, or adds it.
func part(claims *[]*request, name string) *request {
	i := slices.IndexFunc(*claims, func(c *request) bool { return c.name == name })
	if i < 0 {
		i = len(*claims)
		*claims = append(*claims, &request{name: name})
	}
	return (*claims)[i]
}

func (c *request) waits() bool {
	return len(c.keys) > 0 || slices.ContainsFunc(c.parts, (*request).waits)
}

// leastServed is the claim that has got least of those that ask for more; nil if none
// does.
func leastServed(claims []*request) *request {
	var least *request
	for _, c := range claims {
		if c.waits() && (least == nil || c.bytes < least.bytes) {
			least = c
		}
	}
	return least
}
