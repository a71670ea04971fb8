package certs

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawRules(t *rapid.T) Rules {
	life := time.Duration(rapid.Int64Range(3, int64(400*day/time.Second)).Draw(t, "leaf life in s")) * time.Second
	ca := life * time.Duration(rapid.IntRange(caLives, caLives+3).Draw(t, "lives of a CA"))
	overlap := max(time.Second, life*time.Duration(rapid.IntRange(1, 100).Draw(t, "overlap in % of a life"))/100)
	return Rules{Names: testNames, LeafLife: life, CALife: ca, Overlap: overlap}
}

// Whoever holds material that is not past its end can talk to whoever else
// does, however old the one and new the other, at every step of a CA's life: KEDA that
// read its Secret a while ago, a replica that is cut off from the API server.
func TestOldAndNewTalkThroughRotations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, drawRules(t))
		w.settle()
		// The years before the CA's turn tell nothing new.
		w.after(renewAt(leafOf(t, w.bundle.CA)).Sub(w.now) - w.rules.LeafLife).settle()

		type held struct{ client, server []Data }
		h := held{client: []Data{w.bundle.Client}, server: []Data{w.bundle.Server}}
		rotated := false
		fresh := func(all []Data, latest Data) []Data {
			all = slices.DeleteFunc(all, func(d Data) bool { return !w.now.Before(leafOf(t, d).NotAfter) })
			if latest != nil && !slices.ContainsFunc(all, latest.Equal) {
				all = append(all, latest)
			}
			return all
		}
		w.seen = func(s Step) {
			if s.Op == RetireCA {
				rotated = true
			}
			h = held{client: fresh(h.client, w.bundle.Client), server: fresh(h.server, w.bundle.Server)}
			// Those that didn't change have talked before.
			for _, c := range h.client {
				if s.Op.Secret() == ServerSecret {
					w.wantTalk(c, w.bundle.Server)
				}
			}
			for _, server := range h.server {
				if s.Op.Secret() == ClientSecret {
					w.wantTalk(w.bundle.Client, server)
				}
			}
		}
		// The leader is never away for longer than a quarter of what is left of
		// a leaf at its renewal.
		lag := int64(w.rules.LeafLife / 12)
		for range 1000 {
			wait := max(w.plan().Wake.Sub(w.now), 0) + time.Duration(rapid.Int64Range(0, lag).Draw(t, "lag"))
			w.after(wait).settle()
			if rotated {
				return
			}
		}
		t.Fatalf("no rotation in 1000 wakes")
	})
}

// From anything that may stand in the Secrets, a few steps lead to rest, and
// KEDA and server can talk.
func TestConvergesFromAnyDamage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, NewRules(testNames, 0))
		w.settle()
		foreign := w.bundle
		w.bundle = Bundle{}
		w.settle()
		// At rest, staged, promoted or retired.
		for range rapid.IntRange(0, 16).Draw(t, "wakes") {
			w.after(w.plan().Wake.Sub(w.now)).settle()
		}
		// Or between two steps.
		w.after(max(w.plan().Wake.Sub(w.now), 0))
		for range rapid.IntRange(0, 3).Draw(t, "steps") {
			w.step()
		}

		for range rapid.IntRange(1, 6).Draw(t, "damages") {
			damage(t, &w.bundle, foreign)
		}
		w.after(time.Duration(rapid.Int64Range(0, int64(day)).Draw(t, "later")))
		if p := w.plan(); !reflect.DeepEqual(p, w.plan()) {
			t.Fatalf("the same state gave two plans")
		}
		if ops := w.settle(); len(ops) > 10 {
			t.Fatalf("%d steps: %v", len(ops), ops)
		}
		w.wantTalk(w.bundle.Client, w.bundle.Server)
		for _, d := range []Data{w.bundle.CA, w.bundle.Server, w.bundle.Client} {
			if roots, err := decodeCerts(d[keyRoots]); err != nil || len(roots) > 2+maxRetired {
				t.Fatalf("%d roots (%v)", len(roots), err)
			}
		}
		if wake := w.plan().Wake; !wake.After(w.now) {
			t.Fatalf("at rest, but wakes at %s, now is %s", wake, w.now)
		}
	})
}

// damage does one bad thing to one Secret.
func damage(t *rapid.T, b *Bundle, foreign Bundle) {
	all := []*Data{&b.CA, &b.Server, &b.Client}
	others := []Data{foreign.CA, foreign.Server, foreign.Client, b.CA, b.Server, b.Client}
	victim := rapid.SampledFrom(all).Draw(t, "victim")
	other := rapid.SampledFrom(others).Draw(t, "other")
	keys := []string{keyRoots, keyCert, keyKey, keyNextCert, keyNextKey, keyCross, keyPublished, keyPromoted, "junk"}
	key := rapid.SampledFrom(keys).Draw(t, "key")
	value := slices.Clone((*victim)[key])
	switch rapid.SampledFrom([]string{"delete", "wipe", "drop", "truncate", "flip", "replace", "move", "text", "double"}).Draw(t, "damage") {
	case "delete":
		*victim = nil
		return
	case "wipe":
		*victim = Data{}
		return
	case "replace":
		*victim = maps.Clone(other)
		return
	case "drop":
		value = nil
	case "truncate":
		value = value[:rapid.IntRange(0, len(value)).Draw(t, "length")]
	case "flip":
		if len(value) > 0 {
			value[rapid.IntRange(0, len(value)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		}
	case "move":
		value = other[rapid.SampledFrom(keys).Draw(t, "from")]
	case "text":
		value = []byte(rapid.StringN(0, 200, -1).Draw(t, "text"))
	case "double":
		value = append(value, value...)
	}
	*victim = victim.with(Data{key: value})
}

// Reading and writing the CA's Secret is the identity on all that a rotation
// goes through.
func TestTrustReadsWhatItWrites(t *testing.T) {
	w := newWorld(t, NewRules(testNames, 300*day))
	seen := map[Op]bool{}
	w.seen = func(s Step) {
		seen[s.Op] = true
		got, err := readTrust(w.bundle, w.now).data()
		if err != nil || !got.Equal(w.bundle.CA) {
			t.Fatalf("after %s: the CA's Secret reads as something else (%v)", s.Op, err)
		}
	}
	w.settle()
	for w.now.Before(dayOne.Add(12 * 365 * day)) {
		w.after(w.plan().Wake.Sub(w.now)).settle()
	}
	for _, op := range []Op{CreateCA, StageCA, MarkPublished, PromoteCA, RetireCA, IssueServer, IssueClient, PublishServer, PublishClient} {
		if !seen[op] {
			t.Errorf("%s was never needed", op)
		}
	}
}
