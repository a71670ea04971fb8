package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

// today is a world whose certificates are good by the real clock.
func today(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, NewRules(testNames, 0))
	w.now = time.Now()
	w.settle()
	return w
}

// serve answers health checks under s until the test ends.
func serve(t *testing.T, listener net.Listener, s *Source, options ...grpc.ServerOption) {
	t.Helper()
	server := grpc.NewServer(append(options, grpc.Creds(credentials.NewTLS(s.TLSConfig())))...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// keda is the configuration that KEDA makes of the client's Secret.
func keda(t *testing.T, d Data) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair(d[keyCert], d[keyKey])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(d[keyRoots])
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		RootCAs:      roots,
		ServerName:   testNames.Service + "." + testNames.Namespace + ".svc",
	}
}

func call(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func callOnce(t *testing.T, address string, creds credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return call(t.Context(), conn)
}

func TestOnlyKEDAIsAnswered(t *testing.T) {
	w := today(t)
	foreign := today(t).bundle
	s := NewSource()
	if _, err := s.Load(w.bundle.Server, w.now); err != nil {
		t.Fatal(err)
	}
	listener := listen(t)
	serve(t, listener, s)

	ca := readTrust(w.bundle, w.now).active
	named := func(r role, name string) Data {
		cert, key, err := ca.issue(r, subjects{dns: []string{name}}, time.Hour, w.now)
		if err != nil {
			t.Fatal(err)
		}
		text, err := encodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return Data{keyCert: encodeCerts(cert), keyKey: text, keyRoots: w.bundle.Client[keyRoots]}
	}
	tlsOf := credentials.NewTLS
	without := keda(t, w.bundle.Client)
	without.Certificates = nil
	old := keda(t, w.bundle.Client)
	old.MaxVersion = tls.VersionTLS12

	for _, tc := range []struct {
		name  string
		creds credentials.TransportCredentials
		ok    bool
	}{
		{"KEDA", tlsOf(keda(t, w.bundle.Client)), true},
		{"KEDA with TLS 1.2", tlsOf(old), true},
		{"plaintext", insecure.NewCredentials(), false},
		{"no client certificate", tlsOf(without), false},
		{"a client of another CA", tlsOf(keda(t, w.bundle.Client.with(Data{keyCert: foreign.Client[keyCert], keyKey: foreign.Client[keyKey]}))), false},
		{"a client that trusts another CA", tlsOf(keda(t, w.bundle.Client.with(Data{keyRoots: foreign.Client[keyRoots]}))), false},
		{"another client of our CA", tlsOf(keda(t, named(forClient, "someone-else"))), false},
		{"a server of our CA with the client's name", tlsOf(keda(t, named(forServer, ClientName))), false},
		{"our own server", tlsOf(keda(t, w.bundle.Server)), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := callOnce(t, listener.Addr().String(), tc.creds); (err == nil) != tc.ok {
				t.Errorf("answered: %t (%v), want %t", err == nil, err, tc.ok)
			}
		})
	}
}

func TestTLSVersions(t *testing.T) {
	w := today(t)
	s := NewSource()
	if _, err := s.Load(w.bundle.Server, w.now); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		least, most uint16
		want        uint16 // 0: refused
	}{
		{tls.VersionTLS12, 0, tls.VersionTLS13},
		{tls.VersionTLS12, tls.VersionTLS12, tls.VersionTLS12},
		{tls.VersionTLS10, tls.VersionTLS11, 0},
	} {
		config := keda(t, w.bundle.Client)
		config.MinVersion, config.MaxVersion = tc.least, tc.most
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() {
			conn := tls.Server(ours, s.TLSConfig())
			done <- conn.HandshakeContext(t.Context())
			_ = ours.Close()
		}()
		conn := tls.Client(theirs, config)
		err := conn.HandshakeContext(t.Context())
		_ = theirs.Close()
		if refused := <-done; tc.want != 0 && refused != nil {
			t.Errorf("server: %v", refused)
		}
		if got := conn.ConnectionState().Version; (err == nil) != (tc.want != 0) || (err == nil && got != tc.want) {
			t.Errorf("%s to %s: got %s, %v", tls.VersionName(tc.least), tls.VersionName(tc.most), tls.VersionName(got), err)
		}
	}
}

func TestNothingIsServedBeforeTheFirstLoad(t *testing.T) {
	w := today(t)
	s := NewSource()
	listener := listen(t)
	serve(t, listener, s)
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), ServerSecret) {
		t.Errorf("ready says %v, want the Secret's name", err)
	}
	if err := callOnce(t, listener.Addr().String(), credentials.NewTLS(keda(t, w.bundle.Client))); err == nil {
		t.Error("answered without a certificate")
	}
	select {
	case <-s.Loaded():
		t.Error("loaded")
	default:
	}
	if changed, err := s.Load(w.bundle.Server, w.now); !changed || err != nil {
		t.Errorf("load: %t, %v", changed, err)
	}
	<-s.Loaded()
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	if err := callOnce(t, listener.Addr().String(), credentials.NewTLS(keda(t, w.bundle.Client))); err != nil {
		t.Error(err)
	}
}

// What can't serve never replaces what does.
func TestBrokenSecretsAreNotLoaded(t *testing.T) {
	w := today(t)
	foreign := today(t).bundle
	s := NewSource()
	if _, err := s.Load(w.bundle.Server, w.now); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]Data{
		"none":            nil,
		"wiped":           {keyRoots: {}, keyCert: {}, keyKey: {}},
		"half written":    w.bundle.Server.with(Data{keyCert: foreign.Server[keyCert]}),
		"without roots":   w.bundle.Server.with(Data{keyRoots: nil}),
		"foreign roots":   w.bundle.Server.with(Data{keyRoots: foreign.Server[keyRoots]}),
		"the client's":    w.bundle.Client,
		"the CA's":        w.bundle.CA,
		"truncated roots": w.bundle.Server.with(Data{keyRoots: w.bundle.Server[keyRoots][:60]}),
	} {
		if changed, err := s.Load(d, w.now); changed || err == nil {
			t.Errorf("%s: changed %t, %v", name, changed, err)
		}
	}
	if _, err := s.Load(w.bundle.Server, w.now.Add(2*DefaultLeafLife)); err == nil {
		t.Error("loaded an expired certificate")
	}
	if changed, err := s.Load(w.bundle.Server, w.now); changed || err != nil {
		t.Errorf("loading the same again: changed %t, %v", changed, err)
	}
	if got, want := s.Expires(), leafOf(t, w.bundle.Server).NotAfter; !got.Equal(want) {
		t.Errorf("serves until %s, want %s", got, want)
	}
}

// dialer connects to an in-memory listener: real handshakes under a clock that
// the test moves.
func dialer(listener *bufconn.Listener) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })
}
