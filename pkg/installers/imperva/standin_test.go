package imperva

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

const (
	testSite   = 14081980
	testID     = "12345"
	testKey    = "s3cret+api/key="
	testPhrase = "s3cret phrase"
)

// cloud stands in for the API, with the checks that it makes, and for a site that serves what was uploaded.
type cloud struct {
	t    *testing.T
	api  *httptest.Server
	site *installertest.TLSServer
	ok   string

	mu      sync.Mutex
	uploads []url.Values
	served  map[string]tls.Certificate // by auth_type
	next    map[string]tls.Certificate // uploaded and not yet everywhere
	frozen  bool                       // nothing moves through the cloud
	details map[string]bool            // errors that the API finds
	fault   func(w http.ResponseWriter, r *http.Request, form url.Values) bool
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	text, err := os.ReadFile("testdata/ok.json")
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := installertest.KeyPairs(installertest.Dual(t, "default.example"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, ok: string(text), served: map[string]tls.Certificate{"ECC": pairs[0], "RSA": pairs[1]}, next: map[string]tls.Certificate{}}
	c.api = httptest.NewTLSServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.api.Close)
	c.site = installertest.Serve(t, c.load)
	return c
}

func (c *cloud) serve(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.RawQuery != "" || r.Method != http.MethodPost || r.URL.Path != uploadPath && c.fault == nil {
		c.t.Errorf("%s %s", r.Method, r.URL)
	}
	c.uploads = append(c.uploads, r.PostForm)
	if c.fault != nil && c.fault(w, r, r.PostForm) {
		return
	}
	_, _ = w.Write([]byte(c.answer(r.PostForm)))
}

// answer checks an upload as the API does, and takes it.
func (c *cloud) answer(form url.Values) string {
	refuse := func(code int, message string) string {
		return fmt.Sprintf(`{"res":%d,"res_message":%q,"debug_info":{"id-info":"13007"}}`, code, message)
	}
	switch {
	case form.Get("api_id") != testID || form.Get("api_key") != testKey:
		return refuse(9411, "Authentication missing or invalid")
	case form.Get("site_id") != strconv.Itoa(testSite):
		return refuse(9413, "Unknown/unauthorized site_id")
	}
	cert, err1 := base64.StdEncoding.DecodeString(form.Get("certificate"))
	key, err2 := base64.StdEncoding.DecodeString(form.Get("private_key"))
	pair, err3 := tls.X509KeyPair(cert, key)
	if err1 != nil || err2 != nil || err3 != nil {
		return refuse(2, "Invalid input")
	}
	kind := "ECC"
	if _, ok := pair.Leaf.PublicKey.(*rsa.PublicKey); ok {
		kind = "RSA"
	}
	if form.Get("auth_type") != kind {
		return refuse(2, "Invalid input")
	}
	c.next[kind] = pair
	text := strings.Replace(c.ok, "EXPIRES", strconv.FormatInt(pair.Leaf.NotAfter.UnixMilli(), 10), 1)
	for name := range c.details {
		text = strings.Replace(text, `"`+name+`": false`, `"`+name+`": true`, 1)
	}
	return text
}

func (c *cloud) load() ([]tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen {
		for kind, pair := range c.next {
			c.served[kind] = pair
		}
	}
	if _, dual := c.next["RSA"]; dual {
		return []tls.Certificate{c.served["ECC"], c.served["RSA"]}, nil
	}
	return []tls.Certificate{c.served["ECC"]}, nil
}

func (c *cloud) freeze(frozen bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = frozen
}

// fail makes every upload end in f; nil repairs it.
func (c *cloud) fail(f func(w http.ResponseWriter, r *http.Request, form url.Values) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

func (c *cloud) complain(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.details = map[string]bool{}
	for _, name := range names {
		c.details[name] = true
	}
}

func (c *cloud) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.uploads)
}

func (c *cloud) last() url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uploads[len(c.uploads)-1]
}

// config is that of the stand-in's site.
func (c *cloud) config() Config {
	roots := filepath.Join(c.t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.api.Certificate().Raw})
	if err := os.WriteFile(roots, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return Config{SiteID: testSite, APIID: testID, APIKeyFile: "/secrets/key", BaseURL: c.api.URL, CAFile: roots, Verify: []string{c.site.Addr}}
}

// secrets stands in for reading files.
func secrets(path string) (certs.Secret, error) {
	switch path {
	case "/secrets/key":
		return certs.Secret(testKey), nil
	case "/secrets/phrase":
		return certs.Secret(testPhrase), nil
	}
	return nil, fmt.Errorf("%s: no such file", path)
}

func mustNew(t *testing.T, c Config, target installers.Target) *Installer {
	t.Helper()
	p, err := New(c, target, secrets, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	p.patience = 300 * time.Millisecond
	return p
}

// silent fails the test when an error shows a secret.
func silent(t *testing.T, b *certs.Bundle, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	block, _ := pem.Decode(b.KeyPEM)
	for _, secret := range []string{"s3cret", testID, url.QueryEscape(testKey), base64.StdEncoding.EncodeToString(b.KeyPEM), base64.StdEncoding.EncodeToString(block.Bytes)[:64]} {
		if strings.Contains(text, secret) || bytes.Contains([]byte(text), block.Bytes) {
			t.Errorf("the error shows a secret: %.300s", text)
		}
	}
}
