package acmetest

import (
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Proxy is an HTTP proxy on 127.0.0.1 that remembers which hosts it was asked for.
type Proxy struct {
	URL string

	mu    sync.Mutex
	hosts []string
}

// StartProxy runs a proxy until the test ends. With auth, USER:PASSWORD, it serves nobody else. Names in as lead to the
// addresses there; all others to where they lead anyway.
func StartProxy(t testing.TB, auth string, as map[string]string) *Proxy {
	t.Helper()
	p := &Proxy{}
	server := httptest.NewServer(p.handler(auth, as))
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// StartSecureProxy is StartProxy for a proxy that is asked over TLS, with the certificate of every httptest server.
func StartSecureProxy(t testing.TB, auth string) *Proxy {
	t.Helper()
	p := &Proxy{}
	server := httptest.NewTLSServer(p.handler(auth, nil))
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

func (p *Proxy) handler(auth string, as map[string]string) http.Handler {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(auth))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if auth != "" && r.Header.Get("Proxy-Authorization") != want {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		p.mu.Lock()
		p.hosts = append(p.hosts, r.Host)
		p.mu.Unlock()
		address := r.Host
		if to, ok := as[address]; ok {
			address = to
		}
		if r.Method == http.MethodConnect {
			tunnel(w, r, address)
			return
		}
		r.RequestURI, r.URL.Host = "", address
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = answer.Body.Close() }()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	})
}

// Hosts lists the hosts that were asked for, HOST:PORT, one for each connection.
func (p *Proxy) Hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.hosts...)
}

func tunnel(w http.ResponseWriter, r *http.Request, address string) {
	there, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", address)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer func() { _ = there.Close() }()
	w.WriteHeader(http.StatusOK)
	here, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = here.Close() }()
	go func() {
		_, _ = io.Copy(there, ahead) // the server may have read the client's first byte
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
}
