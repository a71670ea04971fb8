package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What a trigger written by hand may say of where a pod's metrics are.
const (
	metaProtocol = "metricProtocol"
	metaPort     = "metricPort"
	metaPath     = "metricPath"
	metaTimeout  = "scrapeTimeout"
	metaSource   = "metricSource"
)

// NoPage is of a trigger for which no pod is read. Its path is none that a page
// can have.
var NoPage = Page{Path: "none"}

// What these are unless they are given: KAITO's own.
const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
	portService = 80
	pathMetrics = "/metrics"
)

const (
	minTimeout = 100 * time.Millisecond
	maxTimeout = 30 * time.Second
)

// pagePath is a path of plain segments. It has no letter that could make
// another host, a query or a fragment of it.
var pagePath = regexp.MustCompile(`^(/|(/[A-Za-z0-9_.~-]+)+/?)$`)

// maxPath is longer than any path of metrics, and short enough for a log.
const maxPath = 128

// page reads where a trigger's metrics are. What is KAITO's own way comes out
// as the zero value, so that triggers that mean the same page share it.
func (p *parser) page() Page {
	var page Page
	if p.oneOf(metaProtocol, schemeHTTP, schemeHTTPS) == schemeHTTPS {
		page.Scheme = schemeHTTPS
	}
	if value, given := p.get(metaPort); given {
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil || port == 0 {
			p.refuse(metaPort, value, "must be a port from 1 to 65535")
		}
		if port != portService {
			page.Port = uint16(port)
		}
	}
	if value, given := p.get(metaPath); given {
		if len(value) > maxPath || !pagePath.MatchString(value) || strings.Contains(value, "..") {
			p.refuse(metaPath, value, fmt.Sprintf(
				"must be a path such as %s: one / before each of its parts, which have letters, digits, - _ . ~, and at most %d in all",
				pathMetrics, maxPath))
		}
		if value != pathMetrics {
			page.Path = value
		}
	}
	page.Timeout = p.timeout()
	if p.source(metaSource) {
		// Each names the same pods: the Service of a Workspace has one endpoint.
		p.oneOf(metaSource, sourceModelPod, "pod", "service")
	}
	return page
}

// timeout reads how long a scrape may take, 0 for the scaler's own.
func (p *parser) timeout() time.Duration {
	value, given := p.get(metaTimeout)
	if !given {
		return 0
	}
	timeout, err := duration(value)
	if err != nil || timeout < minTimeout || timeout > maxTimeout {
		p.refuse(metaTimeout, value, fmt.Sprintf("must be from %s to %s, such as 3s", minTimeout, maxTimeout))
	}
	// Timeouts that differ by less make no page of their own, which each pod
	// would be asked for.
	return (timeout + minTimeout - 1).Truncate(minTimeout)
}

// write adds what differs from KAITO's own way to a trigger's metadata.
func (p Page) write(metadata map[string]string) {
	if p == NoPage {
		return
	}
	if p.Scheme != "" {
		metadata[metaProtocol] = p.Scheme
	}
	if p.Port != 0 {
		metadata[metaPort] = strconv.Itoa(int(p.Port))
	}
	if p.Path != "" {
		metadata[metaPath] = p.Path
	}
	if p.Timeout != 0 {
		metadata[metaTimeout] = p.Timeout.String()
	}
}
