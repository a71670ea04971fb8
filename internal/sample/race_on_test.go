//go:build race

package sample

// checks are fewer with the race detector, which makes each ten times as slow and
// finds nothing in what one goroutine does: 300 take as long as 3000 without.
const checks = "300"
