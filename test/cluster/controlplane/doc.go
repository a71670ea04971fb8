// Package controlplane runs a real Kubernetes control plane with a real KEDA
// as plain processes on loopback: no containers, no root, nothing installed.
// The end-to-end tests and the demo share it.
//
//	programs, err := controlplane.Build(ctx, os.Stderr) // minutes once, then at once
//	cluster, err := controlplane.Start(ctx, controlplane.Options{
//		Programs: programs, HPASync: 2 * time.Second, Manifests: [][]byte{crds},
//	})
//	defer cluster.Stop()
//	kube, err := client.New(cluster.Config(), client.Options{}) // as cluster admin
//	token, err := cluster.ServiceAccountKubeconfig(ctx, "keda", "keda-kaito-scaler")
//	binary, err := controlplane.BuildScaler(ctx, os.Stderr, false)
//	scaler, err := cluster.StartScaler(ctx, controlplane.ScalerOptions{Binary: binary, Kubeconfig: token})
//	select { case <-cluster.Failed(): return cluster.Err(); case <-time.After(time.Minute): }
//	cluster.DumpLogs(os.Stderr, 40)
//
// What is real: etcd, kube-apiserver, kube-controller-manager (the HPA
// controller and the garbage collector live in it), KEDA's operator, metrics
// adapter and admission webhooks, KEDA under the RBAC that KEDA ships. What is
// not there: nodes. Pods are objects only; whoever creates them writes their
// status. The controllers that would object to this are switched off, see
// disabledControllers.
//
// On Linux the kernel ends the processes when the program that started them
// dies, however it dies. Elsewhere they survive a kill -9 of their parent.
package controlplane
