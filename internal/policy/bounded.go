package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What is kept of users' texts. The API server takes 256 KiB of annotations and
// 1.5 MB of triggers of anybody, and the scaler keeps those of a whole cluster.
const (
	// maxValue bounds an annotation but for a metric list, which has maxListBytes.
	// The longest that makes sense is the name of a metric.
	maxValue = 1 << 10
	// maxUnknown is how many keys that don't exist are kept, to be refused by
	// name; maxTold of them are.
	maxUnknown = 2 * maxTold
	// MaxMetadata bounds a trigger's metadata, keys and values: a metric list and
	// 4 KiB for the rest.
	MaxMetadata = maxListBytes + 4<<10
)

// Bounded are the annotations that are read of an InferenceSet, each as far as it
// is read. Parse comes to the same with them: what is cut here is too long there.
func Bounded(annotations map[string]string) map[string]string {
	kept := make(map[string]string, len(known))
	for _, key := range known {
		value, given := annotations[Prefix+key]
		if !given {
			continue
		}
		if trimmed := strings.TrimSpace(value); key == keyMetrics && trimmed != value {
			value = strings.Clone(trimmed) // blanks around a list count for nothing
		}
		kept[Prefix+key] = cut(value, limitOf(key)+1)
	}
	unknown := 0
	for _, full := range slices.Sorted(maps.Keys(annotations)) {
		key, ours := strings.CutPrefix(full, Prefix)
		if !ours || slices.Contains(known, key) || strings.TrimSpace(annotations[full]) == "" {
			continue
		}
		if unknown++; unknown > maxUnknown {
			break
		}
		// A message has maxShown runes of it, and a sign that there are more.
		kept[full] = cut(annotations[full], 4*(maxShown+1))
	}
	return kept
}

// limitOf is how many bytes an annotation may have.
func limitOf(key string) int {
	if key == keyMetrics {
		return maxListBytes
	}
	return maxValue
}

// cut is a text of that many bytes at most, without holding on to the others. What
// was cut ends with a sign of it, and not with a blank, which would count for nothing.
func cut(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	const more = "…"
	return text[:bytes-len(more)] + more
}

// tooLong refuses annotations that Bounded may have cut. A list says so itself.
func (p *parser) tooLong() {
	for _, key := range known {
		if value := p.values[p.prefix+key]; key != keyMetrics && len(value) > maxValue {
			p.refuse(key, value, fmt.Sprintf("must have at most %d bytes", maxValue))
		}
	}
}

// MetadataSize is what MaxMetadata bounds.
func MetadataSize(metadata map[string]string) int {
	size := 0
	for key, value := range metadata {
		size += len(key) + len(value)
	}
	return size
}
