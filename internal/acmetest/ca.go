package acmetest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// Server is what a client has to know of a running CA.
type Server struct {
	// Directory is the URL of the ACME directory.
	Directory string
	// Roots and RootPEM verify the TLS certificate of the directory. They do not verify issued certificates.
	Roots   *x509.CertPool
	RootPEM []byte
	// HTTPPort and TLSPort are where the CA validates http-01 and tls-alpn-01, on 127.0.0.1 by default.
	HTTPPort, TLSPort int
}

// CA is Pebble inside this process. Its requests run one at a time, because Pebble deadlocks under concurrent ones.
type CA struct {
	Server
	// DNS is the name server the CA asks.
	DNS *DNS

	options *options
	tls     *tls.Config
	addr    string
	seen    counter
	issued  atomic.Int64
	faults  atomic.Pointer[[]Middleware]

	mu     sync.Mutex // guards the fields below
	acme   http.Handler
	manage http.Handler
	server *http.Server
}

// Start runs a CA until the test ends.
func Start(t testing.TB, opts ...Option) *CA {
	t.Helper()
	c, err := New(opts...)
	if err != nil {
		t.Fatalf("start test CA: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("stop test CA: %v", err)
		}
	})
	return c
}

// New runs a CA until Close.
func New(opts ...Option) (*CA, error) {
	o := defaults()
	for _, set := range opts {
		set(o)
	}
	c := &CA{options: o, Server: Server{HTTPPort: o.httpPort, TLSPort: o.tlsPort}}
	c.Use(o.middleware...)
	for _, port := range []*int{&c.HTTPPort, &c.TLSPort} {
		if *port != 0 {
			continue
		}
		free, err := freePort()
		if err != nil {
			return nil, err
		}
		*port = free
	}
	if err := c.makeTLS(); err != nil {
		return nil, err
	}
	names, err := NewDNS(o.dnsListen)
	if err != nil {
		return nil, err
	}
	c.DNS = names
	if err := errors.Join(c.Forget(), c.listen(o.listen)); err != nil {
		return nil, errors.Join(err, names.Close())
	}
	c.Directory = "https://" + c.addr + wfe.DirectoryPath
	return c, nil
}

func (c *CA) makeTLS() error {
	root, err := newAuthority("Test directory root")
	if err != nil {
		return err
	}
	cert, err := root.serverCertificate(c.options.serverFault)
	if err != nil {
		return err
	}
	c.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	c.Roots = x509.NewCertPool()
	c.Roots.AddCert(root.cert)
	c.RootPEM = encode(root.cert)
	return nil
}

// Forget replaces the CA behind the same address by a fresh one, as a restarted Pebble: accounts, orders,
// certificates and issuing keys are new.
func (c *CA) Forget() error {
	o := c.options
	logger := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	for id, key := range o.eab {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			return fmt.Errorf("external account key %s: %w", id, err)
		}
	}
	for _, domain := range o.blocked {
		if err := store.AddBlockedDomain(domain); err != nil {
			return fmt.Errorf("blocked domain %s: %w", domain, err)
		}
	}
	algorithm := "ecdsa"
	if o.rsaIntermediate {
		algorithm = "rsa"
	}
	var front wfe.WebFrontEndImpl
	err := o.withEnv(func() {
		authority := ca.New(logger, store, "", algorithm, o.alternateRoots, o.chainLength, o.profiles)
		validator := va.New(logger, c.HTTPPort, c.TLSPort, true, c.DNS.Addr, store)
		front = wfe.New(logger, store, validator, authority, o.caaIdentities, true, len(o.eab) > 0, o.retryAuthz, o.retryOrder)
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acme, c.manage = front.Handler(), front.ManagementHandler()
	return nil
}

func (c *CA) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for ACME: %w", err)
	}
	c.addr = l.Addr().String()
	server := &http.Server{
		Handler: c, TLSConfig: c.tls, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	go func() { _ = server.ServeTLS(l, "", "") }()
	return nil
}

// Stop closes the address and all connections: the next ones are refused. The state is kept.
func (c *CA) Stop() error {
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	return server.Close()
}

// Resume listens at the same address again after Stop.
func (c *CA) Resume() error { return c.listen(c.addr) }

// Close ends the CA and its name server.
func (c *CA) Close() error { return errors.Join(c.Stop(), c.DNS.Close()) }

// Use replaces the middleware, also while the CA runs; without arguments the CA is honest again.
func (c *CA) Use(m ...Middleware) { c.faults.Store(&m) }

// ServeHTTP counts a request and passes it through the middleware to Pebble.
func (c *CA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := endpointOf(r.URL.Path)
	c.seen.add(e)
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.forward(e, w, r) })
	faults := *c.faults.Load()
	for i := len(faults) - 1; i >= 0; i-- {
		h = faults[i](e, h)
	}
	h.ServeHTTP(w, r)
}

// forward hands a whole request to Pebble and sends its whole answer, so that a slow client holds up nobody.
func (c *CA) forward(e Endpoint, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	c.mu.Lock()
	c.acme.ServeHTTP(answer, r)
	c.mu.Unlock()
	if e == Finalize && answer.Code == http.StatusOK {
		c.issued.Add(1)
	}
	copyAnswer(w, answer)
}

func copyAnswer(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// Requests is the number of requests clients sent to an endpoint, also those which a middleware answered.
func (c *CA) Requests(e Endpoint) int { return c.seen.get(e) }

// AllRequests is Requests for every endpoint that was asked at all.
func (c *CA) AllRequests() map[Endpoint]int { return c.seen.all() }

// ResetRequests starts counting requests at zero again.
func (c *CA) ResetRequests() { c.seen.reset() }

// Issued is the number of orders the CA accepted for issuance.
func (c *CA) Issued() int { return int(c.issued.Load()) }

// IssuingRoots verifies the certificates the CA issues, through its main and all alternate roots.
func (c *CA) IssuingRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	for i := range c.options.alternateRoots + 1 {
		pool.AppendCertsFromPEM(c.IssuingRootPEM(i))
	}
	return pool
}

// IssuingRootPEM is the issuing root of chain i: 0 is the main one, then the alternates.
func (c *CA) IssuingRootPEM(i int) []byte {
	return c.management(http.MethodGet, fmt.Sprintf("/roots/%d", i), nil).Body.Bytes()
}

// IntermediatePEM is the issuing certificate of chain i.
func (c *CA) IntermediatePEM(i int) []byte {
	return c.management(http.MethodGet, fmt.Sprintf("/intermediates/%d", i), nil).Body.Bytes()
}

// SetRenewalInfo sets the window that the CA suggests for the renewal of leaf (RFC 9773 section 4.2).
func (c *CA) SetRenewalInfo(leaf *x509.Certificate, start, end time.Time) error {
	type window struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	}
	body, err := json.Marshal(map[string]window{"suggestedWindow": {start, end}})
	if err != nil {
		return fmt.Errorf("renewal window: %w", err)
	}
	return c.SetRenewalInfoRaw(leaf, string(body))
}

// SetRenewalInfoRaw sets the literal body of the CA's answer, which need not be JSON.
func (c *CA) SetRenewalInfoRaw(leaf *x509.Certificate, body string) error {
	request, err := json.Marshal(map[string]string{"certificate": string(encode(leaf)), "ariResponse": body})
	if err != nil {
		return fmt.Errorf("renewal information: %w", err)
	}
	if answer := c.management(http.MethodPost, "/set-renewal-info/", request); answer.Code != http.StatusOK {
		return fmt.Errorf("set renewal information: status %d: %s", answer.Code, answer.Body)
	}
	return nil
}

// Revoked tells whether a certificate with this serial number was revoked, and for which reason (RFC 5280 section
// 5.3.1). An unknown serial number is an error.
func (c *CA) Revoked(serial *big.Int) (revoked bool, reason int, err error) {
	answer := c.management(http.MethodGet, "/cert-status-by-serial/"+serial.Text(16), nil)
	var status struct {
		Status string
		Reason int
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &status); err != nil {
		return false, 0, fmt.Errorf("status of certificate %x: status %d: %w", serial, answer.Code, err)
	}
	return status.Status == "Revoked", status.Reason, nil
}

func (c *CA) management(method, path string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("User-Agent", "acmetest")
	answer := httptest.NewRecorder()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manage.ServeHTTP(answer, r)
	return answer
}
