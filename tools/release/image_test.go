package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const root = "../.."

// scratch is where made writes to, if a test needs it.
var scratch string

// made is what run writes, made once for all tests.
var made = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "image-test-")
	if err != nil {
		return "", err
	}
	scratch = dir
	return dir, run(context.Background(), imageOptions{root: root, into: dir, platforms: []string{"linux/amd64", "linux/arm64"}})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if scratch != "" {
		_ = os.RemoveAll(scratch)
	}
	os.Exit(code)
}

func folder(t *testing.T) string {
	t.Helper()
	dir, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// images are those of the OCI layout, by platform.
func images(t *testing.T) map[string]v1.Image {
	t.Helper()
	outer, err := layout.ImageIndexFromPath(filepath.Join(folder(t), "oci"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("the layout's index: %+v, %v", manifest, err)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if manifest, err = index.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	out := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		if out[m.Platform.String()], err = index.Image(m.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// files are an image's file system: mode and owner of each, and the contents.
func files(t *testing.T, img v1.Image) (list map[string]string, contents map[string][]byte) {
	t.Helper()
	list, contents = map[string]string{}, map[string][]byte{}
	reader := mutate.Extract(img)
	defer func() { _ = reader.Close() }()
	for r := tar.NewReader(reader); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		list[header.Name] = fmt.Sprintf("%o %d:%d", header.Mode, header.Uid, header.Gid)
		if contents[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheImageHasTheProgramAndTheRootsAlone(t *testing.T) {
	all := images(t)
	if len(all) != 2 || all["linux/amd64"] == nil || all["linux/arm64"] == nil {
		t.Fatalf("the layout has %d platforms: %v", len(all), all)
	}
	for platform, img := range all {
		t.Run(platform, func(t *testing.T) {
			list, contents := files(t, img)
			want := map[string]string{
				"etc": "755 0:0", "etc/ssl": "755 0:0", "etc/ssl/certs": "755 0:0",
				"etc/ssl/certs/ca-certificates.crt": "644 0:0",
				"keda-kaito-scaler":                 "755 0:0",
			}
			if diff := cmp.Diff(want, list); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(contents["etc/ssl/certs/ca-certificates.crt"]) {
				t.Error("no CA roots")
			}
			checkProgram(t, contents["keda-kaito-scaler"], platform)
		})
	}
}

func checkProgram(t *testing.T, binary []byte, platform string) {
	t.Helper()
	if len(binary) > 60_000_000 {
		t.Errorf("the program has %d bytes, more than 60 MB", len(binary))
	}
	file, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64}[platform]
	if file.Machine != want {
		t.Errorf("the program is for %s", file.Machine)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the program wants a dynamic loader, and there is none")
		}
	}
}

func TestTheImageRunsAsNobody(t *testing.T) {
	for platform, img := range images(t) {
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := file.OS + "/" + file.Architecture; got != platform {
			t.Errorf("the image for %s says %s", platform, got)
		}
		version := file.Config.Labels["org.opencontainers.image.version"]
		if version == "" {
			t.Error("no version")
		}
		want := v1.Config{
			User: "65532:65532", Entrypoint: []string{"/keda-kaito-scaler"},
			ExposedPorts: map[string]struct{}{"10450/tcp": {}, "10451/tcp": {}, "10452/tcp": {}},
			Labels:       file.Config.Labels,
		}
		if diff := cmp.Diff(want, file.Config); diff != "" {
			t.Errorf("config (-want +got):\n%s", diff)
		}
	}
}

func TestTheTarballIsTheSameImage(t *testing.T) {
	for platform, img := range images(t) {
		_, arch, _ := strings.Cut(platform, "/")
		got, err := tarball.ImageFromPath(filepath.Join(folder(t), "keda-kaito-scaler-"+arch+".tar"), nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := img.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		if id, err := got.ConfigName(); err != nil || id != want {
			t.Errorf("the tarball for %s has the image %s, the layout %s: %v", platform, id, want, err)
		}
	}
}

func TestTheBillNamesWhatIsLinkedIn(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(folder(t), "keda-kaito-scaler-arm64.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bill document
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	ids, names := map[string]bool{}, map[string]string{}
	for _, p := range bill.Packages {
		if ids[p.ID] {
			t.Errorf("%s twice", p.ID)
		}
		ids[p.ID], names[p.Name] = true, p.Version
	}
	for _, name := range []string{
		"github.com/kaito-project/keda-kaito-scaler", "stdlib",
		"sigs.k8s.io/controller-runtime", "google.golang.org/grpc",
	} {
		if names[name] == "" {
			t.Errorf("%s is not in the bill", name)
		}
	}
	for _, r := range bill.Relationships {
		if r.From != "SPDXRef-DOCUMENT" && !ids[r.From] || !ids[r.To] {
			t.Errorf("%+v leads nowhere", r)
		}
	}
}

// Those who have an engine get the same from the Dockerfile.
func TestTheDockerfileIsInStep(t *testing.T) {
	text, err := os.ReadFile(root + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"FROM scratch", "USER " + user, `ENTRYPOINT ["` + program + `"]`, "EXPOSE 10450 10451 10452",
		`go build -trimpath -ldflags "-s -w -X main.release=${VERSION}" -o ` + program + " ./cmd/keda-kaito-scaler", " " + filepath.Dir(caRoots) + "/",
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("the Dockerfile has no %q", line)
		}
	}
	_, final, _ := strings.Cut(string(text), "FROM scratch")
	if copies := regexp.MustCompile(`(?m)^(COPY|ADD|RUN)`).FindAllString(final, -1); len(copies) != 2 {
		t.Errorf("the Dockerfile's image gets %d things, want two files", len(copies))
	}
}
