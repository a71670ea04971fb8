package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/kaito-project/keda-kaito-scaler/test/page"
)

// The tenant's triggers ask for these beside vLLM's own: names of one letter
// pass a reader's first look at a line most often.
const (
	hostileGauge     = "g"
	hostileHistogram = "h"
)

// pace is how a pod sends its response.
type pace int

const (
	// atOnce sends all of it.
	atOnce pace = iota
	// held sends all but the last byte, and nothing more.
	held
	// dripped sends a byte every 100 ms.
	dripped
	// silent accepts the connection and the request, and says nothing.
	silent
)

// shape is one way in which a pod can be nasty.
type shape struct {
	name string
	pace pace
	// response is all that the pod sends, its header too.
	response func() []byte
	// fetched marks those of which reading costs CPU, to be compared with
	// fetching and discarding.
	fetched bool
}

// Sizes of pages: pageLimit is the scaler's own (--scrape-max-bytes).
const (
	pageLimit = 8 << 20
	// full is a page that is just within it.
	full = pageLimit - 128<<10
)

const textPlain = "text/plain; version=0.0.4; charset=utf-8"

// honest is what a pod says that means well.
const honest = "honest"

// shapes are all attacks of a pod's page.
func shapes() []shape {
	all := []shape{
		{name: honest, response: func() []byte { return ok("") }, fetched: true},
		{name: "silent", pace: silent, response: func() []byte { return []byte{} }},
		{name: "drip", pace: dripped, response: func() []byte { return ok("") }},
	}
	for name, body := range textPages() {
		all = append(all, shape{name: name, response: func() []byte { return ok(body()) }, fetched: true})
	}
	// What is held in the middle of the page holds its memory for a whole timeout.
	for _, name := range []string{"gauge-series", "buckets-40000", "type-names"} {
		body := textPages()[name]
		all = append(all, shape{name: "held " + name, pace: held, response: func() []byte { return ok(body()) }})
	}
	return append(all, httpShapes()...)
}

// textPages are bodies that come behind an honest page, by name.
func textPages() map[string]func() string {
	return map[string]func() string{
		"buckets-40000":  func() string { return histogram(40_000) },
		"buckets-10000":  func() string { return histogram(10_000) },
		"buckets-1000":   func() string { return histogram(1_000) },
		"buckets-random": func() string { return histogramOf(30_000, func(i int) int { return i * 7919 % 30_000 }) },
		"engines-35000":  func() string { return engines(35_000) },
		"engines-buckets": func() string {
			return lines(900<<10, func(i int) string { return fmt.Sprintf("h_bucket{engine=\"%d\",le=\"%d\"} 1", i%1000, i/1000) })
		},
		"gauge-series": func() string {
			return lines(full, func(i int) string { return fmt.Sprintf("g{a=\"%d\"} 1", i) })
		},
		"duplicates": func() string { return lines(full, func(int) string { return "g 1" }) },
		"few-bytes":  func() string { return lines(4*39_000, func(int) string { return "g 1" }) },
		"near-misses": func() string {
			return lines(full, func(i int) string { return fmt.Sprintf("vllm:num_requests_waitinh{a=\"%d\"} 1", i) })
		},
		"one-letter": func() string { return lines(full, func(int) string { return "gh 1" }) },
		"type-flood": func() string {
			return lines(full, func(i int) string { return "# TYPE h " + []string{"gauge", "histogram", "counter"}[i%3] })
		},
		"type-names": func() string {
			return lines(full, func(i int) string { return fmt.Sprintf("# TYPE vllm:%d%s histogram", i, strings.Repeat("n", 200)) })
		},
		"help-flood": func() string { return lines(full, func(i int) string { return "# HELP g " + strconv.Itoa(i) }) },
		"every-vllm-family": func() string {
			return lines(full, func(i int) string { return fmt.Sprintf("vllm:num_requests_running{engine=\"%d\"} 1", i) })
		},
		"long-line": func() string { return "g{a=\"" + strings.Repeat("x", full) },
		"long-lines": func() string {
			return lines(full, func(int) string { return "g{a=\"" + strings.Repeat("x", 60<<10) + "\"} 1" })
		},
		"labels": func() string {
			return lines(full, func(int) string { return "g{" + strings.Repeat("a=\"\",", 12_000) + "} 1" })
		},
		"escapes": func() string {
			return lines(full, func(int) string { return "g{engine=\"" + strings.Repeat(`\\`, 500) + "\"} 1" })
		},
		"open-quotes": func() string {
			return lines(full, func(int) string { return `g{engine="` + strings.Repeat(`\"`, 500) + `} 1` })
		},
		"numbers": func() string {
			return lines(full, func(int) string { return "g 0." + strings.Repeat("0", 1000) + "1" })
		},
		"not-numbers": func() string {
			return lines(full, func(i int) string { return "g " + []string{"NaN", "1e999", "0x1p-2", "-Inf"}[i%4] })
		},
		"timestamps": func() string { return lines(full, func(i int) string { return "g 1 " + strconv.Itoa(i) }) },
		"wrong-last": func() string {
			return lines(900<<10, func(i int) string { return fmt.Sprintf("g{a=\"%d\"} 1", i) }) + "g{a 1\n"
		},
		"newlines":   func() string { return strings.Repeat("\n", full) },
		"spaces":     func() string { return strings.Repeat(" ", full) },
		"zero-bytes": func() string { return strings.Repeat("\x00", full) },
		"not-utf8":   func() string { return lines(full, func(int) string { return "g{engine=\"\xff\xfe\xc0\"} 1" }) },
		"too-large":  func() string { return lines(2*pageLimit, func(int) string { return "x 1" }) },
	}
}

// httpShapes are nasty below the page.
func httpShapes() []shape {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: " + textPlain + "\r\n"
	text := func(s func() string) func() []byte { return func() []byte { return []byte(s()) } }
	return []shape{
		{name: "byte-chunks", fetched: true, response: text(func() string {
			return head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\ng\r\n", 512<<10) + "0\r\n\r\n"
		})},
		{name: "chunk-extensions", fetched: true, response: text(func() string {
			return head + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 3000)+"\r\ng\r\n", 1000) + "0\r\n\r\n"
		})},
		{name: "trailers", response: text(func() string {
			return head + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + lines(pageLimit, func(i int) string { return fmt.Sprintf("T%d: x\r", i) }) + "\r\n"
		})},
		{name: "headers", response: text(func() string {
			return "HTTP/1.1 200 OK\r\n" + lines(pageLimit, func(i int) string { return fmt.Sprintf("H%d: x\r", i) })
		})},
		{name: "small-headers", response: text(func() string {
			return head + lines(60<<10, func(i int) string { return strconv.FormatInt(int64(i), 36) + ":\r" }) + "Content-Length: 0\r\n\r\n"
		})},
		{name: "long-header", response: text(func() string {
			return "HTTP/1.1 200 OK\r\nH: " + strings.Repeat("x", pageLimit)
		})},
		{name: "no-end-of-informing", response: text(func() string {
			return strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100_000)
		})},
		{name: "gzip-bomb", response: func() []byte { return encoded("Content-Encoding: gzip\r\n", textPlain, bomb(64<<20)) }},
		{name: "gzip-of-series", fetched: false, response: func() []byte {
			return encoded("Content-Encoding: gzip\r\n", textPlain, zipped(engines(35_000)))
		}},
		{name: "protobuf", response: func() []byte {
			return encoded("", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", protobufs())
		}},
		{name: "openmetrics", fetched: true, response: func() []byte {
			body := page.Busy().Text() + engines(35_000) + "# EOF\n"
			return encoded("", "application/openmetrics-text; version=1.0.0", []byte(body))
		}},
		{name: "redirect", response: text(func() string {
			return "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/" + strings.Repeat("x", 50<<10) + "\r\nContent-Length: 0\r\n\r\n"
		})},
		{name: "error", response: func() []byte {
			return bytes.Replace(ok(strings.Repeat("x", full)), []byte("200 OK"), []byte("500 Sorry"), 1)
		}},
		{name: "not-http", response: text(func() string { return strings.Repeat("\x16\x03\x01", 1<<20) })},
	}
}

// ok is a page that begins as an honest one.
func ok(more string) []byte {
	return encoded("", textPlain, []byte(page.Busy().Text()+more))
}

func encoded(header, contentType string, body []byte) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n", contentType, header, len(body))
	return append([]byte(head), body...)
}

// lines are as many as fit into size.
func lines(size int, line func(i int) string) string {
	var b strings.Builder
	b.Grow(size)
	for i := 0; ; i++ {
		l := line(i)
		if b.Len()+len(l)+1 > size {
			return b.String()
		}
		b.WriteString(l)
		b.WriteByte('\n')
	}
}

func histogram(buckets int) string {
	return histogramOf(buckets, func(i int) int { return i })
}

func histogramOf(buckets int, bound func(i int) int) string {
	var b strings.Builder
	b.WriteString("# TYPE h histogram\n")
	for i := range buckets {
		fmt.Fprintf(&b, "h_bucket{le=\"%d\"} 1\n", bound(i))
	}
	b.WriteString("h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n")
	return b.String()
}

func engines(n int) string {
	var b strings.Builder
	b.WriteString("# TYPE g gauge\n")
	for i := range n {
		fmt.Fprintf(&b, "g{engine=\"%d\"} 1\n", i)
	}
	return b.String()
}

func zipped(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text) // into memory
	_ = z.Close()
	return b.Bytes()
}

// bomb unpacks to so many bytes.
func bomb(size int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, page.Busy().Text())
	part := []byte(lines(1<<20, func(i int) string { return fmt.Sprintf("g{a=\"%d\"} 1", i) }))
	for left := size; left > 0; left -= len(part) {
		_, _ = z.Write(part)
	}
	_ = z.Close()
	return b.Bytes()
}

// protobufs are families that each say that they are megabytes long, and then
// one that is.
func protobufs() []byte {
	const name = 0x0a // field 1, of a length
	body := []byte{0xff, 0xff, 0xff, 0x03, name, 1, hostileGauge[0]}
	metric := []byte{0x22, 0x0b, 0x12, 0x09, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f}
	return append(body, bytes.Repeat(metric, 6<<20/len(metric))...)
}
