package main

import "sync/atomic"

// readiness is a question that can be asked before anybody knows the answer:
// health is served from the first moment, and the parts come later.
type readiness struct {
	answer atomic.Pointer[func() bool]
}

func (r *readiness) set(answer func() bool) { r.answer.Store(&answer) }

func (r *readiness) ready() bool {
	answer := r.answer.Load()
	return answer != nil && (*answer)()
}
