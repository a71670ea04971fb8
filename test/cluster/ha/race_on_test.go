//go:build race

package ha

// raceDetector builds the scaler with it when the tests have it.
const raceDetector = true
