package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"github.com/acmed/acmed/internal/httplog"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/notify"
)

const (
	// maxConns is far above what people and monitoring do at one time.
	maxConns = 64
	// headerTime and idleTime end clients that hold a connection without asking anything.
	headerTime = 5 * time.Second
	idleTime   = time.Minute
	// writeTime is how long a client may take to read one line of progress before it is given up.
	writeTime = 10 * time.Second
)

// Server answers on a socket.
type Server struct {
	backend Backend
	log     *zap.Logger
	http    *http.Server
	routes  map[string]endpoint // by pattern
}

// endpoint answers requests of one form. One that streams has no answer but lines.
type endpoint struct {
	http.HandlerFunc
	request, answer reflect.Type
}

// routes is a mux that knows what it has.
type routes struct {
	http.ServeMux
	list map[string]endpoint
}

// HandleFunc adds one.
func (r *routes) HandleFunc(pattern string, e endpoint) {
	if r.list == nil {
		r.list = map[string]endpoint{}
	}
	r.list[pattern] = e
	r.ServeMux.HandleFunc(pattern, e.HandlerFunc)
}

// NewServer returns a server for the backend.
func NewServer(b Backend, log *zap.Logger) *Server {
	s := &Server{backend: b, log: log}
	mux := &routes{}
	mux.HandleFunc("POST /v1/status", answering(s, b.Status))
	mux.HandleFunc("POST /v1/renew", streaming(s, b.Renew))
	mux.HandleFunc("POST /v1/install", streaming(s, b.Install))
	mux.HandleFunc("POST /v1/activate", streaming(s, b.Activate))
	mux.HandleFunc("POST /v1/rollback", streaming(s, b.Rollback))
	mux.HandleFunc("POST /v1/events", endpoint{s.events, reflect.TypeFor[EventsRequest](), nil})
	mux.HandleFunc("POST /v1/history", answering(s, b.History))
	mux.HandleFunc("POST /v1/log", answering(s, b.Log))
	mux.HandleFunc("POST /v1/chain", answering(s, b.Chain))
	mux.HandleFunc("POST /v1/trust", answering(s, b.Trust))
	mux.HandleFunc("POST /v1/preview", answering(s, b.Preview))
	mux.HandleFunc("POST /v1/staging", streaming(s, b.RunStaging))
	mux.HandleFunc("POST /v1/forget", answering(s, func(ctx context.Context, r ForgetRequest) (struct{}, error) {
		return struct{}{}, b.Forget(ctx, r)
	}))
	mux.HandleFunc("POST /v1/reload", answering(s, func(ctx context.Context, _ struct{}) (struct{}, error) {
		return struct{}{}, b.Reload(ctx)
	}))
	mux.HandleFunc("POST /v1/account", answering(s, b.Account))
	mux.HandleFunc("POST /v1/revoke", answering(s, b.Revoke))
	mux.HandleFunc("POST /v1/doctor", answering(s, b.Doctor))
	mux.HandleFunc("POST /v1/fleet", answering(s, b.Fleet))
	mux.HandleFunc("POST /v1/notify-test", answering(s, b.TestNotify))
	s.routes = mux.list
	s.http = &http.Server{
		Handler: &mux.ServeMux, ReadHeaderTimeout: headerTime, ReadTimeout: 2 * headerTime, IdleTimeout: idleTime, MaxHeaderBytes: 8 << 10,
		ErrorLog: httplog.Panics(log, "control socket"),
	}
	return s
}

// Serve answers until Shutdown. The listener comes from [Listen].
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(netutil.LimitListener(l, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops listening and waits for running answers until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// answering makes a handler of a verb that takes one request and gives one answer.
func answering[Q, A any](s *Server, verb func(context.Context, Q) (A, error)) endpoint {
	return endpoint{request: reflect.TypeFor[Q](), answer: reflect.TypeFor[A](), HandlerFunc: func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if !s.read(w, r, &q) {
			return
		}
		if err := patient(w); err != nil {
			s.answer(w, nil, err)
			return
		}
		answer, err := verb(r.Context(), q)
		s.answer(w, answer, err)
	}}
}

// streaming makes a handler of a verb that tells progress. A client that stops reading loses its stream; the work goes on.
func streaming[Q any](s *Server, verb func(context.Context, Q, func(Progress)) (Report, error)) endpoint {
	return endpoint{request: reflect.TypeFor[Q](), HandlerFunc: func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if !s.read(w, r, &q) {
			return
		}
		s.log.Info("work requested", zap.String("verb", r.URL.Path), zap.Any("request", q))
		w.Header().Set("Content-Type", "application/x-ndjson")
		stream := newStream(w)
		defer stream.close()
		report, err := verb(r.Context(), q, func(p Progress) { stream.send(Line{Progress: &p}) })
		if err != nil {
			stream.send(Line{Error: asError(err)})
			return
		}
		stream.send(Line{Report: &report})
	}}
}

// events passes on what happens, one line at a time, until the client goes away. One that does not read a line for
// [writeTime] loses the connection.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	var q EventsRequest
	if !s.read(w, r, &q) {
		return
	}
	control, enc := http.NewResponseController(w), json.NewEncoder(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	send := func(l Line) error {
		if err := control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if l != (Line{}) {
			if err := enc.Encode(l); err != nil {
				return err
			}
		}
		return control.Flush()
	}
	err := send(Line{}) // the header: from here on nothing is missed
	if err == nil {
		err = s.backend.Events(r.Context(), q, func(e notify.Event) error { return send(Line{Event: &e}) })
	}
	if r.Context().Err() == nil {
		err = send(Line{Error: asError(err)})
	}
	if err != nil {
		s.log.Debug("events not delivered", zap.Error(err))
	}
}

// patient lifts the read deadline of a request that was read: from here on it would only end the context of a long answer.
func patient(w http.ResponseWriter) error {
	return http.NewResponseController(w).SetReadDeadline(time.Time{})
}

// stream writes lines from a queue, so that a client that reads slowly never holds up a job.
type stream struct {
	lines chan Line
	done  chan struct{}
	once  sync.Once
}

// streamQueue holds the progress of a few hundred certificates; a client that is further behind loses progress lines.
const streamQueue = 4096

func newStream(w http.ResponseWriter) *stream {
	s := &stream{lines: make(chan Line, streamQueue), done: make(chan struct{})}
	go s.write(w)
	return s
}

func (s *stream) write(w http.ResponseWriter) {
	defer close(s.done)
	control := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	broken := control.Flush() != nil // the header: the client knows that its work has begun
	for l := range s.lines {
		if broken {
			continue
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeTime))
		broken = enc.Encode(l) != nil || control.Flush() != nil
	}
}

func (s *stream) send(l Line) {
	if l.Progress == nil { // the last line is worth waiting for
		s.lines <- l
		return
	}
	select {
	case s.lines <- l:
	default:
	}
}

func (s *stream) close() {
	s.once.Do(func() { close(s.lines) })
	<-s.done
}

// read decodes the request, strictly, and answers itself when it cannot.
func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		s.answer(w, nil, &Error{Code: CodeUsage, Message: "the request cannot be read: " + err.Error()})
		return false
	}
	// The request is read; from here on the read deadline would only end the context of what takes its time.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		s.answer(w, nil, err)
		return false
	}
	return true
}

func (s *Server) answer(w http.ResponseWriter, body any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e := asError(err)
		w.WriteHeader(httpStatus(e.Code))
		body = Line{Error: e}
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("answer not delivered", zap.Error(err))
	}
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error(), Explain: advice.Of(err)}
}

func httpStatus(c Code) int {
	switch c {
	case CodeUsage:
		return http.StatusBadRequest
	case CodeUnknown:
		return http.StatusNotFound
	case CodeConfig, CodePartial:
		return http.StatusUnprocessableEntity
	case CodePermission:
		return http.StatusForbidden
	case CodeStopping:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
