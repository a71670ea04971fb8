package engine

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// python is an interpreter on this machine.
type python struct {
	path string
	// version is "3.11".
	version string
}

// pythonNames are tried in this order.
var pythonNames = []string{"python3", "python3.12", "python3.11", "python3.13", "python3.10", "python"}

// findPython returns the first interpreter on the path that a vLLM can be installed for.
func findPython(ctx context.Context, r release) (python, error) {
	var seen []string
	for _, name := range pythonNames {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		version, err := output(ctx, path, "-c", `import sys; print("%d.%d" % sys.version_info[:2])`)
		if err != nil {
			continue // a shim of a version that isn't there
		}
		var major, minor int
		if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
			continue
		}
		if major == 3 && minor >= r.oldestPython && minor <= newestPython {
			return python{path: path, version: version}, nil
		}
		seen = append(seen, name+" is "+version)
	}
	if ctx.Err() != nil {
		return python{}, ctx.Err()
	}
	found := "there is none on the path"
	if seen != nil {
		found = strings.Join(seen, ", ")
	}
	return python{}, fmt.Errorf("vLLM %s needs Python 3.%d to 3.%d: %s", r.version, r.oldestPython, newestPython, found)
}
