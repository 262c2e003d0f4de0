package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/httplog"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	// maxConns is what a daemon with the largest allowed concurrency opens at one time; the socket's unit queues as many.
	maxConns = 256
	// headerTime and readTime end clients that hold a connection without asking anything.
	headerTime = 5 * time.Second
	readTime   = 2 * headerTime
	// verbTime bounds one call: two tests, two reloads and a probe, each within its own minute, then the same backwards.
	verbTime = 10 * time.Minute
	// After a stop was asked for, running calls get endTime to end, and then backTime to put everything back. Together they
	// stay below what systemd waits.
	endTime  = 45 * time.Second
	backTime = 15 * time.Second
)

// ServerConfig makes a [Server].
type ServerConfig struct {
	Targets map[string]*Target
	Users   []int         // who may ask besides root, by number
	Idle    time.Duration // Run ends when nobody was connected for so long; 0: never
	Broken  error         // why the helper cannot work; every call is answered with it
	Log     *zap.Logger
}

// Server answers the daemon.
type Server struct {
	ServerConfig
	http   *http.Server
	base   context.Context // ends when running calls must stop; a client that goes away does not stop them
	cancel context.CancelFunc
	end    func()        // makes Run end, once running calls have
	ending chan struct{} // closed by end
	deaf   chan struct{} // closed when no more connections are taken

	mu    sync.Mutex
	open  int         // connections
	timer *time.Timer // runs while none is open; nil without Idle
}

// verb is one call for a target; diff is for preview only.
type verb func(ctx context.Context, t *Target, b *certs.Bundle) (diff string, err error)

// verbs is the list of all verbs that name a target. Those of bare take no certificate.
func verbs() map[string]verb {
	return map[string]verb{
		verbInstall: func(ctx context.Context, t *Target, b *certs.Bundle) (string, error) { return "", t.Install(ctx, b) },
		verbVerify:  func(ctx context.Context, t *Target, b *certs.Bundle) (string, error) { return "", t.Verify(ctx, b) },
		verbPreview: func(ctx context.Context, t *Target, b *certs.Bundle) (string, error) { return t.Preview(ctx, b) },
		verbNotes:   func(ctx context.Context, t *Target, b *certs.Bundle) (string, error) { return t.Notes(ctx, b) },

		verbUninstall: func(ctx context.Context, t *Target, _ *certs.Bundle) (string, error) { return "", t.Uninstall(ctx) },
		verbExamine:   func(ctx context.Context, t *Target, _ *certs.Bundle) (string, error) { return "", t.Examine(ctx) },
	}
}

func bare(verb string) bool { return verb == verbUninstall || verb == verbExamine }

// NewServer returns a server for the targets.
func NewServer(c ServerConfig) *Server {
	s := &Server{ServerConfig: c, ending: make(chan struct{}), deaf: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ending) })
	s.base, s.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	for name, call := range verbs() {
		mux.HandleFunc("POST /v1/"+name, s.handle(name, call))
	}
	mux.HandleFunc("POST /v1/"+verbRestart, s.restart)
	s.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, MaxHeaderBytes: 8 << 10,
		ConnState: s.count, ConnContext: withUser, ErrorLog: httplog.Panics(c.Log, "helper"),
	}
	s.http.SetKeepAlivesEnabled(false)
	if c.Idle > 0 {
		s.timer = time.AfterFunc(c.Idle, s.end)
	}
	return s
}

// Run answers on a unix socket until ctx ends, a restart is asked for or nobody asked for a while, then lets running calls
// end.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return fmt.Errorf("the helper listens on unix sockets only, not on %s", l.Addr())
	}
	failed := make(chan error, 1)
	go func() {
		failed <- s.http.Serve(&guarded{UnixListener: unix, users: s.Users, log: s.Log, slots: make(chan struct{}, maxConns), closed: s.deaf})
	}()
	select {
	case err := <-failed:
		s.cancel()
		return err
	case <-ctx.Done():
	case <-s.ending:
	}
	return s.stop()
}

func (s *Server) stop() error {
	defer s.cancel()
	end, done := context.WithTimeout(context.Background(), endTime)
	defer done()
	if s.http.Shutdown(end) == nil {
		return nil
	}
	s.cancel()
	back, done := context.WithTimeout(context.Background(), backTime)
	defer done()
	if err := s.http.Shutdown(back); err != nil {
		return errors.Join(errors.New("a call did not end in time"), s.http.Close())
	}
	return nil
}

// userKey is where the context of a request has the user who asks.
type userKey struct{}

func withUser(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*client); ok {
		return context.WithValue(ctx, userKey{}, c.uid)
	}
	return ctx
}

// byRoot reports whether root asks.
func byRoot(ctx context.Context) bool {
	uid, ok := ctx.Value(userKey{}).(int)
	return ok && uid == 0
}

// count keeps the timer running while nobody is connected.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.open++
	case http.StateClosed, http.StateHijacked:
		s.open--
	}
	switch {
	case s.timer == nil:
	case s.open > 0:
		s.timer.Stop()
	default:
		s.timer.Reset(s.Idle)
	}
}

// handle makes the handler of a verb.
func (s *Server) handle(name string, call verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, b, err := s.read(w, r, !bare(name))
		var diff string
		if err == nil {
			diff, err = s.call(r.Context(), name, call, t, b)
		}
		s.answer(w, diff, err)
	}
}

// restart makes Run end after the calls that run, and answers as soon as every later call goes to the next helper, which
// reads its configuration anew.
func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	s.end()
	select {
	case <-s.deaf:
	case <-r.Context().Done():
	}
	s.answer(w, "", nil)
}

// read decodes a request strictly.
func (s *Server) read(w http.ResponseWriter, r *http.Request, wantBundle bool) (*Target, *certs.Bundle, error) {
	var q request
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return nil, nil, refuse("the request cannot be read: %w", err)
	}
	t, ok := s.Targets[q.Target]
	switch {
	case s.Broken != nil:
		return nil, nil, fmt.Errorf("the helper cannot work: %w", s.Broken)
	case !ok:
		known := slices.Sorted(maps.Keys(s.Targets))
		return nil, nil, refuse("the helper has no target %q; it has: %s", q.Target, strings.Join(known, ", "))
	case wantBundle != (q.Bundle != nil):
		return nil, nil, refuse("a certificate is missing or one too many")
	case !wantBundle:
		return t, nil, nil
	}
	b, err := q.Bundle.unpack()
	if err != nil {
		return nil, nil, refuse("the certificate for the target %s: %w", q.Target, err)
	}
	return t, b, nil
}

// call runs a verb when it is the target's turn. It goes on when the client goes away.
func (s *Server) call(asked context.Context, name string, call verb, t *Target, b *certs.Bundle) (diff string, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(s.base, userKey{}, asked.Value(userKey{})), verbTime)
	defer cancel()
	begun := time.Now()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v", r)
			s.Log.Error("plugin panicked", zap.String("target", t.name), zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
		s.tell(name, t, b, time.Since(begun), err)
	}()
	unlock, err := t.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	return call(ctx, t, b)
}

// tell logs what root did on behalf of another user.
func (s *Server) tell(name string, t *Target, b *certs.Bundle, took time.Duration, err error) {
	fields := []zap.Field{zap.String("verb", name), zap.String("target", t.name), zap.Duration("took", took)}
	if b != nil {
		fields = append(fields, zap.String("serial", b.Serial()), zap.Time("not_after", b.Leaf.NotAfter))
	}
	switch {
	case err != nil:
		s.Log.Warn("call failed", append(fields, zap.Error(err))...)
	case name == verbInstall || name == verbUninstall:
		s.Log.Info("call done", fields...)
	default:
		s.Log.Debug("call done", fields...)
	}
}

func (s *Server) answer(w http.ResponseWriter, diff string, err error) {
	w.Header().Set("Content-Type", "application/json")
	a := answer{Diff: diff}
	if err != nil {
		a.Error = failureOf(err)
		w.WriteHeader(httpStatus(a.Error.Kind))
	}
	if err := json.NewEncoder(w).Encode(a); err != nil {
		s.Log.Debug("answer not delivered", zap.Error(err))
	}
}

func httpStatus(k kind) int {
	if k == kindRefused {
		return http.StatusForbidden
	}
	return http.StatusUnprocessableEntity
}
