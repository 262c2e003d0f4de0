package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/httplog"
)

// The bounds on clients. A monitoring system and a few people need far less.
const (
	maxConns   = 32
	maxHeader  = 8 << 10
	headerTime = 5 * time.Second
	writeTime  = 30 * time.Second // a client that reads more slowly is cut off
	idleTime   = time.Minute
)

// Config makes a [Server].
type Config struct {
	Source   Source
	Recorder *Recorder
	Hosts    []string // names by which visitors may call the server, besides addresses and localhost
	Log      *zap.Logger
	Clock    func() time.Time // time.Now if nil
}

// Server answers visitors.
type Server struct {
	Config
	cache     *cache
	templates *template.Template
	policy    string // Content-Security-Policy
	http      *http.Server
}

// New returns a server that does not listen yet.
func New(c Config) *Server {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	s := &Server{Config: c, cache: newCache(c.Source, c.Clock)}
	s.templates, s.policy = parseTemplates()
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", s.index)
	mux.HandleFunc("/certificate/{name}", s.certificate)
	mux.HandleFunc("/errors/{code}", s.explain)
	mux.HandleFunc("/metrics", s.metrics)
	mux.HandleFunc("/healthz", s.health)
	mux.HandleFunc("/livez", s.live)
	s.http = &http.Server{
		Handler: s.guard(mux), ReadHeaderTimeout: headerTime, ReadTimeout: 2 * headerTime, WriteTimeout: writeTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ConnState: new(crowd).state, ErrorLog: httplog.Panics(c.Log, "status page"),
	}
	return s
}

// Serve answers until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops listening, waits for running answers until ctx ends, and breaks off those that are left.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// guard answers only those who read and who called the server by a name of its own. A page on another site can make its
// own name point to this address (DNS rebinding), and would be allowed to read what it gets from there.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", s.policy)
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		switch {
		case !s.known(r.Host):
			http.Error(w, "this name is not one of acmed's; list it under web.hosts if it is", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "read only", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// known reports whether a Host header names this server. An address does: no page can have one for its name unless it
// was served from there.
func (s *Server) known(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// render writes a page, whole or not at all.
func (s *Server) render(w http.ResponseWriter, status int, name string, data any) {
	var page bytes.Buffer
	if err := s.templates.ExecuteTemplate(&page, name, data); err != nil {
		s.fail(w, fmt.Errorf("page %s: %w", name, err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
}

// fail answers when the state could not be read. The error goes to the log; strangers have no use for it.
func (s *Server) fail(w http.ResponseWriter, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	s.Log.Warn("status page not made", zap.Error(err))
	http.Error(w, "the state cannot be read at the moment; acmed's log says why", http.StatusServiceUnavailable)
}
