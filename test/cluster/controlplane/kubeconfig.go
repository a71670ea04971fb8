package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// adminConfig authenticates with the certificate of a cluster administrator.
// The certificate is inside: for files client-go would start goroutines that
// look for new ones and never end.
func (c *Cluster) adminConfig() (*rest.Config, error) {
	cert, key, err := c.ca.read("admin")
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            c.apiURL,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem, CertData: cert, KeyData: key},
		QPS:             -1, // the harness waits by polling; client-side throttling would only slow it
	}, nil
}

// certKubeconfig writes a kubeconfig for the client certificate called name.
func (c *Cluster) certKubeconfig(name string) (string, error) {
	cert, key, err := c.ca.read(name)
	if err != nil {
		return "", err
	}
	return c.writeKubeconfig(name, &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}

func (c *Cluster) writeKubeconfig(name string, user *clientcmdapi.AuthInfo) (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["cluster"] = &clientcmdapi.Cluster{Server: c.apiURL, CertificateAuthorityData: c.ca.pem}
	config.AuthInfos[name] = user
	config.Contexts["context"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: name}
	config.CurrentContext = "context"
	bytes, err := clientcmd.Write(*config)
	if err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %s: %w", name, err)
	}
	path := c.file(name + ".kubeconfig")
	return path, replaceFile(path, bytes)
}

// replaceFile writes a private file that others may be reading: they see what was there
// before or all of this.
func replaceFile(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), path)
}

// tokenLife outlasts any run, so that no program needs to renew its token.
const tokenLife = 24 * 60 * 60 // seconds

// ServiceAccountKubeconfig writes a kubeconfig with a fresh token of an
// existing ServiceAccount: a program that runs with it has the rights that RBAC
// gives to this account and no others. It stays valid for a day and is removed
// by Stop.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	life := int64(tokenLife)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &life}}
	if err := c.admin.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("requesting a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return c.writeKubeconfig(namespace+"-"+name, &clientcmdapi.AuthInfo{Token: request.Status.Token})
}
