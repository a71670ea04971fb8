package certs

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFromNothing(t *testing.T) {
	w := newWorld(t, NewRules(testNames, 0))
	w.wantOps(CreateCA, IssueClient, IssueServer)
	w.wantTalk(w.bundle.Client, w.bundle.Server)
	if err := leafOf(t, w.bundle.Server).VerifyHostname("localhost"); err == nil {
		t.Error("the server's certificate is for localhost, which nobody asked for")
	}

	server := leafOf(t, w.bundle.Server)
	want := []string{
		"keda-kaito-scaler-svc",
		"keda-kaito-scaler-svc.keda",
		"keda-kaito-scaler-svc.keda.svc",
		"keda-kaito-scaler-svc.keda.svc.cluster.local",
	}
	if !slices.Equal(server.DNSNames, want) || len(server.IPAddresses) != 0 {
		t.Errorf("server's names are %v %v, want %v", server.DNSNames, server.IPAddresses, want)
	}
	if end := dayOne.Add(DefaultLeafLife); !server.NotAfter.Equal(end) {
		t.Errorf("server's certificate ends %s, want %s", server.NotAfter, end)
	}
	client := leafOf(t, w.bundle.Client)
	if !slices.Equal(client.DNSNames, []string{ClientName}) || !slices.Equal(client.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("client's certificate is for %v, %v", client.DNSNames, client.ExtKeyUsage)
	}
	for name, leaf := range map[string]Data{ServerSecret: w.bundle.Server, ClientSecret: w.bundle.Client} {
		if len(leaf) != 3 {
			t.Errorf("%s has keys beyond ca.crt, tls.crt, tls.key", name)
		}
		if keyOf(t, leaf).Equal(keyOf(t, w.bundle.CA)) {
			t.Errorf("%s holds the CA's key", name)
		}
	}
}

func TestLeavesRenewAtTwoThirds(t *testing.T) {
	w := newWorld(t, NewRules(testNames, 90*day))
	w.settle()
	old := w.bundle
	if wake := w.plan().Wake; !wake.Equal(dayOne.Add(60 * day)) {
		t.Errorf("wakes at %s, want 60 days on", wake)
	}
	w.after(60*day - time.Second).wantOps()
	w.after(time.Second).wantOps(IssueClient, IssueServer)
	if !w.bundle.CA.Equal(old.CA) {
		t.Error("the CA changed")
	}
	w.wantTalk(old.Client, w.bundle.Server)
	w.wantTalk(w.bundle.Client, old.Server)
	w.after(60*day).wantOps(IssueClient, IssueServer)
}

func TestCARotatesWithOverlap(t *testing.T) {
	const life = 300 * day
	w := newWorld(t, NewRules(testNames, life))
	w.settle()
	// The CA's two thirds, give or take what the leaves do meanwhile.
	turn := renewAt(leafOf(t, w.bundle.CA))
	for w.plan().Wake.Before(turn) {
		w.after(w.plan().Wake.Sub(w.now)).settle()
	}
	before := w.bundle
	w.after(turn.Sub(w.now)).wantOps(StageCA, PublishClient, PublishServer, MarkPublished)
	staged := w.bundle
	if !leafOf(t, staged.Server).Equal(leafOf(t, before.Server)) || keyOf(t, staged.CA) == nil {
		t.Error("leaves were made anew before the new CA was known")
	}

	w.after(DefaultOverlap - time.Minute).wantOps()
	w.after(time.Minute).wantOps(PromoteCA, IssueClient, IssueServer)
	promoted := w.bundle
	for _, b := range []Bundle{before, staged, promoted} {
		w.wantTalk(b.Client, promoted.Server)
		w.wantTalk(promoted.Client, b.Server)
	}

	// Leaves go on being renewed; the old root goes when its last leaf is over.
	w.after(life/3*2).wantOps(IssueClient, IssueServer)
	renewed := w.bundle
	w.after(life / 3).wantOps()
	w.after(2*time.Second).wantOps(RetireCA, PublishClient, PublishServer)
	if roots, err := decodeCerts(w.bundle.Client[keyRoots]); err != nil || len(roots) != 1 {
		t.Errorf("%d roots are trusted (%v), want 1", len(roots), err)
	}
	w.wantTalk(renewed.Client, w.bundle.Server)
	w.wantTalk(w.bundle.Client, renewed.Server)
}

// An outage, a clock set wrong: nothing is made anew for an hour more or less.
func TestClockJumpsWithoutChurn(t *testing.T) {
	w := usual(t)
	w.after(time.Hour).wantOps()
	w.after(-2 * time.Hour).wantOps()
	w.after(-30 * time.Minute).wantOps()

	// Made by a clock an hour ahead, then set right.
	w = newWorld(t, NewRules(testNames, MinLeafLife)).after(time.Hour)
	w.settle()
	w.after(-time.Hour).wantOps()
}

func TestRepairs(t *testing.T) {
	foreign := usual(t).bundle
	stranger, err := newAuthority(time.Hour, dayOne)
	if err != nil {
		t.Fatal(err)
	}
	strangerKey, err := encodeKey(stranger.key)
	if err != nil {
		t.Fatal(err)
	}
	wiped := Data{keyRoots: {}, keyCert: {}, keyKey: {}}
	for _, tc := range []struct {
		name   string
		damage func(b *Bundle)
		want   []Op
	}{
		{"server's Secret deleted", func(b *Bundle) { b.Server = nil }, []Op{IssueServer}},
		{"both leaves deleted", func(b *Bundle) { b.Server, b.Client = nil, nil }, []Op{IssueClient, IssueServer}},
		{"all deleted", func(b *Bundle) { *b = Bundle{} }, []Op{CreateCA, IssueClient, IssueServer}},
		{"all wiped", func(b *Bundle) { *b = Bundle{wiped, wiped, wiped} }, []Op{CreateCA, IssueClient, IssueServer}},
		{"server wiped", func(b *Bundle) { b.Server = wiped }, []Op{IssueServer}},
		{"leaves swapped", func(b *Bundle) { b.Server, b.Client = b.Client, b.Server }, []Op{IssueClient, IssueServer}},
		{"leaf half written", func(b *Bundle) { b.Client = b.Client.with(Data{keyKey: foreign.Client[keyKey]}) }, []Op{IssueClient}},
		{"leaf truncated", func(b *Bundle) { b.Client = b.Client.with(Data{keyCert: b.Client[keyCert][:100]}) }, []Op{IssueClient}},
		{"leaf's roots gone", func(b *Bundle) { b.Server = b.Server.with(Data{keyRoots: nil}) }, []Op{PublishServer}},
		{"leaf's roots foreign", func(b *Bundle) { b.Server = b.Server.with(Data{keyRoots: foreign.Server[keyRoots]}) }, []Op{PublishServer}},
		{"something added to a leaf", func(b *Bundle) { b.Server = b.Server.with(Data{"tls.p12": {1}}) }, []Op{PublishServer}},
		{"leaf foreign", func(b *Bundle) { b.Server = foreign.Server }, []Op{IssueServer}},
		{"both leaves foreign", func(b *Bundle) { b.Server, b.Client = foreign.Server, foreign.Client }, []Op{IssueClient, IssueServer}},
		{"CA foreign", func(b *Bundle) { b.CA = foreign.CA }, []Op{IssueClient, IssueServer}},
		{"CA's certificate truncated", func(b *Bundle) { b.CA = b.CA.with(Data{keyCert: b.CA[keyCert][:80]}) }, []Op{SettleCA}},
		{"CA's roots gone", func(b *Bundle) { b.CA = b.CA.with(Data{keyRoots: nil}) }, []Op{SettleCA}},
		{"a stranger among the CA's roots", func(b *Bundle) {
			b.CA = b.CA.with(Data{keyRoots: append(slices.Clone(b.CA[keyRoots]), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"...)})
		}, []Op{SettleCA}},
		{"half a next CA", func(b *Bundle) { b.CA = b.CA.with(Data{keyNextCert: encodeCerts(stranger.cert)}) }, []Op{SettleCA}},
		{"a whole next CA", func(b *Bundle) {
			b.CA = b.CA.with(Data{keyNextCert: encodeCerts(stranger.cert), keyNextKey: strangerKey})
		}, []Op{SettleCA, PublishClient, PublishServer, MarkPublished}},
		{"a promotion that never was", func(b *Bundle) { b.CA = b.CA.with(Data{keyPromoted: []byte("yesterday")}) }, []Op{SettleCA}},
		// The leaves know their root: it stays until the new one is known.
		{"CA's Secret deleted", func(b *Bundle) { b.CA = nil }, []Op{StageCA, PublishClient, PublishServer, MarkPublished}},
		{"CA's Secret wiped", func(b *Bundle) { b.CA = wiped }, []Op{StageCA, PublishClient, PublishServer, MarkPublished}},
		{"CA's key of another", func(b *Bundle) { b.CA = b.CA.with(Data{keyKey: foreign.CA[keyKey]}) }, []Op{StageCA, PublishClient, PublishServer, MarkPublished}},
		{"CA's and server's Secret deleted", func(b *Bundle) { b.CA, b.Server = nil, nil }, []Op{CreateCA, IssueClient, IssueServer}},
		{"CA's key and server's Secret gone", func(b *Bundle) { b.CA, b.Server = b.CA.with(Data{keyKey: nil}), nil }, []Op{StageCA, PromoteCA, PublishClient, IssueServer}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := usual(t)
			tc.damage(&w.bundle)
			w.wantOps(tc.want...)
			w.wantTalk(w.bundle.Client, w.bundle.Server)
		})
	}
}

// A CA that lost its key is replaced like one that grows old: nobody notices.
func TestLostCAKeyIsReplacedWithOverlap(t *testing.T) {
	w := usual(t)
	before := w.bundle
	w.bundle.CA = nil
	w.seen = func(Step) {
		w.wantTalk(before.Client, w.bundle.Server)
		w.wantTalk(w.bundle.Client, before.Server)
	}
	w.settle()
	staged := w.bundle
	// The key that would sign the new CA for those who trust the old one alone is
	// gone: the leaves that it signed stay for as long again.
	w.after(DefaultOverlap).wantOps(PromoteCA, PublishClient, PublishServer)
	w.seen = func(Step) {
		w.wantTalk(staged.Client, w.bundle.Server)
		w.wantTalk(w.bundle.Client, staged.Server)
	}
	w.after(DefaultOverlap).wantOps(IssueClient, IssueServer)
}

// The CA's Secret is deleted, then KEDA's, and the API server goes away before
// KEDA has read anything new: what it has still serves it, as long as the overlap
// lasts.
func TestAnAccidentThatNeedsANewCAKeepsTheOthersCertificate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		gone  func(b *Bundle) *Data
		want  []Op
		later Op
		reach func(w *world, before Bundle)
	}{
		{
			name: "KEDA's", gone: func(b *Bundle) *Data { return &b.Client },
			want: []Op{PromoteCA, IssueClient, PublishServer}, later: IssueServer,
			reach: func(w *world, before Bundle) {
				w.wantTalk(before.Client, w.bundle.Server)
				w.wantTalk(w.bundle.Client, before.Server.with(Data{keyRoots: w.bundle.Server[keyRoots]}))
			},
		},
		{
			name: "the server's", gone: func(b *Bundle) *Data { return &b.Server },
			want: []Op{PromoteCA, PublishClient, IssueServer}, later: IssueClient,
			// KEDA has read the roots that were staged in the meantime.
			reach: func(w *world, before Bundle) {
				w.wantTalk(before.Client.with(Data{keyRoots: w.bundle.Client[keyRoots]}), w.bundle.Server)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := usual(t)
			before := w.bundle
			w.bundle.CA = nil
			w.settle()
			*tc.gone(&w.bundle) = nil
			w.wantOps(tc.want...)
			tc.reach(w, before)
			w.after(DefaultOverlap - time.Minute).wantOps()
			tc.reach(w, before)
			if wake := w.plan().Wake; !wake.Equal(w.now.Add(time.Minute)) {
				t.Errorf("wakes at %s, now is %s", wake, w.now)
			}
			w.after(time.Minute).wantOps(tc.later)
			w.wantTalk(w.bundle.Client, w.bundle.Server)
		})
	}
}

// Another accident, before the first one is over: two CAs without a key, each of
// which signed one of the leaves, are both trusted on.
func TestTwoAccidentsInOneOverlap(t *testing.T) {
	w := usual(t)
	w.bundle.CA = nil
	w.settle()
	w.bundle.Client = nil
	w.settle()
	before := w.bundle
	w.after(8 * time.Minute)
	w.bundle.CA = nil
	w.seen = func(Step) {
		w.wantTalk(before.Client, w.bundle.Server)
		w.wantTalk(w.bundle.Client, before.Server)
	}
	w.wantOps(StageCA, PublishClient, PublishServer, MarkPublished, MarkPromoted)
	w.after(DefaultOverlap)
	w.settle()
	w.seen = func(Step) {}
	for range 4 {
		w.after(max(w.plan().Wake.Sub(w.now), 0)).settle()
		w.wantTalk(w.bundle.Client, w.bundle.Server)
	}
}

func TestSettingsChangeLeaves(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(r *Rules)
		want   []Op
	}{
		{"address", func(r *Rules) { r.Names.Address = "scaler.example.com:443" }, []Op{IssueServer}},
		{"service", func(r *Rules) { r.Names.Service = "other" }, []Op{IssueServer}},
		{"address that says nothing new", func(r *Rules) { r.Names.Address = "keda-kaito-scaler-svc.keda.svc:10450" }, nil},
		{"shorter life", func(r *Rules) { r.LeafLife = 30 * day }, []Op{IssueClient, IssueServer}},
		{"longer life comes with the next renewal", func(r *Rules) { r.LeafLife *= 2; r.CALife *= 2 }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := usual(t)
			tc.change(&w.rules)
			w.wantOps(tc.want...)
			w.wantTalk(w.bundle.Client, w.bundle.Server)
		})
	}
}

// A leader that comes back after years finds a CA near or past its end.
func TestAfterALongSleep(t *testing.T) {
	w := usual(t)
	w.after(DefaultCALife-time.Hour).wantOps(StageCA, IssueClient, IssueServer, MarkPublished, PromoteCA, IssueClient, IssueServer)
	w.wantTalk(w.bundle.Client, w.bundle.Server)
	// The old root ends by itself, an hour on.
	w.after(2*time.Hour).wantOps(SettleCA, PublishClient, PublishServer)

	w = usual(t)
	w.after(DefaultCALife+time.Hour).wantOps(CreateCA, IssueClient, IssueServer)
}

func TestPlanSaysWhy(t *testing.T) {
	w := usual(t)
	w.rules.Names.Address = "10.1.2.3:10450"
	why := w.plan().Step.Why
	for _, part := range []string{"server", "keda-kaito-scaler-svc.keda.svc", "must be", "10.1.2.3"} {
		if !strings.Contains(why, part) {
			t.Errorf("%q doesn't tell %q", why, part)
		}
	}
}

func TestRulesAreChecked(t *testing.T) {
	good := NewRules(testNames, 0)
	for _, tc := range []struct {
		change func(r *Rules)
		want   string
	}{
		{func(r *Rules) { r.LeafLife = time.Second }, "1s: must be at least 3s"},
		{func(r *Rules) { r.CALife = r.LeafLife }, "is below 10 ×"},
		{func(r *Rules) { r.Overlap = 0 }, "overlap 0s"},
		{func(r *Rules) { r.Names.Namespace = "" }, `namespace ""`},
		{func(r *Rules) { r.Names.Address = "nowhere" }, `"nowhere": must be host:port`},
		{func(r *Rules) { r.Names.Address = "http://x:1" }, `resolver "http"`},
		{func(r *Rules) { r.Names.Address = "a_b:1" }, `host "a_b"`},
	} {
		r := good
		tc.change(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
	}
}

func TestNames(t *testing.T) {
	for address, want := range map[string]string{
		"":                           "s, s.n, s.n.svc, s.n.svc.cluster.local",
		"s.n.svc:10450":              "s, s.n, s.n.svc, s.n.svc.cluster.local",
		"s.n.svc.cluster.local.:1":   "s, s.n, s.n.svc, s.n.svc.cluster.local",
		"dns:///Scaler.Example:10":   "s, s.n, s.n.svc, s.n.svc.cluster.local, scaler.example",
		"dns://1.1.1.1/s-headless:1": "s, s-headless, s.n, s.n.svc, s.n.svc.cluster.local",
		"localhost:1":                "localhost, s, s.n, s.n.svc, s.n.svc.cluster.local",
		"127.0.0.1:1":                "s, s.n, s.n.svc, s.n.svc.cluster.local, 127.0.0.1",
		"[::1]:1":                    "s, s.n, s.n.svc, s.n.svc.cluster.local, ::1",
	} {
		n := Names{Namespace: "n", Service: "s", Address: address}
		if err := n.Validate(); err != nil {
			t.Errorf("%q: %v", address, err)
		}
		if got := n.subjects().String(); got != want {
			t.Errorf("%q: got %s, want %s", address, got, want)
		}
	}
}
