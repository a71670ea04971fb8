//go:build !race

package decision

// checks are so many for each property.
const checks = "3000"
