package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Command says how to start a Process.
type Command struct {
	// Name is how the process is called in messages, e.g. "kube-apiserver".
	Name string
	// Path is the program, Args its arguments without the program's name.
	Path string
	Args []string
	// Env is the whole environment: nothing is inherited unless it is listed.
	Env []string
	// Dir is the working directory; "" is ours.
	Dir string
	// Log is the file to which standard output and error are appended.
	Log string
}

// Process is one running program. It ends by Stop, by Kill, or by itself,
// which is a failure whatever its exit code.
type Process struct {
	name     string
	log      string
	cmd      *exec.Cmd
	stopping atomic.Bool
	done     chan struct{}
	err      error // readable once done is closed
}

// StartProcess starts a program. It returns once the program runs, not once it
// is ready.
func StartProcess(c Command) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", c.Name, err)
	}
	cmd := exec.Command(c.Path, c.Args...) //nolint:gosec,noctx // Running given programs is this type's purpose; Stop and Kill end them.
	cmd.Env = append([]string{}, c.Env...) // not nil, which would inherit ours
	cmd.Dir = c.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr()

	p := &Process{name: c.Name, log: c.Log, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(log, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	return p, nil
}

// run starts the program and waits for it on one thread. Linux counts the end
// of the starting thread as the death of the parent (Pdeathsig): if the thread
// went back to the Go scheduler, which may end it at any time, the program
// would die with it for no reason.
func (p *Process) run(log *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	defer func() { _ = log.Close() }()

	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = p.cmd.Wait()
	if p.stopping.Load() {
		return
	}
	reason := "exit status 0"
	if err != nil {
		reason = err.Error()
	}
	p.err = fmt.Errorf("%s ended by itself: %s; the end of its log:\n%s", p.name, reason, p.Tail(tailOnFailure))
}

const (
	// tailOnFailure is how many lines of a log go into an error, tailOnKill how many
	// with the stacks of a program's goroutines.
	tailOnFailure, tailOnKill = 25, 1000
	// dumpGrace is how long writing them may take.
	dumpGrace = 2 * time.Second
)

// Name is the name given at the start.
func (p *Process) Name() string { return p.name }

// PID is the process id, also after the process has ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// LogFile is the path of the log.
func (p *Process) LogFile() string { return p.log }

// Done is closed when the process has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the process ended, with the end of its log. It is nil while the
// process runs and after an end that Stop or Kill asked for.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop asks the process to end (SIGTERM) and waits. A process that is still
// there after grace is killed, which is an error with the end of its log: a program in
// Go writes there, at SIGQUIT, what it was waiting for. Stopping twice is harmless.
func (p *Process) Stop(grace time.Duration) error {
	p.stopping.Store(true)
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	if err := p.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	timer.Reset(dumpGrace)
	select {
	case <-p.done:
	case <-timer.C:
		if err := p.Kill(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s did not end within %s of SIGTERM and was killed; the end of its log:\n%s", p.name, grace, p.Tail(tailOnKill))
}

// Kill ends the process at once (SIGKILL) and waits for it: a crash, as the
// rest of the world sees it, but one that was asked for.
func (p *Process) Kill() error {
	p.stopping.Store(true)
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

func (p *Process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to %s: %w", s, p.name, err)
	}
	return nil
}

// tailBytes bounds what Tail reads: a log may be large, its end is what counts.
const tailBytes = 64 << 10

// Tail returns at most the last n lines of the log.
func (p *Process) Tail(n int) string {
	tail, err := tailFile(p.log, n)
	if err != nil {
		return fmt.Sprintf("(the log %s can't be read: %v)", p.log, err)
	}
	return tail
}

func tailFile(path string, n int) (string, error) {
	f, err := os.Open(path) //nolint:gosec // A log that we opened ourselves.
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	from := max(0, info.Size()-tailBytes)
	end := make([]byte, info.Size()-from)
	read, err := f.ReadAt(end, from)
	if err != nil && read < len(end) {
		return "", err
	}
	lines := strings.Split(strings.TrimRight(string(end), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n"), nil
}
