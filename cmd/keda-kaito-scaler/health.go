package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthCommand asks a scaler whether it is ready, as the kubelet does. It is
// what helm test runs: the image has no other program.
func healthCommand() *cobra.Command {
	timeout := 30 * time.Second
	cmd := &cobra.Command{
		Use:   "health HOST:PORT",
		Short: "Ask the scaler at HOST:PORT, its health port, whether it is ready",
		Long: `health asks the scaler at HOST:PORT, its --grpc-health-port, whether it is ready
to answer KEDA. It asks until it is, and ends with 1 if it isn't in time.`,
		Example:       `  keda-kaito-scaler health keda-kaito-scaler-svc.keda.svc:10452`,
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if err := awaitReady(ctx, args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is ready\n", args[0])
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "`time` to become ready")
	return cmd
}

// awaitReady asks every second until the scaler at an address is ready.
func awaitReady(ctx context.Context, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%s is no HOST:PORT: %w", address, err)
	}
	// A proxy is for the world outside of the cluster.
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	defer func() { _ = connection.Close() }()
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for last := errors.New("it didn't answer"); ; {
		answer, err := healthgrpc.NewHealthClient(connection).Check(ctx, &healthgrpc.HealthCheckRequest{})
		switch {
		case err == nil && answer.GetStatus() == healthgrpc.HealthCheckResponse_SERVING:
			return nil
		case err == nil:
			last = fmt.Errorf("it says %s; its log says what it waits for", answer.GetStatus())
		case status.Code(err) != codes.DeadlineExceeded: // which says less than what came before
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s isn't ready: %w", address, last)
		case <-pause.C:
		}
	}
}
