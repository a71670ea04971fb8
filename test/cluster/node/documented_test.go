//go:build node

package node

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The commands are those of KAITO's documentation, but for the host of the
// repository: KEDA is in a namespace of its own, the scaler in another.
func TestTheCommandOfKAITOsDocumentation(t *testing.T) {
	repository := serveRepository(t) + "/keda-kaito-scaler/charts/kaito-project"
	helm(t, strings.Fields("repo add keda-kaito-scaler "+repository)...)
	helm(t, strings.Fields("repo update")...)
	notes := helm(t, strings.Fields("upgrade --install keda-kaito-scaler -n kaito-workspace keda-kaito-scaler/keda-kaito-scaler --create-namespace")...)
	t.Cleanup(func() {
		uninstall(t, "kaito-workspace")
		shared.forget(t, "keda") // KEDA's certificate
	})
	if strings.Contains(notes, "WARNING") {
		t.Errorf("the notes warn of KEDA's namespace:\n%s", notes)
	}
	if err := shared.Available(t.Context(), "kaito-workspace", release); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, "documented", 1)
	f.awaitScaledObject()
	f.queue(25)
	f.wantDesired(3)
}

// serveRepository serves the packaged chart as GitHub's pages do, and returns
// their address.
func serveRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "keda-kaito-scaler", "charts", "kaito-project")
	helm(t, "package", "charts/keda-kaito-scaler", "--destination", at)
	helm(t, "repo", "index", at)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String()
}
