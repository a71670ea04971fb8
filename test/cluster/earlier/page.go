package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// page is the sum of each family's series.
type page map[string]float64

var reader = &http.Client{Timeout: 2 * time.Second}

// get reads a pod's metrics, at the port that its container has.
func get(ctx context.Context, ip string) (page, error) {
	url := "http://" + net.JoinHostPort(ip, "5000") + "/metrics"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := reader.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	p := page{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		text := lines.Text()
		end, value := strings.IndexAny(text, "{ "), strings.LastIndexByte(text, ' ')
		if end <= 0 || text[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(text[value+1:], 64); err == nil {
			p[text[:end]] += v
		}
	}
	return p, nil
}
