package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kaito-project/keda-kaito-scaler/internal/certs"
)

// Material is what KEDA makes of the client's Secret.
func (s *Stack) Material(ctx context.Context) (*tls.Config, error) {
	found := &corev1.Secret{}
	if err := s.Client.Get(ctx, types.NamespacedName{Namespace: Namespace, Name: certs.ClientSecret}, found); err != nil {
		return nil, fmt.Errorf("read KEDA's certificate: %w", err)
	}
	return MaterialOf(found)
}

// MaterialOf is what KEDA makes of that Secret.
func MaterialOf(found *corev1.Secret) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(found.Data["tls.crt"], found.Data["tls.key"])
	if err != nil {
		return nil, fmt.Errorf("read KEDA's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(found.Data["ca.crt"])
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}, nil
}

// Connect is how KEDA does it, 2.18 and later alike: one connection for an
// address, and round robin over what it resolves to.
func Connect(address string, config *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin":{}}]}`),
	}, more...)...)
}

// Answer is what a scaler says of a ScaledObject.
type Answer struct {
	Value  float64
	Active bool
}

// Ask asks as KEDA does at each poll.
func Ask(ctx context.Context, connection *grpc.ClientConn, ref *pb.ScaledObjectRef) (Answer, error) {
	scaler := pb.NewExternalScalerClient(connection)
	spec, err := scaler.GetMetricSpec(ctx, ref)
	if err != nil {
		return Answer{}, fmt.Errorf("GetMetricSpec: %w", err)
	}
	if len(spec.GetMetricSpecs()) != 1 {
		return Answer{}, fmt.Errorf("GetMetricSpec: %d metrics, want one", len(spec.GetMetricSpecs()))
	}
	name := spec.GetMetricSpecs()[0].GetMetricName()
	metrics, err := scaler.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: name})
	if err != nil {
		return Answer{}, fmt.Errorf("GetMetrics: %w", err)
	}
	if len(metrics.GetMetricValues()) != 1 {
		return Answer{}, errors.New("GetMetrics: not one value")
	}
	active, err := scaler.IsActive(ctx, ref)
	if err != nil {
		return Answer{}, fmt.Errorf("IsActive: %w", err)
	}
	return Answer{Value: metrics.GetMetricValues()[0].GetMetricValueFloat(), Active: active.GetResult()}, nil
}
