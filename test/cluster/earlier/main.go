// Command earlier plays keda-kaito-scaler 0.6 where an upgrade from it is to be
// seen: its own program can't be had. It does what that release did, as far as
// its users and its successor notice: it signs its certificates once, with a CA
// of its own, into two Secrets that its chart has made empty; it writes the
// ClusterTriggerAuthentication and, for InferenceSets that ask for it, one
// trigger for each metric under a formula; and it answers KEDA with what the
// pods' pages say.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// options are the flags of 0.6, and those that a test needs where there are no
// pods and Services. --kubeconfig is controller-runtime's.
type options struct {
	namespace               string
	healthPort, metricsPort int
	certDuration            time.Duration
	verbosity               int

	grpcPort      int
	bind, address string
}

func flags() options {
	var o options
	flag.StringVar(&o.namespace, "working-namespace", "", "where the Secrets are")
	flag.IntVar(&o.healthPort, "grpc-health-port", 10452, "the kubelet's probes")
	flag.IntVar(&o.metricsPort, "metrics-port", 10451, "not served here")
	flag.DurationVar(&o.certDuration, "cert-duration", 10*365*24*time.Hour, "not heeded: certificates live ten years")
	flag.IntVar(&o.verbosity, "v", 0, "not heeded")
	flag.IntVar(&o.grpcPort, "grpc-port", 10450, "KEDA's; a test's")
	flag.StringVar(&o.bind, "bind-address", "", "a test's")
	flag.StringVar(&o.address, "scaler-address", "", "where KEDA is told to ask, if it isn't the Service; a test's")
	flag.Parse()
	if o.address == "" {
		o.address = net.JoinHostPort(service+"."+o.namespace+".svc", strconv.Itoa(o.grpcPort))
	}
	return o
}

func main() {
	o := flags()
	ctrl.SetLogger(logr.Discard())
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), kedav1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	kube, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	tls, err := certificates(ctx, kube, o)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := authentication(ctx, kube); err != nil {
		return fmt.Errorf("the ClusterTriggerAuthentication: %w", err)
	}
	scaler := &scaler{kube: kube, address: o.address, fleets: map[client.ObjectKey]*fleet{}}
	if err := scaler.look(ctx); err != nil {
		return fmt.Errorf("InferenceSets and their pods: %w", err)
	}
	return serve(ctx, o, scaler, grpc.Creds(credentials.NewTLS(tls)))
}

// serve answers KEDA and the kubelet, and looks at the pods every second, until
// it is told to stop.
func serve(ctx context.Context, o options, scaler *scaler, creds grpc.ServerOption) error {
	failed := make(chan error, 2)
	listen := func(port int, server *grpc.Server) {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(o.bind, strconv.Itoa(port)))
		if err == nil {
			err = server.Serve(listener)
		}
		failed <- err
	}
	answers, probes := grpc.NewServer(creds), grpc.NewServer()
	pb.RegisterExternalScalerServer(answers, scaler)
	healthgrpc.RegisterHealthServer(probes, health.NewServer())
	go listen(o.grpcPort, answers)
	go listen(o.healthPort, probes)
	fmt.Println("ready")
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			probes.Stop()
			answers.GracefulStop()
			return nil
		case <-ticker.C:
		}
		// It goes on with what it knows, as a cache does.
		if err := scaler.look(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
