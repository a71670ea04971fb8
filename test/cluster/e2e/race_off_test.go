//go:build !race

package e2e

// raceDetector builds the scaler without it when the tests have none.
const raceDetector = false
