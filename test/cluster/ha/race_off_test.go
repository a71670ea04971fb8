//go:build !race

package ha

// raceDetector builds the scaler without it when the tests have none.
const raceDetector = false
