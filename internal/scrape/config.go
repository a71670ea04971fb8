package scrape

import (
	"crypto/x509"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is how to read. Zero fields take their default; whoever fills them in
// has checked them.
type Config struct {
	// Interval is how often each page is read, 1 s – 60 s, 5 s by default.
	Interval time.Duration
	// Timeout bounds a scrape from connecting to its last byte, unless its page
	// has one of its own: above 0, at most Interval, DefaultTimeout by default.
	Timeout time.Duration
	// MaxBytes bounds a page, 8 MiB by default.
	MaxBytes int64
	// Grace is handed on in every Fleet, 10 min by default.
	Grace time.Duration
	// NoTolerance is handed on in every Fleet: the cluster's HPA has none in
	// its behaviour.
	NoTolerance bool
	// Roots sign the certificates of pods that are read over https; nil are the
	// system's.
	Roots *x509.CertPool
	// SkipVerify takes any certificate of them.
	SkipVerify bool
	// Log gets transitions only.
	Log logr.Logger
	// Registerer gets the metrics; nil registers them nowhere.
	Registerer prometheus.Registerer
}

func (c *Config) fillIn() {
	if c.Interval == 0 {
		c.Interval = 5 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout(c.Interval)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 8 << 20
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Minute
	}
}

// DefaultTimeout is nine tenths of the interval, 4.5 s of 5 s. A saturated pod takes
// seconds over its page, and a late page says more than none; the rest leaves time
// to end a scrape before the next one.
func DefaultTimeout(interval time.Duration) time.Duration { return interval / 10 * 9 }
