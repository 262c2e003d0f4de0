package imperva

import (
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestUploadThroughProxy: the cloud is asked through each kind of proxy with its password, and not at all when that is wrong.
func TestUploadThroughProxy(t *testing.T) {
	const auth = "user:hunter2"
	for name, p := range map[string]*acmetest.Proxy{
		"http": acmetest.StartProxy(t, auth, nil), "https": acmetest.StartSecureProxy(t, auth), "socks5": acmetest.StartSOCKS(t, auth),
	} {
		for secret, works := range map[string]bool{auth: true, "user:wrong4hunter": false} {
			c := newCloud(t)
			target, _, _ := installertest.Live(t, "www.example.com")
			conf := c.config()
			conf.Proxy, conf.ProxyAuthFile = p.URL, "/secrets/proxy"
			i, err := New(conf, target, func(path string) (certs.Secret, error) {
				if path == "/secrets/proxy" {
					return certs.Secret(secret), nil
				}
				return secrets(path)
			}, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			before := len(p.Hosts())
			err = i.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
			if through := len(p.Hosts()) > before; works != (err == nil) || works != through {
				t.Errorf("%s with %q: %v, through the proxy: %t", name, secret, err, through)
			}
			if err != nil && strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s: the error has the password: %v", name, err)
			}
		}
	}
}
