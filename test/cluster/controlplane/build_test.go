package controlplane

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

	"github.com/kaito-project/keda-kaito-scaler/test/cache"
)

// etcdSource is the smallest of the pinned modules.
func etcdSource(t *testing.T) string {
	t.Helper()
	cluster, err := clusterDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cluster, etcdModule.folder)
}

func entries(t *testing.T, folder string) []string {
	t.Helper()
	found, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}

// Two that want the same build at the same time build once.
func TestBuildOnce(t *testing.T) {
	source, folder := etcdSource(t), t.TempDir()
	var outputs [2]bytes.Buffer
	var got [2]string
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = etcdModule.entry(t.Context(), cache.NewProgress(&outputs[i]), source, folder); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got[0] != got[1] {
		t.Errorf("two places for one build: %v", got)
	}
	if info, err := os.Stat(filepath.Join(got[0], "etcd")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("no program etcd: %v", err)
	}
	both := outputs[0].String() + outputs[1].String()
	if n := strings.Count(both, "built etcd"); n != 1 {
		t.Errorf("built %d times:\n%s", n, both)
	}
	if !strings.Contains(both, "waiting for it") {
		t.Errorf("nobody was told to wait:\n%s", both)
	}
	if left := entries(t, folder); len(left) != 2 { // and the lock
		t.Errorf("in the cache: %v", left)
	}
}

// A cancelled build leaves nothing that could be taken for a finished one.
func TestCancelledBuild(t *testing.T) {
	source, folder := etcdSource(t), t.TempDir()
	t.Setenv("GOCACHE", filepath.Join(folder, "cold")) // so that it takes its time
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	begin := time.Now()
	_, err := etcdModule.entry(ctx, cache.NewProgress(nil), source, folder)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if passed := time.Since(begin); passed > 10*time.Second {
		t.Errorf("it took %s to end", passed)
	}
	for _, name := range entries(t, folder) {
		if name != "cold" && name != "etcd.lock" {
			t.Errorf("left behind: %s", name)
		}
	}
}

func TestAssetsOfTheUser(t *testing.T) {
	dir := t.TempDir()
	put := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put("kube-apiserver")
	if a := newAssets(dir); len(a) != 0 {
		t.Errorf("an API server without its etcd was taken: %v", a)
	}
	put("etcd")
	a := newAssets(dir)
	if len(a) != 2 {
		t.Errorf("got %v, want the pair", a)
	}
	rest := a.without(kubernetesModule.commands)
	if len(rest) != 1 || rest["kube-controller-manager"] == "" {
		t.Errorf("to build: %v, want kube-controller-manager alone", rest)
	}
}

func TestKubernetesStamp(t *testing.T) {
	got := strings.Join(kubernetesStamp("v1.36.3", "2026-01-02T03:04:05Z"), " ")
	for _, want := range []string{
		"k8s.io/component-base/version.gitVersion=v1.36.3",
		"k8s.io/component-base/version.gitMajor=1",
		"k8s.io/client-go/pkg/version.gitMinor=36",
		"k8s.io/component-base/version.buildDate=2026-01-02T03:04:05Z",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

// The folder of a killed program's cluster is removed by the next one; those in
// use and those that are kept stay.
func TestSweepRunDirs(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	used, releaseUsed, err := newRunDir()
	if err != nil {
		t.Fatal(err)
	}
	kept, releaseKept, err := newRunDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := releaseKept(true); err != nil {
		t.Fatal(err)
	}
	abandoned := filepath.Join(os.TempDir(), runDirPrefix+"abandoned")
	if err := errors.Join(os.Mkdir(abandoned, 0o700), os.WriteFile(filepath.Join(abandoned, inUse), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := sweepRunDirs(); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{used: true, kept: true, abandoned: false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", filepath.Base(dir), err, want)
		}
	}
	if err := releaseUsed(false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(used); !os.IsNotExist(err) {
		t.Errorf("%s is still there", used)
	}
}
