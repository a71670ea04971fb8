package node

import (
	"errors"
	"os"
)

// Place is what hack/node.sh has made for the node.
type Place struct {
	// Dir is a folder on a real disk, removed with the place.
	Dir string
	// Cgroup is the parent of all pods' cgroups, such as /parent.
	Cgroup string
	// IP is an address of the machine, as the place sees it.
	IP string
	// Plugins is where the machine's CNI plugins are.
	Plugins string
}

// Here is the place in which this program runs.
func Here() (Place, error) {
	p := Place{
		Dir: os.Getenv("NODE_DIR"), Cgroup: os.Getenv("NODE_CGROUP"),
		IP: os.Getenv("NODE_IP"), Plugins: os.Getenv("NODE_PLUGINS"),
	}
	if p.Dir == "" || p.Cgroup == "" || p.IP == "" || p.Plugins == "" {
		return Place{}, errors.New("this is no place for a node: run make test-node, or the command with hack/node.sh run")
	}
	return p, nil
}
