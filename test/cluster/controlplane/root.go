package controlplane

import "path/filepath"

// Root is the folder of the checkout that the program runs in.
func Root() (string, error) {
	cluster, err := clusterDir()
	return filepath.Dir(filepath.Dir(cluster)), err
}
