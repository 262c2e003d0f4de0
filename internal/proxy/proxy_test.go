package proxy_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/proxy"
)

// TestKinds: each kind of proxy takes a request to its end with the password from the file, and none without; no error has the
// password.
func TestKinds(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // the environment has no say
	const auth = "user:hunter2"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(server.Close)
	for name, p := range map[string]*acmetest.Proxy{
		"http": acmetest.StartProxy(t, auth, nil), "https": acmetest.StartSecureProxy(t, auth), "socks5": acmetest.StartSOCKS(t, auth),
	} {
		t.Run(name, func(t *testing.T) {
			for secret, works := range map[string]bool{auth + "\n": true, "user:wrong4hunter": false, "": false} {
				file := "secret"
				if secret == "" {
					file = ""
				}
				u, err := proxy.URL(p.URL, file, func(string) ([]byte, error) { return []byte(secret), nil })
				if err != nil {
					t.Fatal(err)
				}
				transport := server.Client().Transport.(*http.Transport).Clone()
				transport.Proxy, transport.DisableKeepAlives = proxy.Func(u), true
				before := len(p.Hosts())
				resp, err := (&http.Client{Transport: transport}).Get(server.URL)
				if err == nil {
					_ = resp.Body.Close()
				}
				switch {
				case works && (err != nil || resp.StatusCode != http.StatusTeapot || len(p.Hosts()) != before+1):
					t.Errorf("%v, %d hosts", err, len(p.Hosts()))
				case !works && (err == nil || len(p.Hosts()) != before):
					t.Errorf("with %q the request got through", secret)
				case err != nil && strings.Contains(err.Error(), "hunter"):
					t.Errorf("the error has the password: %v", err)
				}
			}
		})
	}
}

func TestSettings(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "none": "", "http://p.example:3128": "", "https://p.example": "", "socks5://127.0.0.1:1080": "", "socks5h://p.example:1080/": "",
		"ftp://p.example": "not by", "p.example:3128": "", "http://user:hunter2@p.example": "proxy_auth_file", "http://p.example/path": "no path", "http://": "not the URL",
	} {
		err := proxy.Check(text)
		if text == "p.example:3128" {
			want = "proxy"
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, read := range []func(string) ([]byte, error){
		func(string) ([]byte, error) { return []byte("no colon"), nil },
		func(string) ([]byte, error) { return nil, errors.New("open: permission denied") },
	} {
		if _, err := proxy.URL("http://p.example", "/etc/secret", read); err == nil || !strings.Contains(err.Error(), "proxy_auth_file") {
			t.Errorf("got %v", err)
		}
	}
}
