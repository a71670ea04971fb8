package page

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Shape is what of a family doesn't depend on the model, the requests or the machine.
type Shape struct {
	Kind string
	// Series are vLLM's, each by its labels, with the values that vLLM gives them.
	Series []string
	// Bounds are of a histogram of times. Those of token counts depend on the model.
	Bounds []float64
}

// Shapes are those of a page's families, by name.
func Shapes(text string) (map[string]Shape, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	shapes := map[string]Shape{}
	for name, f := range families {
		shapes[name] = shapeOf(name, f)
	}
	return shapes, nil
}

func shapeOf(name string, f *dto.MetricFamily) Shape {
	s := Shape{Kind: f.GetType().String()}
	for _, m := range f.GetMetric() {
		if strings.HasSuffix(name, "_seconds") && s.Bounds == nil {
			for _, b := range m.GetHistogram().GetBucket() {
				s.Bounds = append(s.Bounds, b.GetUpperBound())
			}
		}
		if !strings.HasPrefix(name, "vllm:") {
			continue // of the routes that were asked for, or of a Python
		}
		var labels []string
		for _, l := range m.GetLabel() {
			label := l.GetName()
			if slices.Contains([]string{"engine", "reason", "source", "finished_reason", "sleep_state"}, label) {
				label += "=" + l.GetValue()
			}
			labels = append(labels, label)
		}
		s.Series = append(s.Series, strings.Join(labels, ","))
	}
	return s
}
