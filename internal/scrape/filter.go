package scrape

import (
	"slices"
	"time"
)

// nameFilter decides whether a pod is asked for the wanted families alone, which
// prometheus_client's own server understands, or for its whole page; and when all
// names of a page that lacks a wanted family are looked at.
type nameFilter struct {
	// wanted is how many wanted families a whole page had that was read with selector.
	wanted   int
	selector *selector
	// off is set for good once a page had less for being filtered, or the pod couldn't
	// bear a query.
	off bool
	// missing is set while the newest page lacks a wanted family. names were on the
	// whole page that was read at namesAt with namesOf.
	missing bool
	names   []string
	namesOf *selector
	namesAt time.Time
}

// query is what to ask with: nothing until a whole page has been read, so that it is
// known what a filter must not cost.
func (f *nameFilter) query(sel *selector, now time.Time) string {
	if f.off || f.selector != sel || f.missing && f.namesDue(sel, now) {
		return ""
	}
	return sel.query
}

// sawWhole notes what a whole page has.
func (f *nameFilter) sawWhole(p *reading, sel *selector) {
	if !f.off {
		f.wanted, f.selector = p.onPage(), sel
	}
}

// unbearable are the failures that a query may be to blame for.
var unbearable = []Reason{Status, Redirect, BadContent, BadHTTP, NotVLLM, ModelLoading}

// harms tells whether a filtered page has less than a whole one, or failed in a way
// that the query may be to blame for. The pod isn't asked with one again.
func (f *nameFilter) harms(p *reading, err error) bool {
	f.off = err == nil && p.onPage() < f.wanted || slices.Contains(unbearable, failureOf(err).reason())
	return f.off
}

// namesEvery is how often the names of a page that lacks a family are looked at
// again: what is asked for in vain may still come.
const namesEvery = time.Minute

func (f *nameFilter) namesDue(sel *selector, now time.Time) bool {
	return f.namesOf != sel || now.Sub(f.namesAt) >= namesEvery
}

// addNames gives a sample that lacks a wanted family the names that are on its page.
// They come from a page that was read whole.
func (f *nameFilter) addNames(p *reading, sel *selector, now time.Time) {
	if f.missing = p.missing; !f.missing {
		f.names, f.namesOf = nil, nil
		return
	}
	if p.names != nil {
		f.names, f.namesOf, f.namesAt = p.names, sel, now
	}
	p.sample.Names = f.names
}
