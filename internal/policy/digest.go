package policy

import (
	"hash/fnv"
	"maps"
	"slices"
)

// Digest tells triggers on one InferenceSet apart that differ in what they ask
// for: it is of all that their metadata says, which TestATriggerSurvivesItsMetadata
// holds to be everything. Bounds are left out: another maximum makes no other
// trigger.
func (t Trigger) Digest() uint64 {
	t.Bounds = Bounds{}
	metadata := t.Metadata("")
	hash := fnv.New64a()
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		_, _ = hash.Write([]byte(key + "\x00" + metadata[key] + "\x00"))
	}
	return hash.Sum64()
}
