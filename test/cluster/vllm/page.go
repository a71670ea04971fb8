package vllm

import (
	"bytes"
	"hash/fnv"
	"io"
	"strconv"
	"strings"
	"time"
)

// State is what a page is written from.
type State struct {
	// Model is the model_name label.
	Model string
	// Started is when the process started, Now when it was asked.
	Started, Now time.Time
	// Engines behind the page, advanced to Now. None means that vLLM doesn't
	// run yet: the page is the download stub's.
	Engines []*Engine
}

// WritePage writes the page that vLLM, under KAITO, serves on /metrics: the
// families, help texts, labels, buckets and number format of the real one.
func WritePage(w io.Writer, s State) error {
	p := page{state: s}
	p.Grow(64<<10 + len(s.Engines)*(48<<10))
	p.process()
	p.kaito()
	if len(s.Engines) > 0 {
		for _, f := range engineFamilies {
			p.family(f)
		}
		p.cacheConfig()
		p.http()
	}
	_, err := w.Write(p.Bytes())
	return err
}

type page struct {
	bytes.Buffer
	state State
}

func (p *page) head(name, kind, help string) {
	p.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// sample writes one line; labels without braces.
func (p *page) sample(name, labels string, v float64) {
	p.WriteString(name)
	if labels != "" {
		p.WriteByte('{')
		p.WriteString(labels)
		p.WriteByte('}')
	}
	p.WriteByte(' ')
	p.WriteString(formatFloat(v))
	p.WriteByte('\n')
}

// created returns the value of a *_created gauge: engines make their metrics
// some fifteen seconds after the process started, each at its own instant.
func (p *page) created(name, labels string) float64 {
	h := fnv.New32a()
	_, _ = io.WriteString(h, name+labels)
	at := p.state.Started.Add(15*time.Second + time.Duration(h.Sum32()%1e9))
	if at.After(p.state.Now) {
		at = p.state.Now
	}
	return seconds(at)
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// point is one series of an engine. Labels stand sorted on the page, so a
// label goes between engine and model_name, or after both.
type point struct {
	between, after string
	value          float64
}

// engineFamily is a family with series for every engine.
type engineFamily struct {
	// name is without _total.
	name, help string
	kind       string
	points     func(e *Engine) []point
	histogram  func(s *stats) *histogram
}

func (p *page) family(f engineFamily) {
	name := f.name
	if f.kind == "counter" {
		name += "_total"
	}
	p.head(name, f.kind, f.help)
	labels := p.labelSets(f)
	for i, e := range p.state.Engines {
		if f.histogram != nil {
			p.histogram(f.name, `engine="`+strconv.Itoa(i)+`",`, p.modelLabel(), f.histogram(&e.stats))
			continue
		}
		for j, pt := range f.points(e) {
			p.sample(name, labels[i][j], pt.value)
		}
	}
	if f.kind == "gauge" {
		return
	}
	p.head(f.name+"_created", "gauge", f.help)
	for i := range p.state.Engines {
		for _, l := range labels[i] {
			p.sample(f.name+"_created", l, p.created(f.name, l))
		}
	}
}

// labelSets returns the labels of every series, by engine.
func (p *page) labelSets(f engineFamily) [][]string {
	sets := make([][]string, len(p.state.Engines))
	for i, e := range p.state.Engines {
		engine := `engine="` + strconv.Itoa(i) + `",`
		if f.histogram != nil {
			sets[i] = []string{engine + p.modelLabel()}
			continue
		}
		for _, pt := range f.points(e) {
			sets[i] = append(sets[i], engine+pt.between+p.modelLabel()+pt.after)
		}
	}
	return sets
}

func (p *page) modelLabel() string { return `model_name="` + p.state.Model + `"` }

// histogram writes buckets, count and sum. The le label stands between the
// labels before it, each with its comma, and those after.
func (p *page) histogram(name, before, after string, h *histogram) {
	rest := strings.TrimSuffix(before+after, ",")
	if after != "" {
		after = "," + after
	}
	var n uint64
	for i, c := range h.counts {
		n += c
		le := "+Inf"
		if i < len(h.bounds) {
			le = formatFloat(h.bounds[i])
		}
		p.sample(name+"_bucket", before+`le="`+le+`"`+after, float64(n))
	}
	p.sample(name+"_count", rest, float64(n))
	p.sample(name+"_sum", rest, h.sum)
}
