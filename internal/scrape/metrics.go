package scrape

import "github.com/prometheus/client_golang/prometheus"

// metrics are the reader's own. None has a label that comes from a pod or from
// a user's object: ten thousand pods make no more series than one.
type metrics struct {
	duration prometheus.Histogram
	failures *prometheus.CounterVec
	targets  prometheus.Gauge
	failing  *prometheus.GaugeVec
	late     prometheus.Counter
	flawed   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "keda_kaito_scaler_scrape_duration_seconds",
			Help:    "How long reading one pod's metrics page took, failures included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5, 10},
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keda_kaito_scaler_scrape_failures_total",
			Help: "Pages that could not be had or believed, by reason.",
		}, []string{"reason"}),
		targets: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keda_kaito_scaler_scrape_targets",
			Help: "Pages of pods being read: one a pod, or one for each page that triggers ask for.",
		}),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "keda_kaito_scaler_scrape_unreadable_targets",
			Help: "Pages whose newest scrape failed, by reason.",
		}, []string{"reason"}),
		late: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keda_kaito_scaler_scrape_skipped_total",
			Help: "Scrapes not begun because the pod's last one had not ended, or waited for a slot.",
		}),
	}
	m.flawed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keda_kaito_scaler_scrape_unusable_families_total",
		Help: "Metric families that were asked for, stood on a page that was read, and could not be used, by reason.",
	}, []string{"reason"})
	for _, reason := range flawReasons[1:] {
		m.flawed.WithLabelValues(reason)
	}
	for _, r := range reasons {
		m.failures.WithLabelValues(string(r))
		m.failing.WithLabelValues(string(r))
	}
	if reg != nil {
		reg.MustRegister(m.duration, m.failures, m.targets, m.failing, m.late, m.flawed)
	}
	return m
}
