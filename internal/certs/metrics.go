package certs

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// expiry has the server's certificate on every replica, as it is served there,
// and the CA's and the client's on the leader.
var expiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "keda_kaito_scaler_certificate_expiry_timestamp_seconds",
	Help: "When the certificate in use ends, in seconds since the epoch. certificate is ca, server or client.",
}, []string{"certificate"})

func registerMetrics(registry prometheus.Registerer) error {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(expiry); err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering certificate metrics: %w", err)
	}
	return nil
}

func setExpiry(certificate string, at time.Time) {
	if at.IsZero() {
		expiry.DeleteLabelValues(certificate)
		return
	}
	expiry.WithLabelValues(certificate).Set(float64(at.Unix()))
}
