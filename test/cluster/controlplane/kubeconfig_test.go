package controlplane

import (
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Each scaler that is started has the account's kubeconfig written anew, while the
// one started before reads it.
func TestAKubeconfigIsReadWholeWhileItIsWrittenAgain(t *testing.T) {
	c := &Cluster{dir: t.TempDir(), apiURL: "https://127.0.0.1:1", ca: &authority{}}
	user := &clientcmdapi.AuthInfo{Token: "token"}
	path, err := c.writeKubeconfig("scaler", user)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for range 300 {
			if _, err := c.writeKubeconfig("scaler", user); err != nil {
				done <- err
				return
			}
		}
		close(done)
	}()
	for {
		config, err := clientcmd.LoadFromFile(path)
		if err != nil || config.AuthInfos["scaler"] == nil {
			t.Fatalf("read %+v, %v", config, err)
		}
		select {
		case err, failed := <-done:
			if failed {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}
