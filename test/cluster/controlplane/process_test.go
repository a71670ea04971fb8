package controlplane_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/await"
	"github.com/kaito-project/keda-kaito-scaler/test/cluster/controlplane"
)

// parentVar makes this test binary play a program that starts processes.
const parentVar = "CONTROLPLANE_TEST_PARENT"

func start(t *testing.T, script string) *controlplane.Process {
	t.Helper()
	p, err := controlplane.StartProcess(controlplane.Command{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script},
		Env: []string{"PATH=" + os.Getenv("PATH")},
		Log: filepath.Join(t.TempDir(), "script.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func waitForLine(t *testing.T, p *controlplane.Process, line string) {
	t.Helper()
	await.Until(t, 10*time.Second, line, func() error {
		if !strings.Contains(p.Tail(5), line) {
			return fmt.Errorf("no %q in the log", line)
		}
		return nil
	})
}

func TestStopIsNoFailure(t *testing.T) {
	p := start(t, `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	waitForLine(t, p, "up")
	if err := p.Stop(5 * time.Second); err != nil {
		t.Error(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("a stop that was asked for: %v", err)
	}
	if got := p.Tail(1); got != "bye" {
		t.Errorf("last line %q, want the one of an orderly end", got)
	}
	if alive(p.PID()) {
		t.Error("it is still there")
	}
}

func TestDeafProcessIsKilled(t *testing.T) {
	p := start(t, `trap '' TERM; echo up; while :; do sleep 0.05; done`)
	waitForLine(t, p, "up")
	err := p.Stop(200 * time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("got %v, want that it had to be killed", err)
	}
	if alive(p.PID()) {
		t.Error("it is still there")
	}
}

func TestEndByItselfIsAFailure(t *testing.T) {
	for code := range 2 { // also with 0: a server that goes away is gone
		p := start(t, fmt.Sprintf("echo because; exit %d", code))
		<-p.Done()
		err := p.Err()
		want := fmt.Sprintf("script ended by itself: exit status %d; the end of its log:\nbecause", code)
		if err == nil || err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	_, err := controlplane.StartProcess(controlplane.Command{
		Name: "ghost", Path: "/nowhere/ghost", Log: filepath.Join(t.TempDir(), "ghost.log"),
	})
	if err == nil || !strings.Contains(err.Error(), "starting ghost") {
		t.Errorf("got %v", err)
	}
}

// The environment is what Command says and nothing else.
func TestNothingIsInherited(t *testing.T) {
	t.Setenv("SECRET_OF_OURS", "1")
	p := start(t, `env; exit 0`)
	<-p.Done()
	if strings.Contains(p.Tail(100), "SECRET_OF_OURS") {
		t.Error("our environment got through")
	}
}

// A parent that is killed without a chance to clean up leaves nothing behind.
func TestKilledParentLeavesNothingBehind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can promise this")
	}
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentVar+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var children []int
	for lines := bufio.NewScanner(out); len(children) < childCount && lines.Scan(); {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, pid)
	}
	// Long enough for the parent's idle threads to end, were they the ones that
	// started the children.
	time.Sleep(500 * time.Millisecond)
	for _, pid := range children {
		if !alive(pid) {
			t.Errorf("child %d has died before its parent", pid)
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // says that it was killed
	for _, pid := range children {
		await.Until(t, 5*time.Second, "children end with their parent", func() error {
			if running(pid) {
				return fmt.Errorf("child %d has outlived its parent", pid)
			}
			return nil
		})
	}
}

const childCount = 5

// beParent starts children from goroutines that end at once, prints their
// process ids and waits to be killed.
func beParent() {
	for i := range childCount {
		pid := make(chan int)
		go func() {
			runtime.LockOSThread() // a thread that ends with its goroutine
			p, err := controlplane.StartProcess(controlplane.Command{
				Name: "child", Path: "/bin/sleep", Args: []string{"60"},
				Log: filepath.Join(os.Getenv(parentVar), fmt.Sprintf("child-%d.log", i)),
			})
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			pid <- p.PID()
		}()
		fmt.Println(<-pid)
	}
	time.Sleep(time.Minute)
	os.Exit(1)
}

// running is alive without zombies: an orphan's end is for init to note, which
// in a container may never happen.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
