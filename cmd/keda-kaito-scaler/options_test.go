package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

// outcome is what a command line comes to.
type outcome struct {
	// ran are the options that the program was run with, nil if it wasn't.
	ran    *options
	err    error
	stdout string
	stderr string
}

// call runs a command line on a machine with these files.
func call(t *testing.T, root fs.FS, args ...string) outcome {
	t.Helper()
	var out outcome
	o := defaults()
	o.root = root
	cmd := rootCommand(o, func(_ context.Context, o *options) error {
		out.ran = o
		return nil
	})
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	out.err = cmd.ExecuteContext(t.Context())
	out.stdout, out.stderr = stdout.String(), stderr.String()
	return out
}

// nowhere is a machine that is no pod.
var nowhere = fstest.MapFS{}

func TestTheDefaults(t *testing.T) {
	out := call(t, nowhere)
	if out.err != nil {
		t.Fatal(out.err)
	}
	want := &options{
		workingNamespace: "keda",
		kedaNamespace:    "keda",
		leaderElect:      true,
		grpcPort:         10450,
		serviceName:      "keda-kaito-scaler-svc",
		scalerAddress:    "keda-kaito-scaler-svc.keda.svc:10450",
		connectionAge:    5 * time.Minute,
		certificates:     "self",
		certDuration:     365 * 24 * time.Hour,
		scrapeInterval:   5 * time.Second,
		scrapeTimeout:    4500 * time.Millisecond,
		scrapeMaxBytes:   8 << 20,
		unreadableGrace:  10 * time.Minute,
		metricsPort:      10451,
		healthPort:       10452,
	}
	if diff := cmp.Diff(want, out.ran, cmp.AllowUnexported(options{}), cmpopts.IgnoreFields(options{}, "root")); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestEveryFlagIsRead(t *testing.T) {
	out := call(t, nowhere,
		"--kubeconfig=/tmp/kubeconfig", "--working-namespace=autoscaling", "--keda-namespace=keda-system", "--leader-elect=false", "--watch-namespaces=a,b",
		"--bind-address=::1", "--grpc-port=1", "--scaler-service-name=svc", "--scaler-address=scaler.example.com:443",
		"--connection-age=1s", "--certificates=external", "--cert-duration=1h",
		"--scrape-interval=1s", "--scrape-timeout=500ms", "--scrape-max-bytes=1024", "--scrape-ca-file=/ca.crt", "--unreadable-grace=3s",
		"--metrics-port=0", "--metrics-secure", "--pprof-address=[::1]:6060", "--grpc-health-port=65535", "-v=10")
	if out.err != nil {
		t.Fatal(out.err)
	}
	want := &options{
		kubeconfig: "/tmp/kubeconfig", workingNamespace: "autoscaling", kedaNamespace: "keda-system", leaderElect: false, watchNamespaces: []string{"a", "b"},
		bindAddress: "::1", grpcPort: 1, serviceName: "svc", scalerAddress: "scaler.example.com:443",
		connectionAge: time.Second, certificates: "external", certDuration: time.Hour,
		scrapeInterval: time.Second, scrapeTimeout: 500 * time.Millisecond, scrapeMaxBytes: 1024, scrapeCAFile: "/ca.crt", unreadableGrace: 3 * time.Second,
		metricsPort: 0, metricsSecure: true, pprofAddress: "[::1]:6060", healthPort: 65535, verbosity: 10,
	}
	if diff := cmp.Diff(want, out.ran, cmp.AllowUnexported(options{}), cmpopts.IgnoreFields(options{}, "root")); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if got := out.ran.listen(out.ran.grpcPort); got != "[::1]:1" {
		t.Errorf("listens on %s, want [::1]:1", got)
	}
}

func TestABadValueIsRefusedWithTheValueAndTheRule(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"--bind-address=localhost", "--bind-address localhost: must be an IP address"},
		{"--grpc-port=0", "--grpc-port 0: must be a port from 1 to 65535"},
		{"--grpc-port=65536", "--grpc-port 65536: must be a port from 1 to 65535"},
		{"--grpc-port=http", `--grpc-port "http": must be a whole number`},
		{"--grpc-health-port=-1", "--grpc-health-port -1: must be a port from 1 to 65535"},
		{"--metrics-port=-1", "--metrics-port -1: must be a port from 1 to 65535, or 0"},
		{"--metrics-port=70000", "--metrics-port 70000: must be a port from 1 to 65535, or 0"},
		{"--scrape-interval=999ms --scrape-timeout=1ms", "--scrape-interval 999ms: must be from 1s to 60s"},
		{"--scrape-interval=61s", "--scrape-interval 1m1s: must be from 1s to 60s"},
		{"--scrape-interval=5", `--scrape-interval "5": must be a time with its unit, such as 5s or 10m`},
		{"--scrape-timeout=-1s", "--scrape-timeout -1s: must be above 0 and at most the scrape interval of 5s"},
		{"--scrape-timeout=6s", "--scrape-timeout 6s: must be above 0 and at most the scrape interval of 5s"},
		{"--scrape-max-bytes=1023", "--scrape-max-bytes 1023: must be at least 1024: a page has some 60 000"},
		{"--scrape-max-bytes=99999999999999999999", `--scrape-max-bytes "99999999999999999999": is out of range`},
		{"--scrape-ca-file=ca.crt --scrape-insecure-skip-verify", "--scrape-insecure-skip-verify true: must not be set beside --scrape-ca-file: it takes"},
		{"--unreadable-grace=14s", "--unreadable-grace 14s: must be at least three scrape intervals, 15s"},
		{"--connection-age=999ms", "--connection-age 999ms: must be at least 1s"},
		{"--certificates=cert-manager", "--certificates cert-manager: must be self or external"},
		{"--cert-duration=59m", "--cert-duration 59m0s: must be at least 1h0m0s"},
		{"--watch-namespaces=a,B", "--watch-namespaces B: must be the name of a namespace"},
		{"--watch-namespaces=a,a", "--watch-namespaces a: must be there once"},
		{"--pprof-address=:6060", "--pprof-address :6060: must be a loopback IP address with a port, such as 127.0.0.1:6060"},
		{"--pprof-address=10.0.0.1:6060", "--pprof-address 10.0.0.1:6060: must be a loopback IP address with a port, such as 127.0.0.1:6060"},
		{"-v=-1", "--v -1: must be from 0 to 10"},
		{"-v=11", "--v 11: must be from 0 to 10"},
		{"--v=1000", `--v "1000": is out of range`},
		{"--leader-elect=perhaps", `--leader-elect "perhaps": must be true or false`},
		{"--working-namespace=Keda", `--working-namespace, --scaler-service-name, --scaler-address: namespace "Keda": a lowercase RFC 1123 label must`},
		{"--keda-namespace=Keda", "--keda-namespace Keda: must be the name of a namespace"},
		{"--scaler-service-name=1svc", `--working-namespace, --scaler-service-name, --scaler-address: service name "1svc": a DNS-1035 label must`},
		{"--scaler-address=scaler", `--working-namespace, --scaler-service-name, --scaler-address: scaler address "scaler": must be host:port`},
		{"--grpc-prot=1", "unknown flag: --grpc-prot"},
		{"--grpc-port", "flag needs an argument: --grpc-port"},
		{"start", `unknown command "start" for "keda-kaito-scaler"`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out := call(t, nowhere, strings.Fields(tt.args)...)
			if out.ran != nil {
				t.Errorf("it ran with %+v", out.ran)
			}
			if out.err == nil || !strings.HasPrefix(out.err.Error(), tt.want) {
				t.Errorf("error %v\nwant   %s", out.err, tt.want)
			} else if strings.Contains(out.err.Error(), "\n") {
				t.Errorf("one bad value, but more to read: %v", out.err)
			}
			if out.stdout != "" || out.stderr != "" {
				t.Errorf("the error is main's to print, once; printed %q, %q", out.stdout, out.stderr)
			}
		})
	}
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	out := call(t, nowhere, "--grpc-port=0", "--scrape-interval=2m", "--unreadable-grace=1m", "--working-namespace=-")
	if out.err == nil {
		t.Fatal("no error")
	}
	var flags []string
	for line := range strings.Lines(out.err.Error()) {
		name, _, _ := strings.Cut(line, " ")
		flags = append(flags, name)
	}
	want := []string{"--grpc-port", "--scrape-interval", "--unreadable-grace", "--working-namespace,"}
	if diff := cmp.Diff(want, flags); diff != "" {
		t.Errorf("refused flags (-want +got):\n%s\n%v", diff, out.err)
	}
}

func TestTheNamespaceIsThePodsUnlessGiven(t *testing.T) {
	pod := func(content string) fstest.MapFS {
		return fstest.MapFS{"var/run/secrets/kubernetes.io/serviceaccount/namespace": {Data: []byte(content)}}
	}
	for _, tt := range []struct {
		name string
		root fs.FS
		args []string
		want string
	}{
		{"no pod", nowhere, nil, "keda-kaito-scaler-svc.keda.svc:10450"},
		{"a pod", pod("kube-system"), nil, "keda-kaito-scaler-svc.kube-system.svc:10450"},
		{"a file with a line's end", pod("kube-system\n"), nil, "keda-kaito-scaler-svc.kube-system.svc:10450"},
		{"an empty file", pod(""), nil, "keda-kaito-scaler-svc.keda.svc:10450"},
		{"given", pod("kube-system"), []string{"--working-namespace=mine"}, "keda-kaito-scaler-svc.mine.svc:10450"},
		{"all given", pod("kube-system"), []string{"--scaler-service-name=s", "--grpc-port=9"}, "s.kube-system.svc:9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := call(t, tt.root, tt.args...)
			if out.err != nil {
				t.Fatal(out.err)
			}
			if got := out.ran.scalerAddress; got != tt.want {
				t.Errorf("KEDA reaches the scaler at %s, want %s", got, tt.want)
			}
		})
	}
}

func TestKEDAIsBesideTheScalerUnlessTold(t *testing.T) {
	pod := fstest.MapFS{"var/run/secrets/kubernetes.io/serviceaccount/namespace": {Data: []byte("kaito-workspace")}}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "kaito-workspace"},
		{[]string{"--working-namespace=mine"}, "mine"},
		{[]string{"--keda-namespace=keda"}, "keda"},
		{[]string{"--keda-namespace="}, "kaito-workspace"},
	} {
		out := call(t, pod, tt.args...)
		if out.err != nil {
			t.Fatal(out.err)
		}
		names := out.ran.names()
		if names.KEDANamespace != tt.want || names.Namespace != out.ran.workingNamespace {
			t.Errorf("%q: KEDA in %q, the scaler in %q: want KEDA in %q", tt.args, names.KEDANamespace, names.Namespace, tt.want)
		}
	}
}

func TestHelpIsAsInTheGoldenFile(t *testing.T) {
	golden := filepath.Join("testdata", "help.txt")
	out := call(t, nowhere, "--help")
	if out.err != nil || out.ran != nil || out.stderr != "" {
		t.Fatalf("help: ran %v, error %v, stderr %q", out.ran, out.err, out.stderr)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(out.stdout), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.stdout); diff != "" {
		t.Errorf("help (-want +got), go test -update writes it anew:\n%s", diff)
	}
}

func TestVersionNamesTheProgramAndItsGo(t *testing.T) {
	out := call(t, nowhere, "--version")
	if out.err != nil || out.ran != nil {
		t.Fatalf("version: ran %v, error %v", out.ran, out.err)
	}
	if !strings.HasPrefix(out.stdout, "keda-kaito-scaler version ") || !strings.Contains(out.stdout, "go1.") {
		t.Errorf("version: %q", out.stdout)
	}
}

func TestTheCAsOfPods(t *testing.T) {
	ca := httptest.NewUnstartedServer(nil)
	ca.StartTLS()
	defer ca.Close()
	folder := t.TempDir()
	good, bad := filepath.Join(folder, "good"), filepath.Join(folder, "bad")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate().Raw})
	if err := errors.Join(os.WriteFile(good, text, 0o600), os.WriteFile(bad, []byte("none"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"": "", good: "", bad: "--scrape-ca-file " + bad + ": must hold a certificate in PEM",
		good + "-gone": "--scrape-ca-file: open " + good + "-gone",
	} {
		o := options{scrapeCAFile: file}
		roots, err := o.scrapeRoots()
		if want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q: error %v, want %s", file, err, want)
			}
			continue
		}
		if err != nil || (roots == nil) != (file == "") {
			t.Errorf("%q: %v, %v", file, roots, err)
		}
	}
}
