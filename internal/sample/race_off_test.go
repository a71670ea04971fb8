//go:build !race

package sample

// checks are so many for each property.
const checks = "3000"
