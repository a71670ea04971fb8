package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"

	"github.com/kaito-project/keda-kaito-scaler/internal/kaito"
)

// APIs are what the cluster was found to have.
type APIs struct {
	// KAITO is the version of KAITO's API to use, "" if the context ended first.
	KAITO string
	// NoTolerance is set if the HPA has no tolerance in its behaviour.
	NoTolerance bool
}

// WaitForAPIs waits for KEDA's and KAITO's APIs to be installed, and says which
// are missing whenever that changes.
func WaitForAPIs(ctx context.Context, cluster discovery.DiscoveryInterface, log logr.Logger) APIs {
	const every = 2 * time.Second
	logged := ""
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		found, missing, err := findAPIs(cluster)
		switch text := fmt.Sprint(missing, err); {
		case err == nil && len(missing) == 0:
			log.Info("APIs found", "kaito", kaito.Group+"/"+found.KAITO, "keda", kedav1alpha1.SchemeGroupVersion.String())
			return found
		case text == logged:
		case err != nil:
			log.Info("cannot reach the API server, trying again", "error", err.Error())
			logged = text
		default:
			log.Info("waiting for APIs that the cluster doesn't serve: install KEDA and KAITO", "missing", missing)
			logged = text
		}
		select {
		case <-ctx.Done():
			return APIs{}
		case <-ticker.C:
		}
	}
}

func findAPIs(cluster discovery.DiscoveryInterface) (found APIs, missing []string, err error) {
	if found.KAITO, missing, err = kaito.Discover(cluster); err != nil {
		return APIs{}, nil, err
	}
	keda := kaito.API{
		GroupVersion: kedav1alpha1.SchemeGroupVersion.String(),
		Resources:    []string{"scaledobjects", "clustertriggerauthentications"},
	}
	more, err := keda.Missing(cluster)
	if err != nil {
		return APIs{}, nil, err
	}
	found.NoTolerance, err = lacksTolerance(cluster)
	return found, append(missing, more...), err
}

// lacksTolerance tells whether the HPA has no tolerance in its behaviour: it
// came with Kubernetes 1.33 and is on from 1.35. A version that says nothing
// counts as an old one: what is published for those moves newer HPAs too.
func lacksTolerance(cluster discovery.DiscoveryInterface) (bool, error) {
	info, err := cluster.ServerVersion()
	if err != nil {
		return false, fmt.Errorf("ask for the version of Kubernetes: %w", err)
	}
	version, err := utilversion.ParseGeneric(info.GitVersion)
	if err != nil {
		return true, nil //nolint:nilerr // a version that says nothing
	}
	// An API server in the middle of an upgrade may do as an older version does.
	if emulated, err := utilversion.ParseMajorMinor(info.EmulationMajor + "." + info.EmulationMinor); err == nil {
		version = emulated
	}
	return version.LessThan(utilversion.MustParseGeneric("1.35.0")), nil
}

// discoveryInterval is how often KAITO's API is discovered. An upgrade of KAITO takes
// minutes, and a discovery is one or two small requests.
const discoveryInterval = 30 * time.Second

// waitForOtherVersion waits for KAITO's API to be served in a version to be preferred to
// the one in use, or no longer in that, and returns the version to use from now
// on; "" if the context ends first. An API that has gone altogether is waited
// for: its objects went with it.
func waitForOtherVersion(ctx context.Context, cluster discovery.DiscoveryInterface, used string, log logr.Logger) string {
	gone := false
	ticker := time.NewTicker(discoveryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-ticker.C:
		}
		found, missing, err := kaito.Discover(cluster)
		if err != nil {
			continue // the watches say so already
		}
		if found == "" && !gone {
			log.Info("KAITO's API is gone, waiting for it", "used", used, "missing", missing)
		}
		if found == used && gone {
			log.Info("KAITO's API is back", "used", used)
		}
		gone = found == ""
		if !gone && found != used {
			return found
		}
	}
}
