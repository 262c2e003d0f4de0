package acmetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/errgroup"
)

// Bare is the shortest correct ACME client: the fewest requests, all authorizations of an order at the same time, no
// retries and nothing kept. It shows that a CA works, and benchmarks measure against it.
type Bare struct {
	core      *api.Core
	transport *http.Transport
	responder *http.Server
	tokens    sync.Map // token to key authorization
}

// NewBare registers an account at s and answers http-01 at its HTTPPort until Close.
func NewBare(s Server) (*Bare, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("account key: %w", err)
	}
	b := &Bare{transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64,
		ResponseHeaderTimeout: 30 * time.Second,
	}}
	client := &http.Client{Transport: b.transport}
	if b.core, err = api.New(client, "acmetest-bare", s.Directory, "", key); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if _, err := b.core.Accounts.New(acme.Account{TermsOfServiceAgreed: true}); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPPort))
	if err != nil {
		return nil, fmt.Errorf("token responder: %w", err)
	}
	b.responder = &http.Server{Handler: b, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = b.responder.Serve(l) }()
	return b, nil
}

// Close stops the responder and drops the connections to the CA.
func (b *Bare) Close() error {
	b.transport.CloseIdleConnections()
	return b.responder.Close()
}

// ServeHTTP answers the CA's http-01 requests.
func (b *Bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := b.tokens.Load(path.Base(r.URL.Path))
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, answer.(string))
}

// Order obtains one certificate for names with profile ("" for none) and returns its chain in PEM and its key. It may
// be called concurrently.
func (b *Bare) Order(ctx context.Context, profile string, names ...string) ([]byte, crypto.Signer, error) {
	order, err := b.core.Orders.NewWithOptions(names, &api.OrderOptions{Profile: profile})
	if err != nil {
		return nil, nil, fmt.Errorf("new order: %w", err)
	}
	var all errgroup.Group
	for _, url := range order.Authorizations {
		all.Go(func() error { return b.authorize(url) })
	}
	if err := all.Wait(); err != nil {
		return nil, nil, err
	}
	if _, err := b.poll(ctx, order.Location, acme.StatusReady); err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate key: %w", err)
	}
	csr, err := request(key, names)
	if err != nil {
		return nil, nil, err
	}
	done, err := b.core.Orders.UpdateForCSR(order.Finalize, csr)
	if err != nil {
		return nil, nil, fmt.Errorf("finalize: %w", err)
	}
	if done.Status != acme.StatusValid {
		if done, err = b.poll(ctx, order.Location, acme.StatusValid); err != nil {
			return nil, nil, err
		}
	}
	chain, _, err := b.core.Certificates.Get(done.Certificate, true)
	if err != nil {
		return nil, nil, fmt.Errorf("download: %w", err)
	}
	return chain, key, nil
}

func (b *Bare) authorize(url string) error {
	authz, err := b.core.Authorizations.Get(url)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	if authz.Status == acme.StatusValid {
		return nil
	}
	for _, c := range authz.Challenges {
		if c.Type != "http-01" {
			continue
		}
		answer, err := b.core.GetKeyAuthorization(c.Token)
		if err != nil {
			return fmt.Errorf("key authorization: %w", err)
		}
		b.tokens.Store(c.Token, answer)
		if _, err := b.core.Challenges.New(c.URL); err != nil {
			return fmt.Errorf("challenge for %s: %w", authz.Identifier.Value, err)
		}
		return nil
	}
	return errors.New("no http-01 challenge for " + authz.Identifier.Value)
}

// poll asks for the order after 1 ms, 2 ms and so on up to 250 ms until it has the wanted status.
func (b *Bare) poll(ctx context.Context, url, want string) (acme.ExtendedOrder, error) {
	for delay := time.Millisecond; ; delay = min(2*delay, 250*time.Millisecond) {
		order, err := b.core.Orders.Get(url)
		if err != nil {
			return order, fmt.Errorf("order: %w", err)
		}
		switch order.Status {
		case want:
			return order, nil
		case acme.StatusInvalid:
			return order, fmt.Errorf("order is invalid: %w", order.Err())
		}
		select {
		case <-ctx.Done():
			return order, fmt.Errorf("order is %s: %w", order.Status, ctx.Err())
		case <-time.After(delay):
		}
	}
}

func request(key crypto.Signer, names []string) ([]byte, error) {
	template := &x509.CertificateRequest{}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return csr, nil
}

// BareOrder registers an account at s, obtains one certificate for names with the profile "default" and forgets the
// account.
func BareOrder(ctx context.Context, s Server, names ...string) ([]byte, crypto.Signer, error) {
	b, err := NewBare(s)
	if err != nil {
		return nil, nil, err
	}
	chain, key, err := b.Order(ctx, "default", names...)
	return chain, key, errors.Join(err, b.Close())
}
