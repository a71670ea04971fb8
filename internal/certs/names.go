package certs

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CASecret and ServerSecret live in the scaler's own namespace, ClientSecret in
// KEDA's: KEDA reads the Secrets of a ClusterTriggerAuthentication from its own
// namespace and nowhere else.
const (
	CASecret     = "keda-kaito-scaler-ca"
	ServerSecret = "keda-kaito-scaler-server-certs"
	ClientSecret = "keda-kaito-scaler-client-certs"
	// TriggerAuthentication is the ClusterTriggerAuthentication that hands
	// ClientSecret to KEDA.
	TriggerAuthentication = "keda-kaito-scaler-creds"

	// ClientName is the DNS name in KEDA's client certificate. The scaler
	// answers nobody else, whoever signed them.
	ClientName = "keda-kaito-scaler-client"
	serverName = "keda-kaito-scaler-server"
	caName     = "keda-kaito-scaler-ca"
)

// Names says under which names the scaler's server is reached.
type Names struct {
	// Namespace holds the Service and the Secrets of the scaler.
	Namespace string
	// KEDANamespace holds the Secret that KEDA reads. Empty: Namespace.
	KEDANamespace string
	// Service is the name of the scaler's Service.
	Service string
	// Address is what triggers name as scalerAddress: host:port, optionally
	// with a resolver in front ("dns:///host:port"). KEDA compares the host
	// with the server's certificate. Empty: the Service's own names suffice.
	Address string
}

// Validate tells what is wrong with the names, in words for a command line.
func (n Names) Validate() error {
	if msgs := validation.IsDNS1123Label(n.Namespace); len(msgs) > 0 {
		return fmt.Errorf("namespace %q: %s", n.Namespace, strings.Join(msgs, "; "))
	}
	if msgs := validation.IsDNS1123Label(n.kedaNamespace()); len(msgs) > 0 {
		return fmt.Errorf("KEDA's namespace %q: %s", n.KEDANamespace, strings.Join(msgs, "; "))
	}
	if msgs := validation.IsDNS1035Label(n.Service); len(msgs) > 0 {
		return fmt.Errorf("service name %q: %s", n.Service, strings.Join(msgs, "; "))
	}
	_, err := n.host()
	return err
}

func (n Names) kedaNamespace() string { return cmp.Or(n.KEDANamespace, n.Namespace) }

// kedaIsElsewhere tells whether KEDA is in another namespace than the scaler.
func (n Names) kedaIsElsewhere() bool { return n.kedaNamespace() != n.Namespace }

// secret is where the Secret of that name has to be.
func (n Names) secret(name string) client.ObjectKey {
	if name == ClientSecret {
		return client.ObjectKey{Namespace: n.kedaNamespace(), Name: name}
	}
	return client.ObjectKey{Namespace: n.Namespace, Name: name}
}

// host is the Address without resolver and port; "" without an Address.
func (n Names) host() (string, error) {
	if n.Address == "" {
		return "", nil
	}
	rest := n.Address
	if scheme, after, found := strings.Cut(rest, "://"); found {
		if scheme != "dns" && scheme != "passthrough" {
			return "", fmt.Errorf("scaler address %q: resolver %q: must be dns or passthrough", n.Address, scheme)
		}
		// The authority, if any, names a DNS server, not us.
		_, rest, _ = strings.Cut(after, "/")
	}
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		return "", fmt.Errorf("scaler address %q: must be host:port: %w", n.Address, err)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	// A trailing dot is legal in DNS, but no certificate carries it.
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if msgs := validation.IsDNS1123Subdomain(host); len(msgs) > 0 {
		return "", fmt.Errorf("scaler address %q: host %q: %s", n.Address, host, strings.Join(msgs, "; "))
	}
	return host, nil
}

// subjects are the names of the server's certificate, sorted, without
// duplicates. Names must be valid.
func (n Names) subjects() subjects {
	s := subjects{dns: []string{
		n.Service,
		n.Service + "." + n.Namespace,
		n.Service + "." + n.Namespace + ".svc",
		n.Service + "." + n.Namespace + ".svc.cluster.local",
	}}
	if host, err := n.host(); err == nil && host != "" {
		if ip, err := netip.ParseAddr(host); err == nil {
			s.ips = append(s.ips, net.IP(ip.Unmap().AsSlice()))
		} else {
			s.dns = append(s.dns, host)
		}
	}
	slices.Sort(s.dns)
	s.dns = slices.Compact(s.dns)
	return s
}

// subjects are a leaf's alternative names.
type subjects struct {
	dns []string
	ips []net.IP
}

func (s subjects) equal(o subjects) bool {
	return slices.Equal(s.dns, o.dns) && slices.EqualFunc(s.ips, o.ips, net.IP.Equal)
}

func (s subjects) String() string {
	all := slices.Clone(s.dns)
	for _, ip := range s.ips {
		all = append(all, ip.String())
	}
	return strings.Join(all, ", ")
}

var errNoPEM = errors.New("holds no PEM")
