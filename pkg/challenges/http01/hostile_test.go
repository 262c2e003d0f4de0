package http01_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/challenges/http01"
)

func TestHostileRequests(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	c := challengeFor(token)
	present(t, r, c)
	path := http01.PathPrefix + token
	for _, tc := range []struct {
		name, text, want string // want: status
	}{
		{"as a CA does", get(path), "200"},
		{"another host", "GET " + path + " HTTP/1.1\r\nHost: evil.example\r\n\r\n", "200"},
		{"no host, HTTP/1.0", "GET " + path + " HTTP/1.0\r\n\r\n", "200"},
		{"absolute URI", "GET http://evil.example" + path + " HTTP/1.1\r\nHost: example.com\r\n\r\n", "200"},
		{"forwarded headers", "GET " + path + " HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: a,b,<c>\r\nForwarded: for=\"[\r\nX-Forwarded-For: ,,,\r\n\r\n", "200"},
		{"HEAD", "HEAD " + path + " HTTP/1.1\r\nHost: example.com\r\n\r\n", "200"},
		{"Host with a line break", "GET " + path + " HTTP/1.1\r\nHost: evil\r\nX: y\r\n\r\n", "200"},
		{"Host with a bare CR", "GET " + path + " HTTP/1.1\r\nHost: evil\rX: y\r\n\r\n", "400"},
		{"two hosts", "GET " + path + " HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
		{"no host, HTTP/1.1", "GET " + path + " HTTP/1.1\r\n\r\n", "400"},
		{"POST", "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nevil", "405"},
		{"OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "405"},
		{"CONNECT", "CONNECT evil.example:25 HTTP/1.1\r\nHost: evil.example:25\r\n\r\n", "405"},
		{"TRACE", "TRACE " + path + " HTTP/1.1\r\nHost: a\r\nX-Evil: echo\r\n\r\n", "405"},
		{"HTTP/2 prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "405"},
		{"root", get("/"), "404"},
		{"profiling", get("/debug/pprof/"), "404"},
		{"no token", get(http01.PathPrefix), "404"},
		{"another token", get(http01.PathPrefix + strings.Repeat("x", 43)), "404"},
		{"longer path", get(path + "/x"), "404"},
		{"dots", get("/.well-known/../.well-known/acme-challenge/" + token), "404"},
		{"double slash", get("/" + path), "404"},
		{"upper case", get(strings.ToUpper(http01.PathPrefix) + token), "404"},
		{"script", get("/<script>evil</script>"), "404"},
		{"huge header", "GET " + path + " HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("evil", 1<<18) + "\r\n\r\n", "431"},
		{"huge request line", get("/" + strings.Repeat("evil", 1<<18)), "431"},
		{"many headers", "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: evil\r\n", 5000) + "\r\n", "431"},
		{"TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + strings.Repeat("\x00", 160) + "\r\n\r\n", "400"},
		{"not HTTP", "evil\r\n\r\n", "400"},
		{"smuggling", "GET " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked, evil\r\n\r\n0\r\n\r\n", "501"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := exchange(t, r.Addr(), tc.text)
			if got := status(answer); got != tc.want {
				t.Fatalf("answered %.300q, want %s", answer, tc.want)
			}
			if strings.Contains(answer, "evil") {
				t.Errorf("the answer repeats the input: %q", answer)
			}
			switch got := body(answer); {
			case tc.want == "200" && tc.name != "HEAD" && got != c.KeyAuth:
				t.Errorf("body %q", got)
			case tc.want == "404" && got != "not found\n":
				t.Errorf("body %q", got)
			}
			if strings.Contains(strings.ToLower(answer), "\nserver:") {
				t.Error("the answer names the server")
			}
		})
	}
}

func TestPipelinedRequestsAreNotServed(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	present(t, r, challengeFor(token))
	answer := exchange(t, r.Addr(), strings.Repeat(get(http01.PathPrefix+token), 10))
	if n := strings.Count(answer, "HTTP/1.1 200"); n != 1 {
		t.Errorf("%d answers on one connection", n)
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	present(t, r, challengeFor(token))
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	go func() {
		for _, c := range "GET " + http01.PathPrefix + strings.Repeat("a", 1000) {
			if _, err := io.WriteString(conn, string(c)); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	_, _ = bufio.NewReader(conn).ReadString(0)
	if took := time.Since(start); took < time.Second || took > time.Minute {
		t.Errorf("cut off after %s", took)
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	const bound = 64
	crowd := min(10_000, openFiles(t)*3/4)
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0", MaxConns: bound})
	c := challengeFor(token)
	present(t, r, c)
	conns := make([]net.Conn, 0, crowd)
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for len(conns) < crowd {
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", len(conns), err)
		}
		conns = append(conns, conn)
		if len(conns)%1000 == 0 {
			if got := body(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != c.KeyAuth {
				t.Errorf("with %d idle connections: answered %q", len(conns), got)
			}
			if n := runtime.NumGoroutine(); n > 8*bound {
				t.Errorf("%d goroutines at %d idle connections", n, len(conns))
			}
		}
	}
	cleanUp(t, r, c)
	last := conns[len(conns)-1]
	_ = last.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an idle connection outlives the clean-up: %v", err)
	}
}

// TestACrowdElsewhereDoesNotCutOffTheCA: a CA whose request is on its way keeps its connection, however many clients of
// another network come meanwhile.
func TestACrowdElsewhereDoesNotCutOffTheCA(t *testing.T) {
	const bound = 64
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0", MaxConns: bound})
	c := challengeFor(token)
	present(t, r, c)
	ca, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	for i := range 10 * bound {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 66, 0, byte(1+i%200))}}
		conn, err := d.DialContext(t.Context(), "tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	exchange(t, r.Addr(), get("/")) // by now all are accepted
	_ = ca.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(ca, get(http01.PathPrefix+token))
	if answer, err := io.ReadAll(ca); err != nil || body(string(answer)) != c.KeyAuth {
		t.Errorf("answered %q, %v", answer, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

func TestAnswersHaveNoSurprises(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	present(t, r, challengeFor(token))
	resp, err := http.Get("http://" + r.Addr().String() + http01.PathPrefix + token + "?x=y")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for key, want := range map[string]string{
		"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	} {
		if got := resp.Header.Get(key); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
	if !resp.Close {
		t.Error("the connection is kept alive")
	}
	http.DefaultClient.CloseIdleConnections()
}
