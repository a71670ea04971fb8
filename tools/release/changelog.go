package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// section is what CHANGELOG.md says of a version, or of what isn't released yet.
type section struct {
	version string // "" for Unreleased
	date    string // such as 2026-12-01, "" for Unreleased
	text    string
}

var (
	semantic = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?$`)
	// Keep a Changelog has "## [0.7.0] - 2026-12-01" and "## [Unreleased]".
	released  = regexp.MustCompile(`^## \[([^\]]+)\] - (\S+)$`)
	unlinked  = regexp.MustCompile(`(?m)^\[[^\]]+\]: \S+\n?`)
	nothingIn = regexp.MustCompile(`(?m)^###.*$`)
)

// sections are those of a changelog, the newest first, as it has them. Whatever
// it isn't, is told: a heading that nobody could find again would lose notes.
func sections(changelog string) ([]section, error) {
	var out []section
	for i, part := range strings.Split("\n"+changelog, "\n## ")[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		s := section{text: strings.TrimSpace(unlinked.ReplaceAllString(text, ""))}
		if heading != "[Unreleased]" || i > 0 {
			match := released.FindStringSubmatch("## " + heading)
			if match == nil || !semantic.MatchString(match[1]) {
				return nil, fmt.Errorf("CHANGELOG.md: %q is no heading of a version, such as \"## [0.7.0] - 2026-12-01\"", "## "+heading)
			}
			s.version, s.date = match[1], match[2]
			if _, err := time.Parse(time.DateOnly, s.date); err != nil {
				return nil, fmt.Errorf("CHANGELOG.md: version %s has the date %q, want one such as 2026-12-01", s.version, s.date)
			}
		}
		if n := len(out); n > 0 && out[n-1].version != "" && compare(out[n-1].version, s.version) <= 0 {
			return nil, fmt.Errorf("CHANGELOG.md: version %s stands above %s: the newest comes first, and each once", out[n-1].version, s.version)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, errors.New("CHANGELOG.md has no section")
	}
	return out, nil
}

// empty is a section that tells nothing, headings aside.
func (s section) empty() bool {
	return strings.TrimSpace(nothingIn.ReplaceAllString(s.text, "")) == ""
}

// notes are what the changelog says of a version; with unreleased, of what is
// under Unreleased if the version has no section yet.
func notes(changelog, version string, unreleased bool) (string, error) {
	all, err := sections(changelog)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(s section) bool { return s.version == version })
	if i < 0 && unreleased && all[0].version == "" {
		i = 0
	}
	switch {
	case i < 0:
		return "", fmt.Errorf("CHANGELOG.md has no section \"## [%s] - DATE\"", version)
	case all[i].empty():
		return "", fmt.Errorf("CHANGELOG.md says nothing of %s", version)
	}
	return all[i].text, nil
}

// compare is negative if a is older than b: as semantic versions are ordered, but
// for two pre-releases of a version, which go by their letters.
func compare(a, b string) int {
	x, y := semantic.FindStringSubmatch(a), semantic.FindStringSubmatch(b)
	for i := 1; i <= 3; i++ {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m - n
		}
	}
	switch {
	case x[4] == y[4]:
		return 0
	case x[4] == "":
		return 1
	case y[4] == "":
		return -1
	}
	return strings.Compare(x[4], y[4])
}
