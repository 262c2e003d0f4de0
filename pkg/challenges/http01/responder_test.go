package http01_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"

func challengeFor(token string) challenges.Challenge {
	return challenges.Challenge{
		Identifier: certs.Identifier{Type: certs.DNS, Value: "example.com"}, Type: challenges.HTTP01,
		Token: token, KeyAuth: challenges.KeyAuthorization(token, "thumb"), Thumbprint: "thumb",
	}
}

func present(t *testing.T, s challenges.Solver, c challenges.Challenge) {
	t.Helper()
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func cleanUp(t *testing.T, s challenges.Solver, c challenges.Challenge) {
	t.Helper()
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func newResponder(t *testing.T, cfg http01.ResponderConfig) *http01.Responder {
	t.Helper()
	r := http01.NewResponder(cfg)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// exchange sends text on a new connection and returns everything that comes back.
func exchange(t *testing.T, addr net.Addr, text string) string {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, text) }()
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: example.com\r\n\r\n" }

func status(answer string) string {
	line, _, _ := strings.Cut(answer, "\r\n")
	_, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	return code
}

func body(answer string) string {
	_, body, _ := strings.Cut(answer, "\r\n\r\n")
	return body
}

func TestResponderListensWhileSomethingIsPending(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	if r.Addr() != nil {
		t.Fatal("listens before the first token")
	}
	c, other := challengeFor(token), challengeFor(strings.Repeat("b", 43))
	present(t, r, c)
	addr := r.Addr()
	if got := body(exchange(t, addr, get(http01.PathPrefix+c.Token))); got != c.KeyAuth {
		t.Fatalf("answered %q", got)
	}
	present(t, r, c) // by a second order
	present(t, r, other)
	cleanUp(t, r, c)
	if got := body(exchange(t, addr, get(http01.PathPrefix+c.Token))); got != c.KeyAuth {
		t.Errorf("answered %q while one order still needs it", got)
	}
	cleanUp(t, r, c)
	if got := status(exchange(t, addr, get(http01.PathPrefix+c.Token))); got != "404" {
		t.Errorf("status %s after the clean-up", got)
	}
	cleanUp(t, r, c)
	cleanUp(t, r, other)
	cleanUp(t, r, other)
	if r.Addr() != nil {
		t.Error("listens after the last token")
	}
	if conn, err := net.Dial("tcp", addr.String()); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
	present(t, r, c)
	if r.Addr() == nil {
		t.Error("does not listen again")
	}
}

func TestResponderHeldOpen(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	if err := r.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	present(t, r, challengeFor(token))
	cleanUp(t, r, challengeFor(token))
	if got := status(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != "404" {
		t.Errorf("status %s", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Present(t.Context(), challengeFor(token)); err == nil {
		t.Error("a closed responder accepts a challenge")
	}
}

func TestResponderOnHandedOverSocket(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newResponder(t, http01.ResponderConfig{Listener: ln})
	for range 2 {
		present(t, r, challengeFor(token))
		if got := status(exchange(t, ln.Addr(), get(http01.PathPrefix+token))); got != "200" {
			t.Errorf("status %s", got)
		}
		cleanUp(t, r, challengeFor(token))
		if got := status(exchange(t, ln.Addr(), get(http01.PathPrefix+token))); got != "404" {
			t.Errorf("status %s without a token; the socket cannot be opened again", got)
		}
	}
}

func TestResponderOnUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "http.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close() // as after a crash
	r := newResponder(t, http01.ResponderConfig{Addr: "unix:" + path, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	present(t, r, challengeFor(token))
	if got := status(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != "200" {
		t.Errorf("status %s", got)
	}
	if got := status(exchange(t, r.Addr(), "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n"+get(http01.PathPrefix+token))); got != "200" {
		t.Errorf("status %s with a PROXY header", got)
	}
	second := newResponder(t, http01.ResponderConfig{Addr: "unix:" + path})
	var bind *challenges.BindError
	if err := second.Present(t.Context(), challengeFor(token)); !errors.As(err, &bind) {
		t.Errorf("a second responder on the same socket: %v", err)
	}
	cleanUp(t, r, challengeFor(token))
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Present(t.Context(), challengeFor(token)); !errors.As(err, &bind) {
		t.Errorf("a file at the socket's path: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("the file was removed")
	}
}

// loopbacks are the addresses of this machine that talk to itself.
func loopbacks(t *testing.T) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	list := []string{"127.0.0.1"}
	if slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == "::1/128" }) {
		list = append(list, "::1")
	}
	return list
}

// at is the same port at another address.
func at(host string, addr net.Addr) net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(host), Port: addr.(*net.TCPAddr).Port}
}

func TestResponderOnIPv6(t *testing.T) {
	if !slices.Contains(loopbacks(t), "::1") {
		t.Skip("no IPv6 here")
	}
	r := newResponder(t, http01.ResponderConfig{Addr: "[::1]:0"})
	present(t, r, challengeFor(token))
	if got := status(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != "200" {
		t.Errorf("status %s", got)
	}
}

func TestResponderOnBothStacks(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: ":0"})
	present(t, r, challengeFor(token))
	for _, host := range loopbacks(t) {
		if got := body(exchange(t, at(host, r.Addr()), get(http01.PathPrefix+token))); got != challengeFor(token).KeyAuth {
			t.Errorf("%s: answered %q", host, got)
		}
	}
}

func TestResponderNamesTheHolderOfThePort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := newResponder(t, http01.ResponderConfig{Addr: ln.Addr().String()})
	err = r.Present(t.Context(), challengeFor(token))
	var bind *challenges.BindError
	if !errors.As(err, &bind) {
		t.Fatalf("error %v", err)
	}
	if bind.Holder == nil || bind.Holder.PID != os.Getpid() || bind.Holder.Name == "" {
		t.Errorf("holder %v, want pid %d", bind.Holder, os.Getpid())
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("(pid %d) is listening there", os.Getpid())) {
		t.Errorf("message %q", err)
	}
	cleanUp(t, r, challengeFor(token))
	ln.Close()
	present(t, r, challengeFor(token))
}

func TestResponderRefusesTokens(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	for _, token := range []string{"", "short", "../../../../../../etc/passwd", strings.Repeat("a", 1<<20)} {
		if err := r.Present(t.Context(), challengeFor(token)); err == nil {
			t.Errorf("%.30q was accepted", token)
		}
	}
	if r.Addr() != nil {
		t.Error("listens for a refused token")
	}
	mine, theirs := challengeFor(token), challengeFor(token)
	theirs.KeyAuth = token + ".other"
	present(t, r, mine)
	if err := r.Present(t.Context(), theirs); err == nil {
		t.Error("a second answer to the same token was accepted")
	}
	cleanUp(t, r, theirs)
	if got := body(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != mine.KeyAuth {
		t.Errorf("answered %q", got)
	}
}

func TestResponderStateless(t *testing.T) {
	var thumb atomic.Pointer[string]
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0", Thumbprint: func(context.Context, string) string { return *thumb.Load() }})
	if err := r.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	some, none := "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI", ""
	thumb.Store(&some)
	if got := body(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != token+".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI" {
		t.Errorf("answered %q", got)
	}
	for _, bad := range []string{"short", "%3Cscript%3Ealert(1)%3C/script%3E", token + "/" + token, strings.Repeat("a", 500)} {
		if answer := exchange(t, r.Addr(), get(http01.PathPrefix+bad)); status(answer) != "404" || body(answer) != "not found\n" {
			t.Errorf("%.40q was answered %q", bad, answer)
		}
	}
	present(t, r, challengeFor(token))
	if got := body(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != challengeFor(token).KeyAuth {
		t.Errorf("a pending token was answered %q", got)
	}
	cleanUp(t, r, challengeFor(token))
	thumb.Store(&none)
	if got := status(exchange(t, r.Addr(), get(http01.PathPrefix+token))); got != "404" {
		t.Errorf("status %s after the mode was ended", got)
	}
}

func TestProxyProtocolOnlyFromTrustedPeers(t *testing.T) {
	v1 := "PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n"
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x30\x39\x00\x50"
	unknown := "PROXY UNKNOWN\r\n"
	request := get(http01.PathPrefix + token)
	for _, tc := range []struct {
		name, proxies, text, want string
	}{
		{"trusted v1", "127.0.0.0/8", v1 + request, "200"},
		{"trusted v2", "127.0.0.0/8", v2 + request, "200"},
		{"trusted unknown", "127.0.0.0/8", unknown + request, "200"},
		{"trusted without a header", "127.0.0.0/8", request, "200"},
		{"stranger v1", "192.0.2.0/24", v1 + request, "400"},
		{"stranger v2", "192.0.2.0/24", v2 + request, "400"},
		{"stranger without a header", "192.0.2.0/24", request, "200"},
		{"nobody trusted", "", v1 + request, "400"},
		{"endless header", "127.0.0.0/8", "PROXY " + strings.Repeat("x", 1000), "400"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := http01.ResponderConfig{Addr: "127.0.0.1:0"}
			if tc.proxies != "" {
				cfg.Proxies = []netip.Prefix{netip.MustParsePrefix(tc.proxies)}
			}
			r := newResponder(t, cfg)
			present(t, r, challengeFor(token))
			if got := exchange(t, r.Addr(), tc.text); status(got) != tc.want {
				t.Errorf("answered %q", got)
			}
		})
	}
}

func TestTwentyCertificatesShareAResponder(t *testing.T) {
	r := newResponder(t, http01.ResponderConfig{Addr: "127.0.0.1:0"})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				c := challengeFor(fmt.Sprintf("certificate-%02d-authorization-%02d", i, j))
				if err := order(t.Context(), r, c); err != nil {
					t.Errorf("certificate %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	if r.Addr() != nil {
		t.Error("listens after the last order")
	}
}

// order does what an order and its CA do with a solver.
func order(ctx context.Context, r *http01.Responder, c challenges.Challenge) error {
	if err := r.Present(ctx, c); err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + r.Addr().String() + http01.PathPrefix + c.Token)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && string(text) != c.KeyAuth {
		err = fmt.Errorf("answered %q", text)
	}
	return errors.Join(err, r.CleanUp(ctx, c))
}

func TestStatelessPresentsNothing(t *testing.T) {
	var s http01.Stateless
	present(t, s, challengeFor(token))
	cleanUp(t, s, challengeFor(token))
	if err := s.Present(t.Context(), challengeFor("a/b")); err == nil {
		t.Error("accepted a token that no proxy answers")
	}
}
