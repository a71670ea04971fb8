package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
	"github.com/kaito-project/keda-kaito-scaler/internal/scrape"
)

// options are the flags of the program.
type options struct {
	kubeconfig       string
	workingNamespace string
	kedaNamespace    string
	leaderElect      bool
	watchNamespaces  []string
	// root is the file system in which a pod finds its own namespace.
	root fs.FS

	bindAddress   string
	grpcPort      int
	serviceName   string
	scalerAddress string
	connectionAge time.Duration
	certificates  string
	certDuration  time.Duration

	scrapeInterval   time.Duration
	scrapeTimeout    time.Duration
	scrapeMaxBytes   int64
	scrapeCAFile     string
	scrapeSkipVerify bool
	allowHostNetwork bool
	unreadableGrace  time.Duration

	metricsPort   int
	metricsSecure bool
	healthPort    int
	pprofAddress  string
	verbosity     int8
}

// The values of --certificates.
const (
	certificatesSelf     = "self"
	certificatesExternal = "external"
)

// namespaceFile tells a pod its own namespace.
const namespaceFile = "var/run/secrets/kubernetes.io/serviceaccount/namespace"

// fallbackNamespace is where KEDA's own chart installs it, and so us.
const fallbackNamespace = "keda"

func defaults() *options {
	return &options{
		leaderElect:     true,
		root:            os.DirFS("/"),
		grpcPort:        10450,
		serviceName:     "keda-kaito-scaler-svc",
		connectionAge:   scaler.DefaultConnectionAge,
		certificates:    certificatesSelf,
		certDuration:    certs.DefaultLeafLife,
		scrapeInterval:  5 * time.Second,
		scrapeMaxBytes:  8 << 20,
		unreadableGrace: 10 * time.Minute,
		metricsPort:     10451,
		healthPort:      10452,
	}
}

// group is a titled part of --help.
type group struct {
	title string
	flags *pflag.FlagSet
}

func (o *options) groups() []group {
	set := func(add func(*pflag.FlagSet)) *pflag.FlagSet {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.SortFlags = false
		add(flags)
		return flags
	}
	return []group{
		{"Cluster", set(func(f *pflag.FlagSet) {
			f.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig,
				"kubeconfig `file` to reach the API server with (default: the pod's ServiceAccount, else $KUBECONFIG)")
			f.StringVar(&o.workingNamespace, "working-namespace", o.workingNamespace,
				"`namespace` of the scaler's own Secrets and Lease (default: the pod's namespace, else "+fallbackNamespace+")")
			f.StringVar(&o.kedaNamespace, "keda-namespace", o.kedaNamespace,
				"`namespace` that KEDA runs in, where it reads the Secret of its client certificate (default: the working namespace)")
			f.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect,
				"let one of several replicas write ScaledObjects and certificates; all of them read pods and answer KEDA")
			f.StringSliceVar(&o.watchNamespaces, "watch-namespaces", o.watchNamespaces,
				"`namespaces` of the InferenceSets to look after, separated by commas (default: all)")
		})},
		{"Answering KEDA", set(func(f *pflag.FlagSet) {
			f.StringVar(&o.bindAddress, "bind-address", o.bindAddress, "`IP` address to listen on with all ports (default: all addresses)")
			f.IntVar(&o.grpcPort, "grpc-port", o.grpcPort, "`port` of the external scaler's gRPC service, mutual TLS")
			f.StringVar(&o.serviceName, "scaler-service-name", o.serviceName, "`name` of the Service in front of the scaler")
			f.StringVar(&o.scalerAddress, "scaler-address", o.scalerAddress,
				"`host:port` at which KEDA reaches the scaler, written into ScaledObjects and the server's certificate (default: <scaler-service-name>.<working-namespace>.svc:<grpc-port>)")
			f.DurationVar(&o.connectionAge, "connection-age", o.connectionAge,
				"`time` after which a connection of KEDA's ends, so that KEDA spreads over the replicas, at least 1s")
			f.StringVar(&o.certificates, "certificates", o.certificates,
				"`who` writes the Secrets of the certificates: self, or external for somebody else, such as cert-manager")
			f.DurationVar(&o.certDuration, "cert-duration", o.certDuration,
				"`life` of the server's and KEDA's client certificate, renewed after two thirds of it, at least 1h")
		})},
		{"Reading pods", set(func(f *pflag.FlagSet) {
			f.DurationVar(&o.scrapeInterval, "scrape-interval", o.scrapeInterval, "`time` between two readings of a pod, 1s to 60s; a reading counts for three of them")
			f.DurationVar(&o.scrapeTimeout, "scrape-timeout", o.scrapeTimeout, "`time` within which a pod must have answered in full, at most the interval (default: nine tenths of it)")
			f.Int64Var(&o.scrapeMaxBytes, "scrape-max-bytes", o.scrapeMaxBytes, "most `bytes` of a page that are read; a longer page is refused")
			f.StringVar(&o.scrapeCAFile, "scrape-ca-file", o.scrapeCAFile,
				"PEM `file` of the CAs that sign the certificates of pods read over https, read once at the start (default: the system's CAs)")
			f.BoolVar(&o.scrapeSkipVerify, "scrape-insecure-skip-verify", o.scrapeSkipVerify,
				"take any certificate of pods read over https: whoever answers at a pod's address is believed")
			f.BoolVar(&o.allowHostNetwork, "allow-host-network", o.allowHostNetwork,
				"read pods on their node's network too, and at loopback addresses: a trigger's port then reaches whatever listens there")
			f.DurationVar(&o.unreadableGrace, "unreadable-grace", o.unreadableGrace, "`time` after which an unreadable pod no longer keeps its fleet from shrinking")
		})},
		{"Operations", set(func(f *pflag.FlagSet) {
			f.IntVar(&o.metricsPort, "metrics-port", o.metricsPort, "`port` of the scaler's own Prometheus metrics, 0 for none")
			f.BoolVar(&o.metricsSecure, "metrics-secure", o.metricsSecure,
				"serve metrics over https, to those alone who may get /metrics by Kubernetes' RBAC")
			f.IntVar(&o.healthPort, "grpc-health-port", o.healthPort, "`port` of the gRPC health service: \"\" is readiness, \"liveness\" is liveness")
			f.StringVar(&o.pprofAddress, "pprof-address", o.pprofAddress,
				"loopback `IP:port` for Go's profiles under /debug/pprof/ (default: none)")
			f.Int8VarP(&o.verbosity, "v", "v", o.verbosity, "`level` of the log: 0 tells what changed, 1 every answer to KEDA too")
		})},
	}
}

func (o *options) addFlags(cmd *cobra.Command) {
	groups := o.groups()
	for _, g := range groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		var b strings.Builder
		fmt.Fprintf(&b, "Usage:\n  %s [flags]\n", cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" {
				fmt.Fprintf(&b, "  %s %s [flags]\n        %s\n", cmd.CommandPath(), sub.Use, sub.Short)
			}
		}
		for _, g := range groups {
			fmt.Fprintf(&b, "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(100))
		}
		fmt.Fprintf(&b, "\nOther:\n%s", others(cmd).FlagUsagesWrapped(100))
		_, err := fmt.Fprint(cmd.OutOrStderr(), b.String())
		return err
	})
}

// others are the flags that cobra adds.
func others(cmd *cobra.Command) *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, name := range []string{"help", "version"} {
		if flag := cmd.Flags().Lookup(name); flag != nil {
			flags.AddFlag(flag)
		}
	}
	return flags
}

// flagError words a value that is none of its flag's type: the value, and what
// would have been right.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	rule := "must be a whole number"
	switch kind := invalid.GetFlag().Value.Type(); {
	case kind == "duration":
		rule = "must be a time with its unit, such as 5s or 10m"
	case kind == "bool":
		rule = "must be true or false"
	case errors.Is(err, strconv.ErrRange):
		rule = "is out of range"
	}
	return fmt.Errorf("--%s %q: %s", invalid.GetFlag().Name, invalid.GetValue(), rule)
}

// fillIn fills in what depends on the surroundings.
func (o *options) fillIn() {
	if o.workingNamespace == "" {
		o.workingNamespace = ownNamespace(o.root)
	}
	if o.kedaNamespace == "" {
		o.kedaNamespace = o.workingNamespace
	}
	if o.scalerAddress == "" {
		o.scalerAddress = net.JoinHostPort(o.serviceName+"."+o.workingNamespace+".svc", strconv.Itoa(o.grpcPort))
	}
	if o.scrapeTimeout == 0 {
		o.scrapeTimeout = scrape.DefaultTimeout(o.scrapeInterval)
	}
}

// complete fills in what is missing and refuses what can't be right, all of it at
// once.
func (o *options) complete() error {
	o.fillIn()
	var errs []error
	refuse := func(bad bool, flag string, value any, rule string) {
		if bad {
			errs = append(errs, fmt.Errorf("--%s %v: %s", flag, value, rule))
		}
	}
	refuse(o.bindAddress != "" && net.ParseIP(o.bindAddress) == nil, "bind-address", o.bindAddress, "must be an IP address")
	refuse(!port(o.grpcPort), "grpc-port", o.grpcPort, "must be a port from 1 to 65535")
	refuse(!port(o.healthPort), "grpc-health-port", o.healthPort, "must be a port from 1 to 65535")
	refuse(o.metricsPort != 0 && !port(o.metricsPort), "metrics-port", o.metricsPort, "must be a port from 1 to 65535, or 0")
	refuse(o.scrapeInterval < time.Second || o.scrapeInterval > time.Minute, "scrape-interval", o.scrapeInterval, "must be from 1s to 60s")
	refuse(o.scrapeTimeout < 0 || o.scrapeTimeout > o.scrapeInterval, "scrape-timeout", o.scrapeTimeout,
		fmt.Sprintf("must be above 0 and at most the scrape interval of %s", o.scrapeInterval))
	refuse(o.scrapeMaxBytes < 1<<10, "scrape-max-bytes", o.scrapeMaxBytes, "must be at least 1024: a page has some 60 000")
	refuse(o.scrapeSkipVerify && o.scrapeCAFile != "", "scrape-insecure-skip-verify", o.scrapeSkipVerify,
		"must not be set beside --scrape-ca-file: it takes certificates of any CA")
	refuse(o.unreadableGrace < 3*o.scrapeInterval, "unreadable-grace", o.unreadableGrace,
		fmt.Sprintf("must be at least three scrape intervals, %s", 3*o.scrapeInterval))
	refuse(o.connectionAge < time.Second, "connection-age", o.connectionAge, "must be at least 1s")
	refuse(o.certificates != certificatesSelf && o.certificates != certificatesExternal, "certificates", o.certificates,
		"must be "+certificatesSelf+" or "+certificatesExternal)
	refuse(o.certDuration < certs.MinLeafLife, "cert-duration", o.certDuration, fmt.Sprintf("must be at least %s", certs.MinLeafLife))
	for i, namespace := range o.watchNamespaces {
		refuse(len(validation.IsDNS1123Label(namespace)) > 0, "watch-namespaces", namespace, "must be the name of a namespace")
		refuse(slices.Contains(o.watchNamespaces[:i], namespace), "watch-namespaces", namespace, "must be there once")
	}
	refuse(o.pprofAddress != "" && !loopback(o.pprofAddress), "pprof-address", o.pprofAddress,
		"must be a loopback IP address with a port, such as 127.0.0.1:6060")
	refuse(o.verbosity < 0 || o.verbosity > 10, "v", o.verbosity, "must be from 0 to 10")
	refuse(len(validation.IsDNS1123Label(o.kedaNamespace)) > 0 && o.kedaNamespace != o.workingNamespace,
		"keda-namespace", o.kedaNamespace, "must be the name of a namespace")
	if err := o.ownNames().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--working-namespace, --scaler-service-name, --scaler-address: %w", err))
	}
	return errors.Join(errs...)
}

func (o *options) names() certs.Names {
	names := o.ownNames()
	names.KEDANamespace = o.kedaNamespace
	return names
}

func (o *options) ownNames() certs.Names {
	return certs.Names{Namespace: o.workingNamespace, Service: o.serviceName, Address: o.scalerAddress}
}

// listen is the address to listen on with a port.
func (o *options) listen(port int) string {
	return net.JoinHostPort(o.bindAddress, strconv.Itoa(port))
}

// loopback tells whether an address can be reached from its own pod alone.
func loopback(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().IsLoopback() && at.Port() != 0
}

func port(n int) bool { return n >= 1 && n <= 65535 }

func ownNamespace(root fs.FS) string {
	if data, err := fs.ReadFile(root, namespaceFile); err == nil {
		if namespace := strings.TrimSpace(string(data)); namespace != "" {
			return namespace
		}
	}
	return fallbackNamespace
}

// scrapeRoots are the CAs of pods that are read over https, nil for the
// system's.
func (o *options) scrapeRoots() (*x509.CertPool, error) {
	if o.scrapeCAFile == "" {
		return nil, nil //nolint:nilnil // what package tls takes for the system's
	}
	text, err := os.ReadFile(o.scrapeCAFile)
	if err != nil {
		return nil, fmt.Errorf("--scrape-ca-file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--scrape-ca-file %s: must hold a certificate in PEM", o.scrapeCAFile)
	}
	return roots, nil
}
