//go:build !oldest

package e2e

// oldest runs the tests on the newest KEDA and Kubernetes that are pinned.
const oldest = false
