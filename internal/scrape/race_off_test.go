//go:build !race

package scrape

const racing = false
