// Package checkpoint keeps what was learned of InferenceSets in a few ConfigMaps of
// the scaler's own namespace: some bytes for each, which it doesn't look into, by a
// key that begins with "namespace.name_".
// The leader writes, every replica reads.
package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kaito-project/keda-kaito-scaler/internal/kube"
)

const (
	// Shards is how many ConfigMaps there are. RBAC names each of them.
	Shards = 8
	// prefix of their names, before the number.
	prefix = "keda-kaito-scaler-learned-"
	// MaxEntry bounds what is kept of one InferenceSet, in bytes.
	MaxEntry = 8 << 10
	// maxShard bounds a ConfigMap's data. The API server takes 1 MiB.
	maxShard = 900 << 10
)

// Store is the ConfigMaps. It is for one goroutine at a time.
type Store struct {
	// Reader reads from the API server itself: a cache would need the rights to
	// list and to watch.
	Reader client.Reader
	Writer client.Writer
	// Namespace is the scaler's own.
	Namespace string
	// there is what each shard had when this process read or wrote it last, so
	// that nothing is written that is there already.
	there [Shards]map[string][]byte
}

// maxKey is the longest key that a ConfigMap takes.
const maxKey = 253

// name is a shard's.
func name(shard int) string { return prefix + strconv.Itoa(shard) }

// shardOf is where an entry is kept.
func shardOf(key string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key))
	return int(hash.Sum32() % Shards)
}

// Load reads all entries. What is too long to be ours is left out. A ConfigMap
// that isn't there has none; the error is of those that can't be read.
func (a *Store) Load(ctx context.Context) (map[string][]byte, error) {
	entries := map[string][]byte{}
	var errs []error
	for shard := range Shards {
		var object corev1.ConfigMap
		err := a.Reader.Get(ctx, client.ObjectKey{Namespace: a.Namespace, Name: name(shard)}, &object)
		if client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("read ConfigMap %s/%s: %w", a.Namespace, name(shard), err))
			continue
		}
		a.there[shard] = object.BinaryData
		for key, data := range object.BinaryData {
			if len(data) <= MaxEntry && shardOf(key) == shard {
				entries[key] = data
			}
		}
	}
	return entries, errors.Join(errs...)
}

// Save makes the entries all that is kept. It writes the ConfigMaps that would
// have other data than when they were read or written last; one without entries
// isn't made. It returns the keys of those that were left out: what is too long,
// and where not all fit, the later in the order of each namespace's share.
func (a *Store) Save(ctx context.Context, entries map[string][]byte, order []string) (left []string, err error) {
	var keys [Shards][]string
	for _, key := range order {
		if data := entries[key]; len(data) > MaxEntry || len(key) > maxKey {
			left = append(left, key)
			continue
		}
		shard := shardOf(key)
		keys[shard] = append(keys[shard], key)
	}
	var shards [Shards]map[string][]byte
	for shard := range Shards {
		kept, out := share(keys[shard], func(key string) int { return len(key) + len(entries[key]) }, maxShard)
		left = append(left, out...)
		for _, key := range kept {
			if shards[shard] == nil {
				shards[shard] = map[string][]byte{}
			}
			shards[shard][key] = entries[key]
		}
	}
	var errs []error
	for shard, data := range shards {
		if maps.EqualFunc(data, a.there[shard], slices.Equal) {
			continue
		}
		// An apply, because RBAC can hold a patch to a name, and a POST it can't.
		object := corev1apply.ConfigMap(name(shard), a.Namespace).WithBinaryData(data).
			WithLabels(map[string]string{kube.ManagedByLabel: kube.Name})
		if err := a.Writer.Apply(ctx, object, kube.FieldOwner, client.ForceOwnership); err != nil {
			errs = append(errs, fmt.Errorf("write ConfigMap %s/%s: %w", a.Namespace, name(shard), err))
			continue
		}
		a.there[shard] = data
	}
	return left, errors.Join(errs...)
}
