package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// item is one element of a list in JSON or YAML, as its author wrote it: 010
// means ten to whoever wrote it, and .inf must be refused by name.
type item struct {
	// text is what stands there instead of an object.
	text   string
	object bool
	// fields are an object's, in its order, and maybe twice.
	fields []field
}

// field is one of an object's.
type field struct {
	name, value string
	// null is as good as not given; nested is an object, a list or an alias.
	null, nested bool
}

// errNoList is told of anything that is no list.
var errNoList = errors.New("must be a list of metrics in YAML or JSON, such as " +
	"[{name: " + DefaultMetric + ", type: gauge, upthreshold: 10, downthreshold: 1}]")

// items reads a list of one metric at least.
func items(text string) ([]item, error) {
	if len(text) > maxListBytes {
		return nil, fmt.Errorf("must have at most %d bytes", maxListBytes)
	}
	read := yamlItems
	// KEDA hands us our own JSON with each call: 11 µs for two metrics, 27 µs as
	// YAML, which minds tabs too.
	if json.Valid([]byte(text)) {
		read = jsonItems
	}
	list, err := read(text)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, errors.New("must be a list of at least one metric")
	case len(list) > maxMetrics:
		return nil, fmt.Errorf("must have at most %d metrics; this has %d", maxMetrics, len(list))
	}
	return list, nil
}

// jsonItems reads a list from valid JSON.
func jsonItems(text string) ([]item, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if open, err := decoder.Token(); err != nil || open != json.Delim('[') {
		return nil, errNoList
	}
	var list []item
	for decoder.More() {
		it, err := jsonItem(decoder)
		if err != nil {
			return nil, fmt.Errorf("must be a list in JSON: %w", err)
		}
		list = append(list, it)
	}
	return list, nil
}

func jsonItem(decoder *json.Decoder) (item, error) {
	first, err := decoder.Token()
	switch {
	case err != nil:
		return item{}, err
	case first == json.Delim('['):
		return item{}, skip(decoder)
	case first != json.Delim('{'):
		return item{text: fmt.Sprint(first)}, nil
	}
	it := item{object: true}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return item{}, err
		}
		value, err := decoder.Token()
		if err != nil {
			return item{}, err
		}
		f := field{name: fmt.Sprint(name), null: value == nil}
		if _, f.nested = value.(json.Delim); f.nested {
			if err := skip(decoder); err != nil {
				return item{}, err
			}
		} else if !f.null {
			f.value = fmt.Sprint(value)
		}
		it.fields = append(it.fields, f)
	}
	_, err = decoder.Token() // its }
	return it, err
}

// skip passes over the rest of an object or a list that has been opened.
func skip(decoder *json.Decoder) error {
	for depth := 1; depth > 0; {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// yamlItems reads a list from YAML. Aliases aren't followed.
func yamlItems(text string) ([]item, error) {
	var document, more yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(text))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil // nothing but comments
	case err != nil:
		return nil, fmt.Errorf("must be a list in YAML or JSON: %s", shorten(strings.TrimPrefix(err.Error(), "yaml: ")))
	case !errors.Is(decoder.Decode(&more), io.EOF):
		return nil, errors.New("must be one list in YAML or JSON, and nothing after it")
	}
	root := document.Content[0]
	if root.Kind != yaml.SequenceNode {
		return nil, errNoList
	}
	list := make([]item, len(root.Content))
	for i, node := range root.Content {
		list[i] = item{text: node.Value, object: node.Kind == yaml.MappingNode}
		for j := 0; j+1 < len(node.Content) && list[i].object; j += 2 {
			name, value := node.Content[j], node.Content[j+1]
			list[i].fields = append(list[i].fields, field{
				name: name.Value, value: value.Value,
				null: value.ShortTag() == "!!null", nested: value.Kind != yaml.ScalarNode,
			})
		}
	}
	return list, nil
}
