// Package cache is about what is made once and kept in the user's cache: the
// folder, a lock between processes, entries that are whole or not there at all, and
// progress for the person who waits.
package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	unfinishedMark = ".unfinished-"
	unusedFor      = 30 * 24 * time.Hour
)

// Dir is the project's folder in the user's cache. It exists.
func Dir() (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w", err)
	}
	dir := filepath.Join(user, "keda-kaito-scaler")
	return dir, os.MkdirAll(dir, 0o755) //nolint:gosec // Programs of public origin.
}

// Lock takes the lock at path. It calls waiting once if another process holds it.
// The kernel frees it when the holder ends, however it ends.
func Lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // In our own cache.
	if err != nil {
		return nil, err
	}
	told := false
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if !told {
			waiting()
			told = true
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Entry is a folder in the cache that is made once.
type Entry struct {
	// Cache is the folder that holds it, Name its name there.
	Cache, Name string
	// Kind is what Name begins with. All entries of a kind share one lock, and
	// those that nobody has used for a month are removed before one is made.
	Kind string
	// Waiting is called once if another process makes one of this kind.
	Waiting func()
	// Make fills an empty folder.
	Make func(ctx context.Context, into string) error
}

// Path returns the entry's path, making it first if it isn't there. An entry that
// was not made to its end is never taken for one.
func (e Entry) Path(ctx context.Context) (string, error) {
	path := filepath.Join(e.Cache, e.Name)
	if used(path) {
		return path, nil
	}
	unlock, err := Lock(ctx, e.lock(), e.Waiting)
	if err != nil {
		return "", err
	}
	defer unlock()
	if used(path) { // by the process that we waited for
		return path, nil
	}
	if _, err := remove(e.Cache, e.Kind, unusedFor); err != nil {
		return "", err
	}
	unfinished, err := os.MkdirTemp(e.Cache, e.Kind+unfinishedMark)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(unfinished) }() // gone already if all went well
	if err := e.Make(ctx, unfinished); err != nil {
		return "", err
	}
	return path, os.Rename(unfinished, path)
}

func (e Entry) lock() string { return filepath.Join(e.Cache, e.Kind+".lock") }

// Clean removes all entries of a kind and returns their names.
func Clean(ctx context.Context, cache, kind string, waiting func()) ([]string, error) {
	unlock, err := Lock(ctx, Entry{Cache: cache, Kind: kind}.lock(), waiting)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return remove(cache, kind, 0)
}

// used reports whether an entry exists, and marks it as in use.
func used(path string) bool {
	now := time.Now()
	return os.Chtimes(path, now, now) == nil
}

// remove removes what killed processes have left, and entries that nobody has used
// for that long. The lock must be held.
func remove(cache, kind string, unused time.Duration) (removed []string, err error) {
	unfinished, err := filepath.Glob(filepath.Join(cache, kind+unfinishedMark+"*"))
	if err != nil {
		return nil, err
	}
	entries, err := filepath.Glob(filepath.Join(cache, kind+"-*"))
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if info, err := os.Stat(entry); err == nil && time.Since(info.ModTime()) >= unused {
			unfinished = append(unfinished, entry)
		}
	}
	for _, dir := range unfinished {
		if err := os.RemoveAll(dir); err != nil {
			return removed, err
		}
		removed = append(removed, filepath.Base(dir))
	}
	return removed, nil
}
