//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// child is this program started again as another process. It is asked in
// lines, answers each with a line of JSON, and ends when its input does.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(args ...string) (*child, error) {
	c := &child{cmd: exec.Command(os.Args[0], args...)} //nolint:noctx,gosec // stop ends it; it is this very program
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = in, bufio.NewReader(out)
	return c, c.cmd.Start()
}

// answer reads one.
func (c *child) answer(to any) error {
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", c.cmd.Args[1], err)
	}
	return json.Unmarshal(line, to)
}

func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// tell is the other end of answer.
func tell(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }
