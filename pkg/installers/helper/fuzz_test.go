package helper

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
	"github.com/acmed/acmed/pkg/store"
)

// FuzzRequest: whatever a client sends is answered with one JSON object, and only a certificate for the names of the
// target, with its key, reaches the installer.
func FuzzRequest(f *testing.F) {
	state := filepath.Join(f.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		f.Fatal(err)
	}
	s, err := store.Open(state)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	for _, names := range [][]string{{"a.example"}, {"b.example"}, {"a.example", "b.example"}} {
		b := installertest.Bundle(f, names...)
		text, err := json.Marshal(request{Target: "www", Bundle: &bundle{FullChain: string(b.FullChainPEM()), Key: string(b.KeyPEM), Issuer: b.Issuer}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(verbInstall, text)
		f.Add(verbVerify, text)
	}
	for _, text := range []string{`{"target":"www"}`, `{}`, `{"target":"../x","bundle":{}}`, `{"target":"www","bundle":{"fullchain":"","rsa":{"rsa":{}}}}`, `[`} {
		f.Add(verbUninstall, []byte(text))
		f.Add(verbPreview, []byte(text))
	}
	to := &served{live: store.PathsIn(s.Dir(), "www").FullChain}
	names := []certs.Identifier{{Type: certs.DNS, Value: "a.example"}}
	server := NewServer(ServerConfig{Log: zap.NewNop(), Targets: map[string]*Target{"www": NewTarget("www", names, to, s, time.Now)}})
	f.Fuzz(func(t *testing.T, verb string, body []byte) {
		if verb == verbRestart || strings.ContainsAny(verb, " \x00\r\n?#%") {
			return
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://helper/v1/"+verb, strings.NewReader(string(body)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		server.http.Handler.ServeHTTP(w, r)
		var a answer
		if verbs()[verb] != nil && json.Unmarshal(w.Body.Bytes(), &a) != nil {
			t.Errorf("%d: %q", w.Code, w.Body)
		}
		to.mu.Lock()
		defer to.mu.Unlock()
		if to.chain == "" {
			return
		}
		chain, err := certs.ParseChain([]byte(to.chain))
		if err != nil || chain[0].VerifyHostname("a.example") != nil || len(chain[0].DNSNames) != 1 {
			t.Errorf("installed: %v, %v", chain, err)
		}
	})
}
