package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
)

// document is a bill of materials in SPDX 2.3: of its fields, those that hold
// what the build info knows.
type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []component    `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type component struct {
	ID        string      `json:"SPDXID"`
	Name      string      `json:"name"`
	Version   string      `json:"versionInfo"`
	Location  string      `json:"downloadLocation"`
	Analyzed  bool        `json:"filesAnalyzed"`
	Concluded string      `json:"licenseConcluded"`
	Declared  string      `json:"licenseDeclared"`
	Checksums []checksum  `json:"checksums,omitempty"`
	Refs      []reference `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Kind string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const unasserted = "NOASSERTION"

// sbom lists every module that is linked into the program, with the standard
// library and the module that the CA roots are from. It says nothing of the
// modules' licences, which the build info doesn't know.
func sbom(b *built) ([]byte, error) {
	digest := sha256.Sum256(b.binary)
	text := hex.EncodeToString(digest[:])
	main := module(b.info.Main.Path, b.version())
	main.Declared = "Apache-2.0"
	main.Checksums = []checksum{{"SHA256", text}}
	doc := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT",
		Name:      "keda-kaito-scaler-" + b.platform.Architecture,
		Namespace: "https://github.com/kaito-project/keda-kaito-scaler/sbom/" + text,
		Creation: creation{
			Created:  b.created().Format(time.RFC3339),
			Creators: []string{"Organization: kaito-project", "Tool: tools/release"},
		},
		Packages:      []component{main},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", main.ID}},
	}
	add := func(c component) {
		doc.Packages = append(doc.Packages, c)
		doc.Relationships = append(doc.Relationships, relationship{main.ID, "DEPENDS_ON", c.ID})
	}
	add(module("stdlib", strings.TrimPrefix(b.info.GoVersion, "go")))
	for _, dep := range b.info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		add(module(dep.Path, dep.Version))
	}
	if own, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range own.Deps {
			if dep.Path == "golang.org/x/crypto/x509roots/fallback" {
				add(module(dep.Path, dep.Version))
			}
		}
	}
	return json.MarshalIndent(doc, "", "  ")
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func module(path, version string) component {
	return component{
		ID:   "SPDXRef-" + unfit.ReplaceAllString(path, "-"),
		Name: path, Version: version, Location: unasserted,
		Concluded: unasserted, Declared: unasserted,
		Refs: []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + strings.ToLower(path) + "@" + url.QueryEscape(version)}},
	}
}
