package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

const containerdSocket = "/run/containerd/containerd.sock"

// podNetwork is that of the pods; the first address is their gateway.
const podNetwork = "10.244.0.0/24"

// containerdConfig: without restrict_oom_score_adj sandboxes fail where root may
// not lower its own, as in a container. The other snapshotters look for kernel
// modules and file systems that need not be there.
const containerdConfig = `version = 2
root = "%[1]s/containerd"
state = "/run/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "` + containerdSocket + `"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "` + pauseImage + `"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "%[2]s"
conf_dir = "%[1]s/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
`

// network: ptp and not bridge, so that packets between two pods pass the node's
// firewall, where kube-proxy and network policies do their work.
const network = `{
  "cniVersion": "0.4.0", "name": "pods",
  "plugins": [{
    "type": "ptp",
    "ipam": {
      "type": "host-local", "dataDir": "/run/cni",
      "ranges": [[{"subnet": "` + podNetwork + `"}]], "routes": [{"dst": "0.0.0.0/0"}]
    }
  }]
}
`

func (n *Node) startContainerd(ctx context.Context) error {
	cni := filepath.Join(n.place.Dir, "cni")
	if err := os.Mkdir(cni, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(cni, "10-pods.conflist"), []byte(network), 0o600); err != nil {
		return err
	}
	config := filepath.Join(n.place.Dir, "containerd.toml")
	text := fmt.Sprintf(containerdConfig, n.place.Dir, n.place.Plugins)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	program, err := lookPath("containerd")
	if err != nil {
		return err
	}
	p, err := n.Run("containerd", program, "--config="+config)
	if err != nil {
		return err
	}
	return n.Await(ctx, p, "containerd", func(ctx context.Context) error { return n.ctr(ctx, "version") })
}
