package main

import (
	"runtime/debug"
	"testing"
)

// TestEveryBuildKnowsItsVersion, of tools/release, sees the builds themselves.
func TestAVersionSaysWhatIsKnown(t *testing.T) {
	const commit = "3b2c8a0f5d1e4c7b9a6f0e2d8c4b1a7f5e3d9c0b"
	info := func(version, modified string) *debug.BuildInfo {
		b := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: version}}
		if modified != "" {
			b.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: modified}}
		}
		return b
	}
	for _, tt := range []struct {
		story, release string
		info           *debug.BuildInfo
		want           string
	}{
		{"a clone of the tag", "", info("v0.7.0", "false"), "0.7.0 " + commit + " go1.26.8"},
		{"a changed clone", "", info("v0.7.1-0.20261201000000-3b2c8a0f5d1e+dirty", "true"), "0.7.1-0.20261201000000-3b2c8a0f5d1e+dirty " + commit + " go1.26.8"},
		{"a module of a proxy", "", info("v0.7.0", ""), "0.7.0 go1.26.8"},
		{"a release", "0.7.0", info("v0.0.0-20261201000000-3b2c8a0f5d1e", "false"), "0.7.0 " + commit + " go1.26.8"},
		{"a release that isn't the commit's", "0.7.0", info("v0.7.0+dirty", "true"), "0.7.0+dirty " + commit + " go1.26.8"},
		{"a release without a clone", "v0.7.0", info("(devel)", ""), "0.7.0 go1.26.8"},
		{"nothing known", "", info("(devel)", ""), "devel go1.26.8"},
		{"nothing at all", "", &debug.BuildInfo{}, "devel"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			if got := versionOf(tt.release, tt.info); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
