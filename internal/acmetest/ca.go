package acmetest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
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
	*Management
	// DNS is the name server the CA asks.
	DNS *DNS

	options *options
	tls     *tls.Config
	addr    string
	seen    recorder
	issued  atomic.Int64
	faults  atomic.Pointer[[]Middleware]

	mu     sync.Mutex // guards the fields below
	acme   http.Handler
	manage http.Handler
	store  *db.MemoryStore
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
	c.Management = &Management{ask: c.askPebble}
	c.Use(o.middleware...)
	if err := c.choosePorts(); err != nil {
		return nil, err
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

// choosePorts fills in the ports that the options leave open.
func (c *CA) choosePorts() error {
	var own int
	ports := []*int{&c.HTTPPort, &c.TLSPort}
	if c.options.listen == "" {
		ports = append(ports, &own)
	}
	for _, port := range ports {
		if *port != 0 {
			continue
		}
		free, err := Port()
		if err != nil {
			return err
		}
		*port = free
	}
	if c.options.listen == "" {
		c.options.listen = fmt.Sprintf("127.0.0.1:%d", own)
	}
	return nil
}

func (c *CA) makeTLS() error {
	root, err := newAuthority("Test directory root")
	if err != nil {
		return err
	}
	cert, err := root.serverCertificate(c.options.host, c.options.serverFault)
	if err != nil {
		return err
	}
	c.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
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
	if o.env["PEBBLE_AUTHZREUSE"] == "0" {
		neverReuse(&front)
	}
	c.mu.Lock()
	c.acme, c.manage, c.store = front.Handler(), front.ManagementHandler(), store
	c.mu.Unlock()
	return c.load(o.alternateRoots + 1)
}

// neverReuse mends that Pebble at 0 percent still reuses one valid authorization in a hundred, by a percentage that its
// environment does not take. It panics when a newer Pebble has another field.
func neverReuse(front *wfe.WebFrontEndImpl) {
	field := reflect.ValueOf(front).Elem().FieldByName("authzReusePercent")
	*(*int)(unsafe.Pointer(field.UnsafeAddr())) = -1 //nolint:gosec // there is no other way to set it
}

func (c *CA) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for ACME: %w", err)
	}
	c.addr = l.Addr().String()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(c.options.http2)
	server := &http.Server{
		Handler: c, TLSConfig: c.tls, Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
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
	c.seen.add(e, r)
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
	answer := c.pebble(r)
	if e == Finalize && answer.Status == http.StatusOK {
		c.issued.Add(1)
	}
	answer.send(w)
}

// pebble answers one request at a time, and a finalized order is issued before the next one: the handler of orders reads
// an order's lock twice, and hangs for ever when the issuing goroutine wants to write between the two.
func (c *CA) pebble(r *http.Request) *Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := collect(c.acme, r)
	if id, ok := strings.CutPrefix(r.URL.Path, "/finalize-order/"); ok && answer.Status == http.StatusOK {
		c.awaitIssued(id)
	}
	return answer
}

// awaitIssued waits until an order has its error, or its certificate and its place among what a new order may replace.
func (c *CA) awaitIssued(id string) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		order := c.store.GetOrderByID(id)
		if order == nil {
			return
		}
		order.RLock()
		failed, cert := order.Error != nil, order.CertificateObject
		order.RUnlock()
		if failed || cert != nil && c.replaceable(order, cert) {
			return
		}
	}
}

// replaceable reports whether Pebble knows the order by the serial number of its certificate. RFC 9773 section 4.1 writes a
// serial number as DER does, with a leading zero when the first bit is set, and Pebble looks for exactly those digits: one
// order in 512 would never be found without the second entry.
func (c *CA) replaceable(order *core.Order, cert *core.Certificate) bool {
	if _, err := c.store.GetOrderByIssuedSerial(cert.ID); err != nil {
		return false
	}
	if serial := cert.Cert.SerialNumber; serial.BitLen()%8 == 0 {
		order.RLock()
		known := &core.Order{Order: order.Order, ID: order.ID, AccountID: order.AccountID, CertificateObject: &core.Certificate{ID: "00" + cert.ID}}
		order.RUnlock()
		return c.store.AddOrderByIssuedSerial(known) == nil
	}
	return true
}

// askPebble asks Pebble's management interface without a network.
func (c *CA) askPebble(method, path string, body []byte) (int, []byte, error) {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("User-Agent", "acmetest")
	answer := httptest.NewRecorder()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manage.ServeHTTP(answer, r)
	return answer.Code, answer.Body.Bytes(), nil
}
