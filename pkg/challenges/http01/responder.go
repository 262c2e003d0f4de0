package http01

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/httplog"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/internal/listener"
)

// PathPrefix is where a CA looks for the token (RFC 8555 section 8.3).
const PathPrefix = "/.well-known/acme-challenge/"

// The bounds on one client. A CA sends its few hundred bytes at once and reads the answer at once; 5 seconds allow for
// a lost packet or two on the way.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second
	maxHeader      = 8 << 10
	maxConns       = 256
)

// ResponderConfig configures a [Responder].
type ResponderConfig struct {
	Addr     string         // host:port, :port (IPv4 and IPv6) or unix:/path; default ":80"
	Listener net.Listener   // a socket from the service manager instead of Addr; the responder closes it in Close
	Proxies  []netip.Prefix // peers whose PROXY protocol header (version 1 or 2) is believed; empty: nobody's
	MaxConns int            // connections at once, the oldest of the busiest network makes room for a new one; default 256
	// Thumbprint is that of the account which may have an order pending for a host on another node, "" for none: every
	// well-formed token is answered with it. It only tells what the account's owner may know anyway: an order that somebody
	// else places has another thumbprint. nil: nothing but pending tokens is answered. The responder must be held open for it
	// to be of use.
	Thumbprint func(ctx context.Context, host string) string
	Log        *zap.Logger // told at debug level about each answered challenge; may be nil
}

// Responder is a web server for challenges and nothing else, shared by any number of orders. It listens from the first
// pending token to the last, or all the time after [Responder.Hold]. It is safe for concurrent use.
type Responder struct {
	socket *listener.Shared
	log    *zap.Logger
	thumb  func(ctx context.Context, host string) string

	mu      sync.RWMutex
	pending map[string]*answer
}

var _ challenges.Solver = (*Responder)(nil)

type answer struct {
	keyAuth string
	users   int
}

// NewResponder makes a responder that does not listen yet.
func NewResponder(cfg ResponderConfig) *Responder {
	if cfg.Addr == "" {
		cfg.Addr = ":80"
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = maxConns
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	r := &Responder{log: cfg.Log, thumb: cfg.Thumbprint, pending: map[string]*answer{}}
	r.socket = listener.NewShared(listener.Config{
		Addr: cfg.Addr, Listener: cfg.Listener, Proxies: cfg.Proxies, MaxConns: cfg.MaxConns, Timeout: headerTimeout,
	}, r.serve)
	return r
}

// Type returns http-01.
func (r *Responder) Type() challenges.Type { return challenges.HTTP01 }

// Present answers the challenge's token from now on. Orders that share an authorization may present the same token;
// each then calls CleanUp once. If the address cannot be opened the error is a [*challenges.BindError].
func (r *Responder) Present(ctx context.Context, c challenges.Challenge) error {
	if err := challenges.CheckToken(c.Token); err != nil {
		return err
	}
	if err := r.socket.Acquire(ctx); err != nil {
		return err
	}
	if !r.add(c) {
		r.socket.Release()
		return errors.New("the challenge token is already pending with another answer")
	}
	return nil
}

func (r *Responder) add(c challenges.Challenge) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.pending[c.Token]
	if a == nil {
		a = &answer{keyAuth: c.KeyAuth}
		r.pending[c.Token] = a
	}
	if a.keyAuth != c.KeyAuth {
		return false
	}
	a.users++
	return true
}

// CleanUp takes the answer away, and stops listening after the last one. A token that is not pending is no error.
func (r *Responder) CleanUp(_ context.Context, c challenges.Challenge) error {
	if r.remove(c) {
		r.socket.Release()
	}
	return nil
}

func (r *Responder) remove(c challenges.Challenge) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.pending[c.Token]
	if a == nil || a.keyAuth != c.KeyAuth {
		return false
	}
	if a.users--; a.users == 0 {
		delete(r.pending, c.Token)
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

func (r *Responder) serve(ln net.Listener) (stop func()) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	srv := &http.Server{
		Handler:                      r,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 requestTimeout,
		MaxHeaderBytes:               maxHeader,
		Protocols:                    &protocols,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     httplog.Panics(r.log, "challenge responder"),
	}
	srv.SetKeepAlivesEnabled(false)
	done := make(chan struct{})
	guard.Go(r.log, "challenge responder", func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			r.log.Error("challenge responder stopped", zap.Stringer("addr", ln.Addr()), zap.Error(err))
		}
	})
	return func() {
		_ = srv.Close()
		_ = ln.Close() // in case Serve had not taken it yet
		<-done
	}
}

const notFound = "not found\n"

// ServeHTTP answers one request: the key authorization of a pending token, 405 for other methods than GET and HEAD, and
// 404 with a constant body for everything else.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		reply(w, http.StatusMethodNotAllowed, "method not allowed\n")
		return
	}
	token, found := strings.CutPrefix(req.URL.Path, PathPrefix)
	if !found {
		reply(w, http.StatusNotFound, notFound)
		return
	}
	keyAuth := r.lookup(req, token)
	if keyAuth == "" {
		reply(w, http.StatusNotFound, notFound)
		return
	}
	r.log.Debug("challenge answered", zap.String("type", string(challenges.HTTP01)), zap.String("client", req.RemoteAddr))
	reply(w, http.StatusOK, keyAuth)
}

// lookup returns the key authorization for a token, or nothing.
func (r *Responder) lookup(req *http.Request, token string) string {
	r.mu.RLock()
	a := r.pending[token]
	r.mu.RUnlock()
	if a != nil {
		return a.keyAuth
	}
	if r.thumb == nil || challenges.CheckToken(token) != nil {
		return ""
	}
	host, _, err := net.SplitHostPort(req.Host)
	if err != nil {
		host = req.Host
	}
	if thumb := r.thumb(req.Context(), host); thumb != "" {
		return challenges.KeyAuthorization(token, thumb)
	}
	return ""
}

func reply(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
