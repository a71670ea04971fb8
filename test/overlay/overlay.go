// Package overlay compiles code with some text changed (go build -overlay). The tree
// isn't touched.
package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Change is a text that becomes another one.
type Change struct{ From, To string }

// Edit returns the text of a file after changes, each of a text that is there once.
func Edit(file string, changes ...Change) (string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // source
	if err != nil {
		return "", err
	}
	text := string(data)
	for _, c := range changes {
		if n := strings.Count(text, c.From); n != 1 {
			return "", fmt.Errorf("%s has %d times %q, want once", file, n, c.From)
		}
		text = strings.Replace(text, c.From, c.To, 1)
	}
	return text, nil
}

// Write writes into a folder what files are to have instead, by their names, and
// returns the file for -overlay. The files' base names differ.
func Write(folder string, texts map[string]string) (string, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // public source
		return "", err
	}
	replace := map[string]string{}
	var errs []error
	for file, text := range texts {
		original, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[original] = filepath.Join(folder, filepath.Base(file)+".txt")
		errs = append(errs, os.WriteFile(replace[original], []byte(text), 0o644)) //nolint:gosec // public source
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(folder, "overlay.json")
	errs = append(errs, os.WriteFile(overlay, list, 0o644)) //nolint:gosec // public source
	return overlay, errors.Join(errs...)
}
