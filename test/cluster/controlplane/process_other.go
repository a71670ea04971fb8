//go:build unix && !linux

package controlplane

import "syscall"

// sysProcAttr puts a child into a process group of its own, so that Ctrl-C in
// the terminal reaches only us and we stop the children in order.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
