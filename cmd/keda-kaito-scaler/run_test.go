package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHowTheAPIServerIsFound(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "") // no pod
	t.Setenv("HOME", t.TempDir())
	good := filepath.Join(t.TempDir(), "config")
	const kubeconfig = `{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: k}}], clusters: [{name: k, cluster: {server: "https://api.example.com:6443"}}]}`
	if err := os.WriteFile(good, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		flag string
		env  string
		want string
	}{
		{"the flag", good, "", ""},
		{"the environment", "", good, ""},
		{"neither", "", "", "find the API server, neither in a pod nor by kubeconfig: "},
		{"no such file", good + "-gone", "", "find the API server, neither in a pod nor by kubeconfig: stat " + good + "-gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", tt.env)
			config, err := restConfig(tt.flag)
			if tt.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
					t.Errorf("error %v, want %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != "https://api.example.com:6443" || config.QPS != clientQPS {
				t.Errorf("API server %s at %g requests a second", config.Host, config.QPS)
			}
		})
	}
}
