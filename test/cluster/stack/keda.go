package stack

import (
	"strings"
	"time"
)

// FailedCalls are the lines of KEDA's operator's log that tell of calls about a
// namespace's fleets that failed for KEDA.
func FailedCalls(log, namespace string) []string {
	var failed []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "\tERROR\t") && strings.Contains(line, "\texternal_scaler") && strings.Contains(line, namespace) {
			failed = append(failed, strings.TrimSpace(line))
		}
	}
	return failed
}

// onSecondTry are what KEDA's operator logs when a call failed, it made its
// scaler anew, and the same call failed again: nobody has the answer then.
var onSecondTry = []string{"error getting metric for trigger", "error getting metric spec for the scaler"}

// Unanswered are the lines of KEDA's operator's log that tell of calls which no
// scaler answered, not even with an error in words.
func Unanswered(log string) []string {
	var lost []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "\tERROR\t") {
			continue
		}
		for _, message := range onSecondTry {
			if strings.Contains(line, message) && !InWords(line) && (strings.Contains(line, "rpc error") || strings.Contains(line, "empty metric spec")) {
				lost = append(lost, strings.TrimSpace(line))
			}
		}
	}
	return lost
}

// InWords tells whether an error is a scaler's answer about an InferenceSet or a
// trigger, and not of a connection.
func InWords(message string) bool {
	return strings.Contains(message, "desc = InferenceSet ") || strings.Contains(message, "desc = trigger of ScaledObject ")
}

// Times are when lines of KEDA's log were written, to the second.
func Times(lines []string) []time.Time {
	var times []time.Time
	for _, line := range lines {
		text, _, _ := strings.Cut(line, "\t")
		if at, err := time.Parse(time.RFC3339, text); err == nil {
			times = append(times, at)
		}
	}
	return times
}

// Seconds is in how many different seconds these lines were written.
func Seconds(lines []string) int {
	found := map[string]bool{}
	for _, line := range lines {
		at, _, _ := strings.Cut(line, "\t")
		found[at] = true
	}
	return len(found)
}
