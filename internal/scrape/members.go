package scrape

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
	"github.com/kaito-project/keda-kaito-scaler/internal/policy"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// fleet is one InferenceSet. Its fields are guarded by the Reader's mu.
type fleet struct {
	key     types.NamespacedName
	desired int32
	// raised and lowered are when desired rose and fell before our eyes.
	raised, lowered time.Time
	// rises are the newest of the former. A snapshot of them is never written to.
	rises    []sample.Rise
	replicas []kaito.Replica
	// pages are those that anybody asks for. Nearly always it is one.
	pages []*pageSet
}

// onPage is the fleet's pageSet for that page, nil if nobody asked for it.
func (f *fleet) onPage(page policy.Page) *pageSet {
	for _, p := range f.pages {
		if p.page == page {
			return p
		}
	}
	return nil
}

// resize notes how many replicas are desired, and when that changed.
func (f *fleet) resize(desired int32, now time.Time) {
	switch {
	case desired > f.desired:
		f.raised = now
		f.rises = append(recent(f.rises, now), sample.Rise{At: now, From: f.desired})
	case desired < f.desired:
		f.lowered = now
	}
	f.desired = desired
}

// recent is a copy of the rises that a Fleet still remembers.
func recent(rises []sample.Rise, now time.Time) []sample.Rise {
	return slices.DeleteFunc(slices.Clone(rises), func(r sample.Rise) bool { return now.Sub(r.At) > sample.RisesLast })
}

// sharedSelector counts the pages that use it.
type sharedSelector struct {
	selector *selector
	users    int
}

// wish is the same for what the same selector serves. No name holds a newline.
func wish(reading policy.Reading) string {
	var b strings.Builder
	for _, name := range reading.Families {
		b.WriteString(name)
		if limit, brief := reading.Limits[name]; brief {
			fmt.Fprintf(&b, " beyond %g", limit)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
