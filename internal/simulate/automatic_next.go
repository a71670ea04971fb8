package simulate

import (
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/automatic"
	"github.com/kaito-project/keda-kaito-scaler/internal/decision"
	"github.com/kaito-project/keda-kaito-scaler/internal/sample"
)

// AutomaticNext is automatic mode as it is going to be: capacity, forecast and
// decision as packages of their own.
func AutomaticNext(name string) Policy {
	return Policy{Name: name, New: func(s Setting) (Scaler, error) {
		p := automatic.Policy{
			Min: s.Bounds.Min, Max: s.Bounds.Max, Budget: .01,
			SLO: sample.SLO{FirstToken: s.SLO.TTFT, PerToken: s.SLO.ITL},
		}
		var scaler automatic.Scaler
		reading := decision.SaturationReading()
		return Scaler{
			Families: reading.Families, Window: reading.Window, Up: Free(), Down: Free(),
			Judge: func(fleet sample.Fleet, now time.Time) Call {
				r := scaler.Recommend(p, fleet, now)
				return Call{Known: r.Known, Total: float64(r.Replicas), Target: 1, Reason: r.Reason}
			},
		}, nil
	}}
}
