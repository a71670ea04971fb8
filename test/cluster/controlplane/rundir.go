package controlplane

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

const (
	runDirPrefix = "keda-kaito-scaler-cluster-"
	inUse        = "in-use" // a file locked for as long as its folder is in use
)

// newRunDir makes the folder of one cluster. First it removes those of clusters
// whose program was killed before it could: etcd alone leaves 64 MB.
func newRunDir() (dir string, release func(keep bool) error, err error) {
	if err := sweepRunDirs(); err != nil {
		return "", nil, err
	}
	if dir, err = os.MkdirTemp("", runDirPrefix); err != nil {
		return "", nil, err
	}
	// Locked before it gets its name: nobody may find it unlocked.
	lock, err := os.CreateTemp(dir, "")
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	path := filepath.Join(dir, inUse)
	err = errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), os.Rename(lock.Name(), path))
	if err != nil {
		return "", nil, errors.Join(err, lock.Close(), os.RemoveAll(dir))
	}
	return dir, func(keep bool) error {
		if keep { // without the file nobody will take it for an abandoned one
			return errors.Join(os.Remove(path), lock.Close())
		}
		return errors.Join(os.RemoveAll(dir), lock.Close())
	}, nil
}

func sweepRunDirs() error {
	locks, err := filepath.Glob(filepath.Join(os.TempDir(), runDirPrefix+"*", inUse))
	if err != nil {
		return err
	}
	for _, path := range locks {
		lock, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // In a folder of ours.
		if err != nil {
			continue // another user's, or gone meanwhile
		}
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			err = os.RemoveAll(filepath.Dir(path))
		} else if errors.Is(err, syscall.EWOULDBLOCK) {
			err = nil // in use
		}
		if err := errors.Join(err, lock.Close()); err != nil {
			return err
		}
	}
	return nil
}
