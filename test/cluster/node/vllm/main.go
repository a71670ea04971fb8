// Command vllm is a simulated vLLM as the only process of a real pod: its page
// and its health are on port 5000 of the pod's address. Port 5001 is the test's:
// PUT /waiting, with a number for a body, pins how many requests wait.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kaito-project/keda-kaito-scaler/test/cluster/vllm"
)

func main() {
	pod, err := vllm.Start(vllm.Options{Listen: "0.0.0.0:" + strconv.Itoa(vllm.Port)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	control := &http.Server{Addr: ":5001", Handler: handler(pod), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- control.ListenAndServe() }()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case <-told: // the kubelet's SIGTERM: with nothing under way, it ends at once
	}
}

func handler(pod *vllm.Pod) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /waiting", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(body)))
		if err != nil || n < 0 {
			http.Error(w, fmt.Sprintf("%q is no number of requests", body), http.StatusBadRequest)
			return
		}
		pod.SetWaiting(n)
	})
	return mux
}
