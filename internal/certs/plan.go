package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

var (
	errNoNext   = errors.New("there is no next CA")
	errNoSigner = errors.New("there is no CA with a key")
)

// Op is what a step does.
type Op uint8

const (
	// None does nothing: everything is as it should be.
	None Op = iota
	// CreateCA makes a CA from nothing.
	CreateCA
	// SettleCA rewrites the CA's Secret without what makes no sense in it.
	SettleCA
	// StageCA makes the next CA and keeps it beside the one that signs.
	StageCA
	// MarkPublished notes that the next CA stands in every ca.crt.
	MarkPublished
	// PromoteCA lets the next CA sign and keeps the one before it as a root.
	PromoteCA
	// MarkPromoted notes since when retired roots are retired.
	MarkPromoted
	// RetireCA drops the roots of former CAs.
	RetireCA
	// IssueServer makes a new leaf for the server.
	IssueServer
	// IssueClient makes a new leaf for KEDA.
	IssueClient
	// PublishServer keeps the server's leaf and brings the roots and the chain
	// beside it up to date.
	PublishServer
	// PublishClient does the same for KEDA's.
	PublishClient
)

var opNames = [...]string{
	None: "None", CreateCA: "CreateCA", SettleCA: "SettleCA", StageCA: "StageCA", MarkPublished: "MarkPublished",
	PromoteCA: "PromoteCA", MarkPromoted: "MarkPromoted", RetireCA: "RetireCA", IssueServer: "IssueServer",
	IssueClient: "IssueClient", PublishServer: "PublishServer", PublishClient: "PublishClient",
}

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return fmt.Sprintf("Op(%d)", o)
}

// Secret is the name of the only Secret that the step writes.
func (o Op) Secret() string {
	switch o {
	case IssueServer, PublishServer:
		return ServerSecret
	case IssueClient, PublishClient:
		return ClientSecret
	case CreateCA, SettleCA, StageCA, MarkPublished, PromoteCA, MarkPromoted, RetireCA:
		return CASecret
	case None:
	}
	return ""
}

// Step is one change to one Secret.
type Step struct {
	Op Op
	// Why is for a person.
	Why string
}

// Plan is what to do now, and when to look again.
type Plan struct {
	// Step is the next thing to do; Op None if there is nothing.
	Step Step
	// Wake is when something will be due if nobody touches the Secrets. Only
	// with Op None.
	Wake time.Time
	// CA and Client are in use; nil if there is nothing in use.
	CA, Client *x509.Certificate
}

// Plan says which step brings b nearer to a state in which nothing is to be
// done. It is pure: the same arguments give the same plan. Carry the step out
// (Apply), write the Secret, and ask again.
func (r Rules) Plan(b Bundle, now time.Time) Plan {
	t := readTrust(b, now)
	leaves := [2]leaf{
		forServer: r.readLeaf(b.Server, forServer, t, now),
		forClient: r.readLeaf(b.Client, forClient, t, now),
	}
	var p Plan
	if t.active != nil {
		p.CA = t.active.cert
	}
	p.Client = leaves[forClient].cert

	for _, find := range []func() Step{
		func() Step { return r.planAuthority(b, t, leaves, now) },
		func() Step { return planLeaf(b.Client, forClient, leaves[forClient], t) },
		func() Step { return planLeaf(b.Server, forServer, leaves[forServer], t) },
		func() Step { return r.planRotation(t, now) },
	} {
		if p.Step = find(); p.Step.Op != None {
			return p
		}
	}
	p.Wake = r.wake(t, leaves)
	return p
}

// planAuthority sees to it that there is a CA which can sign what has to be
// signed, and a successor when its time comes.
func (r Rules) planAuthority(b Bundle, t trust, leaves [2]leaf, now time.Time) Step {
	if t.active == nil {
		if t.next != nil {
			return Step{PromoteCA, "there is no CA in working order but the next one"}
		}
		return Step{CreateCA, "there is no CA in working order"}
	}
	keyless := t.active.key == nil
	if t.next == nil {
		if keyless {
			return Step{StageCA, "the CA's key is lost"}
		}
		if !now.Before(renewAt(t.active.cert)) {
			return Step{StageCA, fmt.Sprintf("two thirds of the CA's life until %s are over", t.active.cert.NotAfter.Format(time.RFC3339))}
		}
	}
	if keyless {
		for _, role := range []role{forServer, forClient} {
			if leaves[role].problem != "" {
				return Step{PromoteCA, fmt.Sprintf("the CA's key is lost and the %s needs a certificate: %s", role, leaves[role].problem)}
			}
		}
	}
	if want, err := t.data(); err != nil || !want.Equal(b.CA) {
		return Step{SettleCA, "the CA's Secret is damaged in part"}
	}
	return Step{}
}

// planServer is the next step for what the scaler serves, while the client's
// Secret is out of reach: a rotation has to wait for that.
func (r Rules) planServer(b Bundle, now time.Time) Step {
	t := readTrust(b, now)
	switch {
	case t.active == nil && t.next == nil:
		return Step{CreateCA, "there is no CA in working order"}
	case t.active == nil || t.active.key == nil:
		return Step{}
	}
	if want, err := t.data(); err != nil || !want.Equal(b.CA) {
		return Step{SettleCA, "the CA's Secret is damaged in part"}
	}
	return planLeaf(b.Server, forServer, r.readLeaf(b.Server, forServer, t, now), t)
}

func planLeaf(d Data, role role, l leaf, t trust) Step {
	issue, publish := IssueServer, PublishServer
	if role == forClient {
		issue, publish = IssueClient, PublishClient
	}
	if l.problem != "" {
		return Step{issue, fmt.Sprintf("the %s's certificate: %s", role, l.problem)}
	}
	if want, err := l.data(t); err != nil || !want.Equal(d) {
		return Step{publish, fmt.Sprintf("the roots beside the %s's certificate changed", role)}
	}
	return Step{}
}

// planRotation moves a rotation on. Every ca.crt is up to date when it is asked.
func (r Rules) planRotation(t trust, now time.Time) Step {
	switch {
	case t.next != nil && t.published.IsZero():
		return Step{MarkPublished, fmt.Sprintf("the next CA stands in every ca.crt; it will sign in %s", r.Overlap)}
	case t.next != nil && !now.Before(r.promoteAt(t)):
		return Step{PromoteCA, fmt.Sprintf("the next CA is known since %s", t.published.Format(time.RFC3339))}
	case len(t.retired) > 0 && t.promoted.IsZero():
		return Step{MarkPromoted, fmt.Sprintf("former CAs are trusted for another %s", r.LeafLife)}
	case len(t.retired) > 0 && !now.Before(r.retireAt(t)):
		return Step{RetireCA, "no certificate of a former CA is valid any more"}
	}
	return Step{}
}

// promoteAt is when the next CA takes over. A CA near its end isn't waited for:
// its leaves would last shorter and shorter.
func (r Rules) promoteAt(t trust) time.Time {
	return earlier(t.published.Add(r.Overlap), t.active.cert.NotAfter.Add(-r.Overlap))
}

// retireAt is when every leaf that a former CA signed has expired: the last of
// them is no younger than the promotion.
func (r Rules) retireAt(t trust) time.Time {
	return t.promoted.Add(r.LeafLife + time.Second)
}

func (r Rules) wake(t trust, leaves [2]leaf) time.Time {
	at := earlier(renewAt(leaves[forServer].cert), renewAt(leaves[forClient].cert))
	for _, l := range leaves {
		if l.cert.CheckSignatureFrom(t.active.cert) != nil {
			at = earlier(at, r.formerCAEndsAt(t))
		}
	}
	if t.next != nil {
		at = earlier(at, r.promoteAt(t))
	} else {
		at = earlier(at, renewAt(t.active.cert))
	}
	if len(t.retired) > 0 {
		at = earlier(at, r.retireAt(t))
		for _, old := range t.retired {
			at = earlier(at, old.NotAfter)
		}
	}
	return at
}

// Apply carries out a step of the plan for b and now: it returns b with the one
// Secret changed that the step names, and leaves b itself alone.
func (r Rules) Apply(b Bundle, step Step, now time.Time) (Bundle, error) {
	t := readTrust(b, now)
	var err error
	switch step.Op {
	case None:
	case IssueServer, PublishServer:
		b.Server, err = r.applyLeaf(b.Server, forServer, step.Op == IssueServer, t, now)
	case IssueClient, PublishClient:
		b.Client, err = r.applyLeaf(b.Client, forClient, step.Op == IssueClient, t, now)
	case CreateCA, SettleCA, StageCA, MarkPublished, PromoteCA, MarkPromoted, RetireCA:
		b.CA, err = r.applyTrust(step.Op, t, now)
	}
	if err != nil {
		return Bundle{}, fmt.Errorf("%s: %w", step.Op, err)
	}
	return b, nil
}

func (r Rules) applyTrust(op Op, t trust, now time.Time) (Data, error) {
	var err error
	switch op {
	case CreateCA:
		t.active, err = newAuthority(r.CALife, now)
	case StageCA:
		t.next, err = newAuthority(r.CALife, now)
		t.published = time.Time{}
	case MarkPublished:
		t.published = now
	case PromoteCA:
		t, err = t.promote(now)
	case MarkPromoted:
		t.promoted = now
	case RetireCA:
		t.retired, t.cross, t.promoted = nil, nil, time.Time{}
	case None, SettleCA, IssueServer, IssueClient, PublishServer, PublishClient:
	}
	if err != nil {
		return nil, err
	}
	return t.data()
}

func (t trust) promote(now time.Time) (trust, error) {
	if t.next == nil {
		return t, errNoNext
	}
	old := t.active
	t.active, t.next, t.cross = t.next, nil, nil
	t.published, t.promoted = time.Time{}, now
	if old == nil {
		return t, nil
	}
	t.retired = append([]*x509.Certificate{old.cert}, t.retired...)
	t.retired = t.retired[:min(len(t.retired), maxRetired)]
	if old.key == nil {
		return t, nil
	}
	var err error
	t.cross, err = old.crossSign(t.active.cert, now)
	return t, err
}

func (r Rules) applyLeaf(d Data, role role, issue bool, t trust, now time.Time) (Data, error) {
	l := r.readLeaf(d, role, t, now)
	if issue {
		if t.active == nil || t.active.key == nil {
			return nil, errNoSigner
		}
		var err error
		if l.cert, l.key, err = t.active.issue(role, role.subjects(r.Names), r.LeafLife, now); err != nil {
			return nil, err
		}
	} else if l.problem != "" {
		return nil, fmt.Errorf("publishing beside the %s's certificate: %s", role, l.problem)
	}
	return l.data(t)
}
