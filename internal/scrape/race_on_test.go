//go:build race

package scrape

// The race detector makes everything ten times as slow.
const racing = true
