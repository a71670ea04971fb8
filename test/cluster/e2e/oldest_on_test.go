//go:build oldest

package e2e

// oldest runs the tests on the oldest KEDA that is promised, and on an HPA
// without tolerances.
const oldest = true
