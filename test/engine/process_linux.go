package engine

import "syscall"

// sysProcAttr makes a process group of the engine, and has the kernel kill its first
// process when the thread that started it ends. The plugin has the others follow.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
