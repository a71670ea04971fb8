package main

import (
	"runtime/debug"
	"slices"
	"strings"
)

// release is the version that a build was told to be, such as 0.7.0, with
// -ldflags '-X main.release=0.7.0'. What has no clone to look at has nothing else.
var release string

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return versionOf(release, info)
}

// versionOf is a version without its v, the commit if Go knows it, and Go's
// version. Without a clone or a release it is "devel".
func versionOf(release string, info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	version := strings.TrimPrefix(release, "v")
	switch {
	case version == "":
		version = strings.Trim(strings.TrimPrefix(info.Main.Version, "v"), "()") // "(devel)"
	case settings["vcs.modified"] == "true":
		version += "+dirty"
	}
	if version == "" {
		version = "devel"
	}
	return strings.Join(slices.DeleteFunc([]string{version, settings["vcs.revision"], info.GoVersion}, func(part string) bool { return part == "" }), " ")
}
