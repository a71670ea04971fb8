package controlplane

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Process is the component of that name that was started last, or nil.
func (c *Cluster) Process(name string) *Process {
	for _, p := range slices.Backward(c.Processes()) {
		if p.name == name {
			return p
		}
	}
	return nil
}

// Again starts a component that was stopped or killed once more, with the very
// same command. That it is ready is for the caller to await, except for
// kube-apiserver.
func (c *Cluster) Again(ctx context.Context, p *Process) error {
	select {
	case <-p.Done():
	default:
		return fmt.Errorf("starting %s again: it is still running", p.name)
	}
	// Without the program's name, and with the environment as it was made.
	again, err := c.start(Command{
		Name: p.name, Path: p.cmd.Path, Args: p.cmd.Args[1:], Env: p.cmd.Env, Dir: p.cmd.Dir, Log: p.log,
	})
	if err != nil {
		return err
	}
	c.takePlace(p, again)
	if p.name != apiServer {
		return nil
	}
	return c.await(ctx, again, apiServer, c.answersOK(c.apiURL+"/readyz"))
}

// takePlace puts a process where its predecessor stood in the order of starts,
// in which Stop goes back: the API server has to outlive those that talk to it.
func (c *Cluster) takePlace(old, again *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes = slices.DeleteFunc(c.processes, func(p *Process) bool { return p == again })
	c.processes[slices.Index(c.processes, old)] = again
}

// Outage kills the API server, as a crash would, runs what is to happen while
// it is away, and starts it again. It returns once the API server is ready.
func (c *Cluster) Outage(ctx context.Context, meanwhile func()) (time.Duration, error) {
	p := c.Process(apiServer)
	if err := p.Kill(); err != nil {
		return 0, err
	}
	since := time.Now()
	meanwhile()
	err := c.Again(ctx, p)
	return time.Since(since), err
}

const apiServer = "kube-apiserver"
