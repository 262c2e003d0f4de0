package httplog

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestPanics(t *testing.T) {
	core, seen := observer.New(zap.DebugLevel)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		panic("a map is nil")
	}))
	s.Config.ErrorLog = Panics(zap.New(core), "status page")
	s.StartTLS()
	for _, path := range []string{"/", "/abort"} {
		if resp, err := s.Client().Get(s.URL + path); err == nil {
			_ = resp.Body.Close()
			t.Error("a handler that panics answers")
		}
	}
	if conn, err := net.Dial("tcp", s.Listener.Addr().String()); err == nil { // a client's mistake: no TLS
		_, _ = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
		_, _ = conn.Read(make([]byte, 100))
		_ = conn.Close()
	}
	s.Close()
	entries := seen.All()
	if len(entries) != 1 || entries[0].Level != zap.ErrorLevel {
		t.Fatalf("%v", entries)
	}
	fields := entries[0].ContextMap()
	if fields["server"] != "status page" || !strings.Contains(fields["panic"].(string), "a map is nil") || !strings.Contains(fields["stack"].(string), "httplog_test.go") {
		t.Errorf("%v", fields)
	}
	Panics(nil, "").Print("http: panic serving nobody")
}
