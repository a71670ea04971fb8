package controlplane

import "syscall"

// sysProcAttr puts a child into a process group of its own, so that Ctrl-C in
// the terminal reaches only us and we stop the children in order, and asks the
// kernel to kill the child when the thread that started it ends, so that not
// even a kill -9 of ours leaves it behind.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
