//go:build race

package e2e

// raceDetector builds the scaler with it when the tests have it.
const raceDetector = true
