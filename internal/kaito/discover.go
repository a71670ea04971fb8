package kaito

import (
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
)

// API is a group and version with the resources that are needed of it.
type API struct {
	GroupVersion string
	Resources    []string
}

// Missing lists the resources of an API that the cluster doesn't serve, as
// resource.group, such as scaledobjects.keda.sh.
func (a API) Missing(cluster discovery.DiscoveryInterface) ([]string, error) {
	served, err := cluster.ServerResourcesForGroupVersion(a.GroupVersion)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("discover %s: %w", a.GroupVersion, err)
	}
	var missing []string
	group, _, _ := strings.Cut(a.GroupVersion, "/")
	for _, resource := range a.Resources {
		found := false
		if served != nil {
			for i := range served.APIResources {
				found = found || served.APIResources[i].Name == resource
			}
		}
		if !found {
			missing = append(missing, resource+"."+group)
		}
	}
	return missing, nil
}

// Discover finds the version of KAITO's API to use: the first of Versions with
// both InferenceSets and Workspaces. Without one it returns what is missing.
func Discover(cluster discovery.DiscoveryInterface) (version string, missing []string, err error) {
	for _, v := range Versions {
		absent, err := API{Group + "/" + v, []string{"inferencesets", "workspaces"}}.Missing(cluster)
		if err != nil {
			return "", nil, err
		}
		if len(absent) == 0 {
			return v, nil, nil
		}
		missing = append(missing, absent...)
	}
	slices.Sort(missing)
	return "", slices.Compact(missing), nil
}
