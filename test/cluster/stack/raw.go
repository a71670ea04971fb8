package stack

import (
	"context"
	"fmt"

	"k8s.io/client-go/discovery"
)

// Get asks the API server for a path with its query and returns what it says,
// in the given media type ("" for JSON): what kubectl --raw does.
func (s *Stack) Get(ctx context.Context, uri, accept string) ([]byte, error) {
	cluster, err := discovery.NewDiscoveryClientForConfig(s.Config())
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	request := cluster.RESTClient().Get().RequestURI(uri)
	if accept != "" {
		request.SetHeader("Accept", accept)
	}
	return request.DoRaw(ctx)
}
