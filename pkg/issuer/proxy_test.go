package issuer_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/issuer"
)

// TestProxyWithPassword: every request goes through the proxy, with its password, and none when it refuses.
func TestProxyWithPassword(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // the environment has no say
	w := newWorld(t)
	proxy := acmetest.StartProxy(t, "user:hunter2", nil)
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	right := *u
	right.User = url.UserPassword("user", "hunter2")
	w.remake(func(c *issuer.Config) { c.Proxy = u })
	if _, err := w.obtain("example.com"); !isUnavailable(err) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("without a password: %v", err)
	}
	if n := len(w.ca.AllRequests()); n != 0 {
		t.Errorf("%d endpoints were asked directly", n)
	}
	w.remake(func(c *issuer.Config) { c.Proxy = &right })
	w.mustObtain(w.request("example.com"))
	if len(proxy.Hosts()) == 0 {
		t.Error("nothing went through the proxy")
	}
}

// TestHosts: a directory may name URLs on the further hosts, and on no other.
func TestHosts(t *testing.T) {
	w := newWorld(t)
	port := w.ca.Directory[strings.LastIndex(w.ca.Directory, ":")+1 : strings.LastIndex(w.ca.Directory, "/")]
	w.ca.Use(acmetest.At(acmetest.Change(func(r *acmetest.Response) {
		r.Body = []byte(strings.ReplaceAll(string(r.Body), "127.0.0.1", "localhost"))
		if at := r.Header.Get("Location"); at != "" {
			r.Header.Set("Location", strings.ReplaceAll(at, "127.0.0.1", "localhost"))
		}
		if r.Header["Link"] != nil {
			r.Header["Link"] = []string{}
		}
	})))
	if _, err := w.obtain("example.com"); !isUnavailable(err) || !strings.Contains(err.Error(), "list it under hosts") {
		t.Errorf("got %v", err)
	}
	w.remake(func(c *issuer.Config) { c.Hosts = []string{"LocalHost:" + port} })
	if _, err := w.obtain("example.com"); err != nil {
		t.Errorf("got %v", err)
	}
}
