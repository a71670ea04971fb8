package engines

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
)

// Occupied is how many requests run and wait, as an engine's page says; none if there
// is no page.
func Occupied(ctx context.Context, url string) (running, waiting int) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		return 0, 0
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		value, _ := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
		switch name {
		case "vllm:num_requests_running":
			running += int(value)
		case "vllm:num_requests_waiting":
			waiting += int(value)
		}
	}
	return running, waiting
}

// Capacity is how many requests of so many tokens an engine works off a second, with
// as many at once as it runs at most.
func Capacity(e *simulate.Engine, prompt, output float64) float64 {
	seats := float64(e.MaxSeqs)
	return 1 / (output*(e.Alpha+e.Gamma*seats)/seats + e.Beta*prompt)
}
