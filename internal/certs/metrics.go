package certs

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// expiry has the server's certificate on every replica, as it is served there,
// and the CA's and the client's on the leader.
var expiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "keda_kaito_scaler_certificate_expiry_timestamp_seconds",
	Help: "When the certificate in use ends, in seconds since the epoch. certificate is ca, server or client.",
}, []string{"certificate"})

// beginning is beside expiry: how much of its life a certificate has left tells
// whether it should have been renewed, however long that life is.
var beginning = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "keda_kaito_scaler_certificate_not_before_timestamp_seconds",
	Help: "When the certificate in use began, in seconds since the epoch. certificate is ca, server or client.",
}, []string{"certificate"})

func registerMetrics(registry prometheus.Registerer) error {
	for _, gauge := range []prometheus.Collector{expiry, beginning} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(gauge); err != nil && !errors.As(err, &already) {
			return fmt.Errorf("registering certificate metrics: %w", err)
		}
	}
	return nil
}

// deleteLeaderSeries ends the series that only a leader has. A replica that led before
// would go on telling of certificates that another one has long renewed.
func deleteLeaderSeries() {
	setExpiry("ca", nil)
	setExpiry(forClient.String(), nil)
}

// setExpiry tells of a certificate in use, nil for none.
func setExpiry(name string, cert *x509.Certificate) {
	if cert == nil {
		expiry.DeleteLabelValues(name)
		beginning.DeleteLabelValues(name)
		return
	}
	expiry.WithLabelValues(name).Set(float64(cert.NotAfter.Unix()))
	beginning.WithLabelValues(name).Set(float64(cert.NotBefore.Unix()))
}
