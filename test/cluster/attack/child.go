//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// child is this program started again as another process, so that what it costs
// is nobody else's. It is asked in lines of JSON and answers each with one. It
// ends when its input does, which is at the latest when its parent dies.
type child struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	done chan struct{}

	// mu holds question and answer together.
	mu sync.Mutex
}

// startChild runs the role of that name.
func startChild(role string) (*child, error) {
	c := &child{name: role, done: make(chan struct{})}
	c.cmd = exec.Command("/proc/self/exe", "-be="+role) //nolint:noctx,gosec // stop ends it; it is this very program
	c.cmd.Stderr = os.Stderr
	// A group of its own: Ctrl-C reaches the parent alone, which ends everything
	// in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = in, bufio.NewReader(out)
	started := make(chan error, 1)
	go func() {
		// To the kernel the parent is the thread that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := c.cmd.Start()
		started <- err
		if err == nil {
			_, _ = c.cmd.Process.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return c, nil
}

// ask sends a question and reads the answer. If the context ends, so does the
// child, for it may be in the middle of anything.
func (c *child) ask(ctx context.Context, question, answer any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	unhook := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() })
	defer unhook()
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return c.failed(ctx, err)
	}
	reply, err := c.out.ReadBytes('\n')
	if err != nil {
		return c.failed(ctx, err)
	}
	return json.Unmarshal(reply, answer)
}

func (c *child) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("ask %s: %w", c.name, err)
}

func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	<-c.done
}

// serveParent is the other end of ask.
func serveParent[Q, A any](answer func(Q) (A, error)) error {
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		var question Q
		err := in.Decode(&question)
		if errors.Is(err, io.EOF) {
			return nil // the parent is gone, or has no further question
		}
		if err != nil {
			return err
		}
		a, err := answer(question)
		if err != nil {
			return err
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}
