package cache

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func names(t *testing.T, dir string) string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range found {
		all = append(all, entry.Name())
	}
	return strings.Join(all, " ")
}

// made is an entry that has one file.
func made(dir, name string) Entry {
	return Entry{Cache: dir, Kind: "etcd", Name: name, Waiting: func() {}, Make: func(_ context.Context, into string) error {
		return os.WriteFile(filepath.Join(into, "etcd"), nil, 0o600)
	}}
}

func TestWhatIsMadeOnceIsFoundByEverybody(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	times, waited := 0, 0
	var wg sync.WaitGroup
	for range 4 {
		e := made(dir, "etcd-1")
		e.Waiting = func() { mu.Lock(); waited++; mu.Unlock() }
		make1 := e.Make
		e.Make = func(ctx context.Context, into string) error {
			mu.Lock()
			times++
			mu.Unlock()
			return make1(ctx, into)
		}
		wg.Go(func() {
			path, err := e.Path(t.Context())
			if err != nil || path != filepath.Join(dir, "etcd-1") {
				t.Errorf("got %s, %v", path, err)
			}
		})
	}
	wg.Wait()
	if times != 1 || waited > 3 {
		t.Errorf("made %d times, %d waited", times, waited)
	}
}

func TestWhatFailsIsNotThere(t *testing.T) {
	dir := t.TempDir()
	e := made(dir, "etcd-1")
	broken := errors.New("half of it is made")
	e.Make = func(_ context.Context, into string) error {
		return errors.Join(os.WriteFile(filepath.Join(into, "half"), nil, 0o600), broken)
	}
	if _, err := e.Path(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got := names(t, dir); got != "etcd.lock" {
		t.Errorf("left: %s", got)
	}
}

// What a killed process or a long unused version has left goes with the next one.
func TestWhatNobodyUsesIsRemoved(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{
		"etcd.unfinished-123": 0,
		"etcd-old":            60 * 24 * time.Hour,
		"etcd-recent":         24 * time.Hour,
		"keda-old":            60 * 24 * time.Hour, // another kind
	} {
		then := time.Now().Add(-age)
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := made(dir, "etcd-new").Path(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != "etcd-new etcd-recent etcd.lock keda-old" {
		t.Errorf("left: %s", got)
	}
	removed, err := Clean(t.Context(), dir, "etcd", func() {})
	if err != nil || strings.Join(removed, " ") != "etcd-new etcd-recent" || names(t, dir) != "etcd.lock keda-old" {
		t.Errorf("removed %v, %v; left: %s", removed, err, names(t, dir))
	}
}

func TestWhoWaitsForALockCanBeInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, func() { t.Error("the first one waits") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	if _, err := Lock(ctx, path, interrupt); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	unlock()
	again, err := Lock(t.Context(), path, func() { t.Error("nobody has it") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestProgressIsLinesInALog(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out)
	p.Say("building %s", "etcd")
	p.During(func() string { return "never asked within 30 s" })()
	if got := out.String(); got != "building etcd\n" {
		t.Errorf("got %q", got)
	}
	NewProgress(nil).Say("silence")
}
