// Package node runs a real Kubernetes node beside package controlplane's real
// control plane: containerd, runc and CNI of this machine, kubelet, kube-proxy,
// kube-scheduler and CoreDNS from Go modules, and KEDA in pods. The install test
// (build tag node) runs the chart on it.
//
// It needs root and a place of its own, see hack/node.sh: namespaces for
// network, mounts and processes, of which the machine notices nothing, and which
// take everything with them when they go.
package node
