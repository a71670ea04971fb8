package scrape

import "fmt"

// What is read of one page, however much there is: Prometheus has such limits too.
// A pod of eight engines has 8 series of a gauge and 200 of a histogram.
const (
	// maxSeries, maxBounds and maxEngines are of one family.
	maxSeries  = 2000
	maxBounds  = 200
	maxEngines = 64
	// maxLine is of a line of a wanted family, in bytes.
	maxLine = 4 << 10
	// maxKept and maxText are the wanted lines of a page in all, and their bytes.
	// Beyond them the largest family goes. Sixteen engines that are read for everything
	// have 2 300 lines of 240 KB, and up to four pages of a pod are read at once.
	maxKept = 4000
	maxText = 384 << 10
	// maxLines and maxTypes are lines of a page, wanted or not, and those of them
	// that begin a family. A page of vLLM's has 650 lines with 100 families, and 550
	// for each further engine. One of a wanted family takes 28 ns.
	maxLines = 45000
	maxTypes = 4000
	// maxLongNumbers is how many numbers of a page may be longer than a float64 is
	// written: a long one takes up to 10 µs, which is 300 times a short one's time.
	maxLongNumbers = 64
	longNumber     = 24
)

// flaw is why a family that stands on a page can't be used.
type flaw uint8

const (
	sound flaw = iota
	tooManySeries
	tooManyBounds
	tooManyEngines
	lineTooLong
	malformed
	notANumber
	badHistogram
	isSummary
	brokenOff
)

// flawReasons are the label of the metric that counts them.
var flawReasons = [...]string{
	tooManySeries: "too_many_series", tooManyBounds: "too_many_series", tooManyEngines: "too_many_series",
	lineTooLong: "line_too_long", malformed: "malformed", notANumber: "not_a_number", badHistogram: "bad_histogram",
	isSummary: "summary", brokenOff: "broken_off",
}

// words say what is wrong with the family of that name, which has so many series.
func (f flaw) words(name string, series int) string {
	switch f {
	case sound:
		return ""
	case tooManySeries:
		return fmt.Sprintf("too_many_series: %s has %d series on its page; %d of one metric are read, and %d in all", name, series, maxSeries, maxKept)
	case tooManyBounds:
		return fmt.Sprintf("too_many_series: %s has over %d buckets", name, maxBounds)
	case tooManyEngines:
		return fmt.Sprintf("too_many_series: %s has over %d different engines or models", name, maxEngines)
	case lineTooLong:
		return fmt.Sprintf("a line of %s is over %d bytes", name, maxLine)
	case malformed:
		return "a line of " + name + " can't be parsed"
	case notANumber:
		return name + " is no finite number"
	case badHistogram:
		return name + " is no whole histogram: its buckets descend, differ between engines, or lack le=\"+Inf\""
	case isSummary:
		return name + " is a summary, whose quantiles add up to nothing"
	case brokenOff:
		return "the page breaks off within " + name
	}
	return name + " can't be used"
}
