//go:build node

package node

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// dump writes what somebody wants to see after a failure: the pods, what was
// told of them, and the ends of their logs.
func (w *world) dump(ctx context.Context) {
	var pods corev1.PodList
	var events corev1.EventList
	if err := w.Client.List(ctx, &pods); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	if err := w.Client.List(ctx, &events); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, e := range events.Items {
		if e.Type == corev1.EventTypeWarning {
			fmt.Fprintf(os.Stderr, "%s %s/%s: %s: %s (%d times)\n", e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Reason, e.Message, e.Count)
		}
	}
	for _, pod := range pods.Items {
		fmt.Fprintf(os.Stderr, "--- %s/%s: %s, %s\n", pod.Namespace, pod.Name, pod.Status.Phase, pod.Status.PodIP)
		for _, c := range pod.Status.ContainerStatuses {
			fmt.Fprintf(os.Stderr, "%s: ready %t, %d restarts, %+v\n", c.Name, c.Ready, c.RestartCount, c.State)
		}
		log, err := w.log(ctx, &pod, &corev1.PodLogOptions{TailLines: new(int64(40))})
		fmt.Fprintln(os.Stderr, log, err)
	}
	w.DumpLogs(os.Stderr, 15)
}

// log is a pod's, as kubectl logs has it.
func (w *world) log(ctx context.Context, pod *corev1.Pod, o *corev1.PodLogOptions) (string, error) {
	cluster, err := kubernetes.NewForConfig(w.Config())
	if err != nil {
		return "", err
	}
	text, err := cluster.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, o).DoRaw(ctx)
	return string(text), err
}
