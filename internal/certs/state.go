package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Data is the data of a Secret; nil: there is no such Secret.
type Data map[string][]byte

// Equal says whether both hold the same keys with the same bytes.
func (d Data) Equal(o Data) bool { return maps.EqualFunc(d, o, bytes.Equal) }

// Bundle is what the three Secrets hold at one time.
type Bundle struct {
	CA, Server, Client Data
}

// The keys of the Secrets' data. Leaves have the first three; ca.crt holds all
// roots that are trusted, also in the CA's own Secret.
const (
	keyRoots = "ca.crt"
	keyCert  = "tls.crt"
	keyKey   = "tls.key"

	// next is a CA that is published, but doesn't sign yet.
	keyNextCert = "next.crt"
	keyNextKey  = "next.key"
	// cross is the CA's certificate signed by the CA before it.
	keyCross = "cross.crt"
	// published is when next stood in every ca.crt, promoted is when the CA
	// took over from those before it. RFC 3339, UTC.
	keyPublished = "published-at"
	keyPromoted  = "promoted-at"
)

// maxRetired bounds the roots that stay trusted after they were replaced: one
// of a planned rotation, one of an accident meanwhile.
const maxRetired = 2

// trust is what the CA's Secret says, with everything left out that makes no
// sense. Reading and writing it again (read, then data) repairs the Secret.
type trust struct {
	// active signs. nil: there is none; its key nil: the key was lost.
	active *authority
	// next is published, waiting to become active; nil outside of a rotation.
	next *authority
	// retired were active before and are still trusted, latest first.
	retired []*x509.Certificate
	// cross is active's certificate signed by one of retired; nil if there is
	// nobody left to convince.
	cross *x509.Certificate
	// published and promoted are zero if unknown or without meaning.
	published, promoted time.Time
}

// roots are all that is trusted, in the order of their importance.
func (t trust) roots() []*x509.Certificate {
	var roots []*x509.Certificate
	if t.active != nil {
		roots = append(roots, t.active.cert)
	}
	if t.next != nil {
		roots = append(roots, t.next.cert)
	}
	return append(roots, t.retired...)
}

func (t trust) data() (Data, error) {
	d := Data{keyRoots: encodeCerts(t.roots()...)}
	for _, a := range []struct {
		authority *authority
		cert, key string
	}{{t.active, keyCert, keyKey}, {t.next, keyNextCert, keyNextKey}} {
		if a.authority == nil {
			continue
		}
		d[a.cert] = encodeCerts(a.authority.cert)
		if a.authority.key == nil {
			continue
		}
		text, err := encodeKey(a.authority.key)
		if err != nil {
			return nil, err
		}
		d[a.key] = text
	}
	if t.cross != nil {
		d[keyCross] = encodeCerts(t.cross)
	}
	if !t.published.IsZero() {
		d[keyPublished] = []byte(t.published.UTC().Format(time.RFC3339))
	}
	if !t.promoted.IsZero() {
		d[keyPromoted] = []byte(t.promoted.UTC().Format(time.RFC3339))
	}
	return d, nil
}

// readTrust makes the best of the CA's Secret. The leaves' Secrets help where
// the CA's own was destroyed: a root that is in use there is kept, so that the
// leaves stay good until their successors are everywhere.
func readTrust(b Bundle, now time.Time) trust {
	var t trust
	known := usableRoots(b.CA[keyRoots], now)
	if len(known) == 0 && len(usableRoots(b.CA[keyCert], now)) == 0 {
		// The CA's Secret is gone: the roots are those that serve.
		known = rootsInUse(b, now)
	}
	key, _ := decodeKey(b.CA[keyKey])
	t.active = readActive(b, key, known, now)

	next := usableRoots(b.CA[keyNextCert], now)
	nextKey, _ := decodeKey(b.CA[keyNextKey])
	if len(next) > 0 && belongs(nextKey, next[0]) && (t.active == nil || !next[0].Equal(t.active.cert)) {
		t.next = &authority{cert: next[0], key: nextKey}
		t.published = readTime(b.CA[keyPublished], now)
	}

	current := t.roots()
	for _, root := range known {
		if len(t.retired) < maxRetired && !slices.ContainsFunc(current, root.Equal) {
			t.retired = append(t.retired, root)
		}
	}
	if len(t.retired) == 0 {
		return t
	}
	t.promoted = readTime(b.CA[keyPromoted], now)
	t.cross = readCross(b.CA[keyCross], t, now)
	return t
}

func readActive(b Bundle, key *ecdsa.PrivateKey, known []*x509.Certificate, now time.Time) *authority {
	if certs := usableRoots(b.CA[keyCert], now); len(certs) > 0 {
		if !belongs(key, certs[0]) {
			key = nil
		}
		return &authority{cert: certs[0], key: key}
	}
	// The certificate was damaged, but it stands among the roots too.
	for _, root := range known {
		if belongs(key, root) {
			return &authority{cert: root, key: key}
		}
	}
	// Nothing is left but what the leaves say.
	for _, root := range slices.Concat(known, usableRoots(b.Server[keyRoots], now)) {
		if inUse(root, b, now) {
			return &authority{cert: root}
		}
	}
	return nil
}

// rootsInUse are those that the server's Secret trusts and that signed a leaf in
// working order: they are known though the CA's Secret is gone.
func rootsInUse(b Bundle, now time.Time) []*x509.Certificate {
	return slices.DeleteFunc(usableRoots(b.Server[keyRoots], now), func(root *x509.Certificate) bool { return !inUse(root, b, now) })
}

func inUse(root *x509.Certificate, b Bundle, now time.Time) bool {
	return signed(root, b.Server, forServer, now) || signed(root, b.Client, forClient, now)
}

// signed says whether d holds a leaf in working order that root signed.
func signed(root *x509.Certificate, d Data, role role, now time.Time) bool {
	certs, err := decodeCerts(d[keyCert])
	if err != nil {
		return false
	}
	key, _ := decodeKey(d[keyKey])
	leaf := certs[0]
	return belongs(key, leaf) && leaf.CheckSignatureFrom(root) == nil &&
		slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{role.usage()}) &&
		leaf.Subject.CommonName == role.commonName() &&
		!now.Before(leaf.NotBefore) && now.Before(leaf.NotAfter)
}

func readCross(text []byte, t trust, now time.Time) *x509.Certificate {
	certs, err := decodeCerts(text)
	if err != nil || t.active == nil || !now.Before(certs[0].NotAfter) {
		return nil
	}
	cross := certs[0]
	active := t.active.cert
	if !bytes.Equal(cross.RawSubject, active.RawSubject) || !bytes.Equal(cross.RawSubjectPublicKeyInfo, active.RawSubjectPublicKeyInfo) {
		return nil
	}
	for _, old := range t.retired {
		if cross.CheckSignatureFrom(old) == nil {
			return cross
		}
	}
	return nil
}

func usableRoots(text []byte, now time.Time) []*x509.Certificate {
	// The certificates before a damaged one are as good as ever.
	certs, _ := decodeCerts(text)
	return slices.DeleteFunc(certs, func(c *x509.Certificate) bool {
		return authorityProblem(c, now) != ""
	})
}

// readTime takes a time of the future for damage: it would make us wait for it.
func readTime(text []byte, now time.Time) time.Time {
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil || at.After(now.Add(Backdate)) {
		return time.Time{}
	}
	return at
}

// leaf is what a leaf's Secret says.
type leaf struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// problem is why the leaf has to be made anew; "" if it needn't.
	problem string
}

// data is how the Secret of a leaf has to look under t.
func (l leaf) data(t trust) (Data, error) {
	chain := []*x509.Certificate{l.cert}
	if t.cross != nil {
		chain = append(chain, t.cross)
	}
	key, err := encodeKey(l.key)
	if err != nil {
		return nil, err
	}
	return Data{keyRoots: encodeCerts(t.roots()...), keyCert: encodeCerts(chain...), keyKey: key}, nil
}

func (r Rules) readLeaf(d Data, role role, t trust, now time.Time) leaf {
	if d == nil {
		return leaf{problem: "there is no Secret"}
	}
	certs, err := decodeCerts(d[keyCert])
	if err != nil {
		return leaf{problem: fmt.Sprintf("%s %v", keyCert, err)}
	}
	key, err := decodeKey(d[keyKey])
	if err != nil {
		return leaf{problem: fmt.Sprintf("%s %v", keyKey, err)}
	}
	l := leaf{cert: certs[0], key: key}
	l.problem = r.leafProblem(l, role, t, now)
	return l
}

func (r Rules) leafProblem(l leaf, role role, t trust, now time.Time) string {
	want := role.subjects(r.Names)
	have := subjects{dns: l.cert.DNSNames, ips: l.cert.IPAddresses}
	public, ok := l.cert.PublicKey.(*ecdsa.PublicKey)
	issued := l.cert.NotBefore.Add(Backdate)
	switch {
	case !belongs(l.key, l.cert):
		return "the key is not the certificate's"
	case !ok || public.Curve != elliptic.P256():
		return "the key is not ECDSA P-256"
	case t.active == nil || (l.cert.CheckSignatureFrom(t.active.cert) != nil && !r.servesUnderFormerCA(l.cert, t, now)):
		return "the CA did not sign it"
	case l.cert.IsCA || !slices.Equal(l.cert.ExtKeyUsage, []x509.ExtKeyUsage{role.usage()}):
		return fmt.Sprintf("it is no certificate for a %s", role)
	case l.cert.Subject.CommonName != role.commonName():
		return fmt.Sprintf("it is for %q: must be for %q", l.cert.Subject.CommonName, role.commonName())
	case !have.equal(want):
		return fmt.Sprintf("its names are %s: must be %s", have, want)
	case now.Before(l.cert.NotBefore):
		return "it is not valid before " + l.cert.NotBefore.Format(time.RFC3339)
	case !now.Before(l.cert.NotAfter):
		return "it expired at " + l.cert.NotAfter.Format(time.RFC3339)
	case l.cert.NotAfter.Sub(issued) > r.LeafLife+time.Second:
		return fmt.Sprintf("it lasts %s: must be at most %s", l.cert.NotAfter.Sub(issued), r.LeafLife)
	case !now.Before(renewAt(l.cert)):
		return fmt.Sprintf("two thirds of its life until %s are over", l.cert.NotAfter.Format(time.RFC3339))
	}
	return ""
}

// servesUnderFormerCA tells whether a leaf that a former CA signed stays. That CA lost its
// key, so nothing convinces those who trust it alone of a leaf that its successor
// signed: KEDA that has not read its Secret again, or can't while the API server
// is away.
func (r Rules) servesUnderFormerCA(cert *x509.Certificate, t trust, now time.Time) bool {
	// Without a time it is promoted from when MarkPromoted says so: in a moment.
	return t.cross == nil && (t.promoted.IsZero() || now.Before(r.formerCAEndsAt(t))) &&
		slices.ContainsFunc(t.retired, func(root *x509.Certificate) bool { return cert.CheckSignatureFrom(root) == nil })
}

// formerCAEndsAt is when a former CA's leaves end their service, after a promotion
// without its signature.
func (r Rules) formerCAEndsAt(t trust) time.Time { return t.promoted.Add(r.Overlap) }
