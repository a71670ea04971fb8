package provision

import (
	"time"

	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Controller keeps one ScaledObject for each InferenceSet that asks for it.
type Controller struct {
	client   client.Client
	recorder events.EventRecorder
	settings Settings
	reported *eventDedup
	metrics  *metrics
}

func newController(c client.Client, recorder events.EventRecorder, settings Settings) (*Controller, error) {
	m, err := newMetrics(settings.Registerer)
	if err != nil {
		return nil, err
	}
	return &Controller{client: c, recorder: recorder, settings: settings, reported: newEventDedup(), metrics: m}, nil
}

// handover is how much longer ScaledObjects of earlier versions are left alone.
func (c *Controller) handover() time.Duration {
	if c.settings.Handover == nil {
		return 0
	}
	return max(0, c.settings.Handover())
}
