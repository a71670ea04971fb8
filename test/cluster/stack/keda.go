package stack

import "strings"

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

// Seconds is in how many different seconds these lines were written.
func Seconds(lines []string) int {
	found := map[string]bool{}
	for _, line := range lines {
		at, _, _ := strings.Cut(line, "\t")
		found[at] = true
	}
	return len(found)
}
