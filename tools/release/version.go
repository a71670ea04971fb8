package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// place is where a file has something of the version. Chart.yaml's version is the
// one to go by; the others say the same.
type place struct {
	file, what string
	pattern    *regexp.Regexp // what it says is the one group
	want       func(version string) string
}

const (
	chartFile   = "charts/keda-kaito-scaler/Chart.yaml"
	listingFile = "artifacthub/keda-kaito-scaler/artifacthub-pkg.yml"
	changelog   = "CHANGELOG.md"
)

func same(version string) string { return version }

func prerelease(version string) string { return strconv.FormatBool(strings.Contains(version, "-")) }

var places = []place{
	{chartFile, "version", regexp.MustCompile(`(?m)^version: (\S+)$`), same},
	{chartFile, "appVersion", regexp.MustCompile(`(?m)^appVersion: (\S+)$`), same},
	{chartFile, "artifacthub.io/prerelease", regexp.MustCompile(`(?m)^ +artifacthub.io/prerelease: "(\S+)"$`), prerelease},
	{chartFile, "artifacthub.io/images", regexp.MustCompile(`(?m)image: ` + repository + `:(\S+)$`), same},
	{listingFile, "version", regexp.MustCompile(`(?m)^version: (\S+)$`), same},
	{listingFile, "appVersion", regexp.MustCompile(`(?m)^appVersion: (\S+)$`), same},
	{listingFile, "prerelease", regexp.MustCompile(`(?m)^prerelease: (\S+)$`), prerelease},
	{listingFile, "containersImages", regexp.MustCompile(`(?m)image: ` + repository + `:(\S+)$`), same},
}

// checkTag says why a tag must not be published of this checkout: it isn't the
// version that the files have, the changelog doesn't tell of it, or the chart
// repository has it already. With unreleased the changelog may have it under
// Unreleased yet.
func checkTag(root, tag, index string, unreleased bool) error {
	version, found := strings.CutPrefix(tag, "v")
	if !found || !semantic.MatchString(version) {
		return fmt.Errorf("%q is no tag of a release, which is v and a semantic version, such as v0.7.0", tag)
	}
	wrong, err := disagree(root, tag)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, changelog)) //nolint:gosec // the checkout's
	if err != nil {
		return err
	}
	wrong = append(wrong, untold(string(text), version, unreleased))
	if index != "" {
		published, err := versionsIn(index)
		if err != nil {
			return err
		}
		if slices.Contains(published, version) {
			wrong = append(wrong, fmt.Errorf("the chart repository has %s already, and what is published doesn't change", version))
		}
	}
	return errors.Join(wrong...)
}

// disagree are the places that say something else than a tag.
func disagree(root, tag string) (wrong []error, err error) {
	for _, p := range places {
		text, err := os.ReadFile(filepath.Join(root, p.file)) //nolint:gosec // the checkout's
		if err != nil {
			return nil, err
		}
		want := p.want(strings.TrimPrefix(tag, "v"))
		match := p.pattern.FindSubmatch(text)
		switch {
		case match == nil:
			wrong = append(wrong, fmt.Errorf("%s has no %s", p.file, p.what))
		case string(match[1]) != want:
			wrong = append(wrong, fmt.Errorf("%s: %s is %s, and the tag %s wants %s", p.file, p.what, match[1], tag, want))
		}
	}
	return wrong, nil
}

// untold says that a changelog doesn't tell of a version, or tells of a newer one.
func untold(text, version string, unreleased bool) error {
	if _, err := notes(text, version, unreleased); err != nil {
		return err
	}
	all, err := sections(text)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.version != "" && compare(s.version, version) > 0 {
			return fmt.Errorf("CHANGELOG.md has %s already, which is newer than v%s", s.version, version)
		}
	}
	return nil
}

var indexed = regexp.MustCompile(`(?m)^    version: "?([^"\s]+)"?$`)

// versionsIn are the charts' versions that a chart repository's index has.
func versionsIn(index string) ([]string, error) {
	text, err := os.ReadFile(index) //nolint:gosec // the caller's
	if err != nil {
		return nil, err
	}
	var out []string
	for _, match := range indexed.FindAllSubmatch(text, -1) {
		out = append(out, string(match[1]))
	}
	return out, nil
}

func printNotes(root, version string, unreleased bool) error {
	text, err := os.ReadFile(filepath.Join(root, changelog)) //nolint:gosec // the checkout's
	if err != nil {
		return err
	}
	found, err := notes(string(text), version, unreleased)
	if err != nil {
		return err
	}
	fmt.Println(found)
	return nil
}

var created = regexp.MustCompile(`(?m)^createdAt: .*$`)

// setVersion writes a version to every place, and what CHANGELOG.md has under
// Unreleased becomes its section.
func setVersion(root, version string, now time.Time) error {
	if !semantic.MatchString(version) {
		return fmt.Errorf("%q is no semantic version, such as 0.7.0", version)
	}
	now = now.UTC().Truncate(24 * time.Hour)
	for _, p := range places {
		if err := edit(filepath.Join(root, p.file), func(text string) (string, error) {
			at := p.pattern.FindStringSubmatchIndex(text)
			if at == nil {
				return "", fmt.Errorf("%s has no %s", p.file, p.what)
			}
			return text[:at[2]] + p.want(version) + text[at[3]:], nil
		}); err != nil {
			return err
		}
	}
	if err := edit(filepath.Join(root, listingFile), func(text string) (string, error) {
		return created.ReplaceAllString(text, `createdAt: "`+now.Format(time.RFC3339)+`"`), nil
	}); err != nil {
		return err
	}
	return edit(filepath.Join(root, changelog), func(text string) (string, error) {
		all, err := sections(text)
		if err != nil {
			return "", err
		}
		if all[0].version != "" || all[0].empty() {
			return "", errors.New("CHANGELOG.md has nothing under Unreleased")
		}
		const unreleased = "## [Unreleased]\n"
		return strings.Replace(text, unreleased, unreleased+"\n## ["+version+"] - "+now.Format(time.DateOnly)+"\n", 1), nil
	})
}

func edit(file string, change func(string) (string, error)) error {
	text, err := os.ReadFile(file) //nolint:gosec // the checkout's
	if err != nil {
		return err
	}
	changed, err := change(string(text))
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(changed), 0o644) //nolint:gosec // to be committed
}
