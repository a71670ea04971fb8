package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kaito-project/keda-kaito-scaler/internal/scaler"
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
			if err := scaler.WaitUntilReady(ctx, args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is ready\n", args[0])
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "`time` to become ready")
	return cmd
}
