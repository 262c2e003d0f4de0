package tlsalpn01

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/internal/listener"
	"go.uber.org/zap"
)

// Protocol is the application protocol of the challenge (RFC 8737 section 6.2).
const Protocol = "acme-tls/1"

// The bounds on one client. A handshake is two round trips; 5 seconds allow for a lost packet or two.
const (
	handshakeTimeout = 5 * time.Second
	maxConns         = 256
)

// busyWait is how long Present waits for the challenge of another order for the same name. A validation takes seconds;
// orders that wait for each other crosswise end here, and the ladder goes on.
const busyWait = time.Minute

// ResponderConfig configures a [Responder].
type ResponderConfig struct {
	Addr     string         // host:port, :port (IPv4 and IPv6) or unix:/path; default ":443"
	Listener net.Listener   // a socket from the service manager instead of Addr; the responder closes it in Close
	Proxies  []netip.Prefix // peers whose PROXY protocol header (version 1 or 2) is believed; empty: nobody's
	MaxConns int            // connections at once, the oldest of the busiest network makes room for a new one; default 256
	Log      *zap.Logger    // told at debug level about each answered challenge; may be nil
	// LookUp is asked for the key authorization of a name that is not pending here; "" is none. nil: nobody is asked.
	LookUp func(ctx context.Context, id certs.Identifier) string
	Clock  func() time.Time // for the validity of challenge certificates; default time.Now
}

// Responder is a TLS listener for challenges and nothing else, shared by any number of orders. It listens from the
// first pending name to the last, or all the time after [Responder.Hold]. It is safe for concurrent use.
type Responder struct {
	socket *listener.Shared
	log    *zap.Logger
	clock  func() time.Time
	lookUp func(ctx context.Context, id certs.Identifier) string

	mu      sync.Mutex
	pending map[string]*answer // by SNI
}

var _ challenges.Solver = (*Responder)(nil)

type answer struct {
	keyAuth string
	cert    *tls.Certificate
	users   int
	gone    chan struct{} // closed when the last user cleaned up
}

// NewResponder makes a responder that does not listen yet.
func NewResponder(cfg ResponderConfig) *Responder {
	if cfg.Addr == "" {
		cfg.Addr = ":443"
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = maxConns
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	r := &Responder{log: cfg.Log, clock: cfg.Clock, lookUp: cfg.LookUp, pending: map[string]*answer{}}
	r.socket = listener.NewShared(listener.Config{
		Addr: cfg.Addr, Listener: cfg.Listener, Proxies: cfg.Proxies, MaxConns: cfg.MaxConns, Timeout: handshakeTimeout,
	}, r.serve)
	return r
}

// Type returns tls-alpn-01.
func (r *Responder) Type() challenges.Type { return challenges.TLSALPN01 }

// Present answers for the challenge's identifier from now on. One name can have one answer at a time, as the handshake
// carries no token: the challenge of another order for the same name is waited for, a minute at most. If the address
// cannot be opened the error is a [*challenges.BindError].
func (r *Responder) Present(ctx context.Context, c challenges.Challenge) error {
	name, err := ServerName(c.Identifier)
	if err != nil {
		return err
	}
	cert, err := Certificate(c, r.clock())
	if err != nil {
		return err
	}
	if err := r.socket.Acquire(ctx); err != nil {
		return err
	}
	if err := r.add(ctx, name, c.KeyAuth, cert); err != nil {
		r.socket.Release()
		return err
	}
	return nil
}

func (r *Responder) add(ctx context.Context, name, keyAuth string, cert *tls.Certificate) error {
	ctx, cancel := context.WithTimeout(ctx, busyWait)
	defer cancel()
	for {
		gone := r.tryAdd(name, keyAuth, cert)
		if gone == nil {
			return nil
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return fmt.Errorf("another order has a tls-alpn-01 challenge pending for %s: %w", name, ctx.Err())
		}
	}
}

// tryAdd returns nil when the answer was added, else what to wait for.
func (r *Responder) tryAdd(name, keyAuth string, cert *tls.Certificate) (gone <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.pending[name]
	if a == nil {
		a = &answer{keyAuth: keyAuth, cert: cert, gone: make(chan struct{})}
		r.pending[name] = a
	}
	if a.keyAuth != keyAuth {
		return a.gone
	}
	a.users++
	return nil
}

// CleanUp takes the answer away, and stops listening after the last one. A challenge that is not pending is no error.
func (r *Responder) CleanUp(_ context.Context, c challenges.Challenge) error {
	name, err := ServerName(c.Identifier)
	if err != nil {
		return err
	}
	if r.remove(name, c.KeyAuth) {
		r.socket.Release()
	}
	return nil
}

func (r *Responder) remove(name, keyAuth string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.pending[name]
	if a == nil || a.keyAuth != keyAuth {
		return false
	}
	if a.users--; a.users == 0 {
		delete(r.pending, name)
		close(a.gone)
	}
	return true
}

// Hold opens the address now and keeps it open until Close. Errors are as for Present.
func (r *Responder) Hold(ctx context.Context) error { return r.socket.Hold(ctx) }

// Addr returns the address on which the responder listens now, nil if it does not.
func (r *Responder) Addr() net.Addr { return r.socket.Addr() }

// Close stops listening for good. Pending challenges are not answered any more and Present fails.
func (r *Responder) Close() error {
	r.socket.Close()
	return nil
}

// answer is the certificate for a name: of a challenge that is pending here, or that another node presented.
func (r *Responder) answer(ctx context.Context, name string) *tls.Certificate {
	r.mu.Lock()
	a := r.pending[name]
	r.mu.Unlock()
	if a != nil {
		return a.cert
	}
	id, ok := identifierOf(name)
	if r.lookUp == nil || !ok {
		return nil
	}
	keyAuth := r.lookUp(ctx, id)
	if keyAuth == "" {
		return nil
	}
	cert, err := Certificate(challenges.Challenge{Identifier: id, KeyAuth: keyAuth}, r.clock())
	if err != nil {
		r.log.Debug("an answer of another node is of no use", zap.Error(err))
		return nil
	}
	return cert
}

var errNotPending = errors.New("no challenge is pending for this client")

// config answers a client's first message: with the certificate of a pending challenge, or with an error.
func (r *Responder) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if !slices.Contains(hello.SupportedProtos, Protocol) {
		return nil, errNotPending
	}
	cert := r.answer(hello.Context(), strings.ToLower(hello.ServerName))
	if cert == nil {
		return nil, errNotPending
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{*cert},
		NextProtos:             []string{Protocol},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
	}, nil
}
