package engines

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/internal/simulate"
	"github.com/kaito-project/keda-kaito-scaler/test/engine/load"
)

// longestPrompt and longestAnswer fit a live engine's context together.
const longestPrompt, longestAnswer = 6000, 2000

// Speeded is a load at so many times its speed, of which a share of the requests is kept.
// Their tokens are fewer in the same proportion, so that a request takes as much less of
// an engine's time.
func Speeded(of *simulate.Load, speed, share float64, seed uint64) (requests []load.Request) {
	random := rand.New(rand.NewPCG(seed, 0x7472616365))
	tokens := func(n int32, most int) int { return min(max(int(math.Round(float64(n)/speed)), 1), most) }
	for i := range of.Requests {
		r := &of.Requests[i]
		if random.Float64() < share {
			requests = append(requests, load.Request{
				At: span(r.At / speed), Prompt: tokens(r.In, longestPrompt), Output: tokens(r.Out, longestAnswer),
			})
		}
	}
	return requests
}

// Hour is an hour of conversations with the token counts and the dispersion of Azure's
// trace of 2023. It begins at its peak and has fallen to a third in twenty minutes.
func Hour(seed uint64) *simulate.Load {
	const full, fallen = 8 * time.Minute, 20 * time.Minute
	shape := func(t time.Duration) float64 {
		return 1 - min(max(float64(t-full)/float64(fallen-full), 0), 1)*2/3
	}
	return simulate.Generate("hour", &simulate.Conversation, shape, 8, time.Hour, seed)
}

// FromPeak is a trace from its busiest five minutes on, and then from its beginning.
func FromPeak(trace *simulate.Load) *simulate.Load {
	const stretch = 300.0
	most, at, first := 0, 0, 0
	for i := range trace.Requests {
		for trace.Requests[i].At-trace.Requests[first].At > stretch {
			first++
		}
		if i-first > most {
			most, at = i-first, first
		}
	}
	turned := &simulate.Load{Name: trace.Name, Length: trace.Length}
	begin := trace.Requests[at].At
	for _, part := range []struct {
		requests []simulate.Request
		later    float64
	}{{trace.Requests[at:], -begin}, {trace.Requests[:at], trace.Length.Seconds() - begin}} {
		for _, r := range part.requests {
			r.At += part.later
			turned.Requests = append(turned.Requests, r)
		}
	}
	return turned
}
