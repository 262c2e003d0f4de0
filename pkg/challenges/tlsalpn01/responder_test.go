package tlsalpn01_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func challengeFor(t *testing.T, name, token string) challenges.Challenge {
	t.Helper()
	id, _, err := certs.ParseIdentifier(name)
	if err != nil {
		t.Fatal(err)
	}
	return challenges.Challenge{Identifier: id, Type: challenges.TLSALPN01, Token: token, KeyAuth: token + ".thumb", Thumbprint: "thumb"}
}

func newResponder(t *testing.T, cfg tlsalpn01.ResponderConfig) *tlsalpn01.Responder {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	r := tlsalpn01.NewResponder(cfg)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func present(t *testing.T, r *tlsalpn01.Responder, c challenges.Challenge) {
	t.Helper()
	if err := r.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func cleanUp(t *testing.T, r *tlsalpn01.Responder, c challenges.Challenge) {
	t.Helper()
	if err := r.CleanUp(t.Context(), c); err != nil {
		t.Error(err)
	}
}

// handshake connects as a CA does and returns the certificate.
func handshake(addr net.Addr, name string, protocols ...string) (*x509.Certificate, error) {
	var seen *x509.Certificate
	d := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(d, addr.Network(), addr.String(), &tls.Config{
		ServerName: name, NextProtos: protocols, InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			var err error
			seen, err = x509.ParseCertificate(raw[0])
			return err
		},
	})
	if err != nil {
		return seen, err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != tlsalpn01.Protocol {
		return seen, fmt.Errorf("negotiated %q", state.NegotiatedProtocol)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return seen, fmt.Errorf("the connection stays open after the handshake: %d bytes, %w", n, err)
	}
	return seen, nil
}

// check is the CA's side of RFC 8737 section 3.
func check(cert *x509.Certificate, c challenges.Challenge) error {
	if n := len(cert.DNSNames) + len(cert.IPAddresses) + len(cert.EmailAddresses) + len(cert.URIs); n != 1 {
		return fmt.Errorf("%d names", n)
	}
	if err := cert.VerifyHostname(c.Identifier.Value); err != nil {
		return err
	}
	if _, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok {
		return fmt.Errorf("a key of type %T", cert.PublicKey)
	}
	for _, e := range cert.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) {
			continue
		}
		var digest []byte
		if rest, err := asn1.Unmarshal(e.Value, &digest); err != nil || len(rest) > 0 || !e.Critical {
			return fmt.Errorf("extension %x critical %v: %w", e.Value, e.Critical, err)
		}
		if sum := sha256.Sum256([]byte(c.KeyAuth)); string(sum[:]) != string(digest) {
			return errors.New("another digest")
		}
		return nil
	}
	return errors.New("no acmeIdentifier")
}

// validate does what a CA does with a pending challenge for a name.
func validate(r *tlsalpn01.Responder, c challenges.Challenge) error {
	cert, err := handshake(r.Addr(), c.Identifier.Value, "acme-tls/1")
	if err != nil {
		return err
	}
	return check(cert, c)
}

func TestServerName(t *testing.T) {
	for name, want := range map[string]string{
		"example.com":   "example.com",
		"192.0.2.1":     "1.2.0.192.in-addr.arpa",
		"2001:db8::567": "7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	} {
		got, err := tlsalpn01.ServerName(challengeFor(t, name, "").Identifier)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := tlsalpn01.ServerName(certs.Identifier{Type: certs.IP, Value: "evil"}); err == nil {
		t.Error("no error for what is no address")
	}
}

func TestResponderAnswersPendingNames(t *testing.T) {
	r := newResponder(t, tlsalpn01.ResponderConfig{})
	for _, name := range []string{"example.com", "192.0.2.1", "2001:db8::1"} {
		c := challengeFor(t, name, "t-"+name)
		sni, err := tlsalpn01.ServerName(c.Identifier)
		if err != nil {
			t.Fatal(err)
		}
		present(t, r, c)
		cert, err := handshake(r.Addr(), sni, "acme-tls/1")
		if err == nil {
			err = check(cert, c)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		addr := r.Addr()
		cleanUp(t, r, c)
		cleanUp(t, r, c)
		if _, err := handshake(addr, sni, "acme-tls/1"); err == nil || r.Addr() != nil {
			t.Errorf("%s: answered after the clean-up", name)
		}
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

func TestResponderOnBothStacks(t *testing.T) {
	r := newResponder(t, tlsalpn01.ResponderConfig{Addr: ":0"})
	c := challengeFor(t, "example.com", "t")
	present(t, r, c)
	for _, host := range loopbacks(t) {
		cert, err := handshake(at(host, r.Addr()), "example.com", "acme-tls/1")
		if err == nil {
			err = check(cert, c)
		}
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestResponderAnswersNobodyElse(t *testing.T) {
	r := newResponder(t, tlsalpn01.ResponderConfig{})
	present(t, r, challengeFor(t, "example.com", "t"))
	for _, tc := range []struct {
		name, sni string
		protocols []string
	}{
		{"no protocol", "example.com", nil},
		{"a browser", "example.com", []string{"h2", "http/1.1"}},
		{"another name", "www.example.com", []string{"acme-tls/1"}},
		{"no name", "", []string{"acme-tls/1"}},
		{"an address", "127.0.0.1", []string{"acme-tls/1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if cert, err := handshake(r.Addr(), tc.sni, tc.protocols...); err == nil || cert != nil {
				t.Errorf("certificate %v, error %v", cert, err)
			}
		})
	}
	if _, err := handshake(r.Addr(), "EXAMPLE.com", "h2", "acme-tls/1"); err != nil {
		t.Errorf("a name in another case beside another protocol: %v", err)
	}
}

func TestResponderOldTLS(t *testing.T) {
	r := newResponder(t, tlsalpn01.ResponderConfig{})
	present(t, r, challengeFor(t, "example.com", "t"))
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", r.Addr().String(), &tls.Config{
			ServerName: "example.com", NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true,
			MinVersion: version, MaxVersion: version,
		})
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

func TestResponderHeldOpenAndHandedOver(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newResponder(t, tlsalpn01.ResponderConfig{Listener: ln, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	if err := r.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := challengeFor(t, "example.com", "t")
	for range 2 {
		present(t, r, c)
		if _, err := handshake(ln.Addr(), "example.com", "acme-tls/1"); err != nil {
			t.Error(err)
		}
		cleanUp(t, r, c)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Present(t.Context(), c); err == nil {
		t.Error("a closed responder accepts a challenge")
	}
}

func TestResponderNamesTheHolderOfThePort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := newResponder(t, tlsalpn01.ResponderConfig{Addr: ln.Addr().String()})
	var bind *challenges.BindError
	if err := r.Present(t.Context(), challengeFor(t, "example.com", "t")); !errors.As(err, &bind) {
		t.Fatalf("error %v", err)
	}
	if bind.Holder == nil || bind.Holder.PID != os.Getpid() {
		t.Errorf("holder %v", bind.Holder)
	}
}

func TestTwoOrdersForOneNameTakeTurns(t *testing.T) {
	r := newResponder(t, tlsalpn01.ResponderConfig{})
	first, second := challengeFor(t, "example.com", "first"), challengeFor(t, "example.com", "second")
	present(t, r, first)
	present(t, r, first) // a shared authorization
	done := make(chan error, 1)
	go func() { done <- r.Present(t.Context(), second) }()
	for range 2 {
		if err := validate(r, first); err != nil {
			t.Error(err)
		}
		cleanUp(t, r, first)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := validate(r, second); err != nil {
		t.Error(err)
	}
	cleanUp(t, r, second)
	if r.Addr() != nil {
		t.Error("listens after the last order")
	}
}

func TestAnOrderDoesNotWaitForAnotherForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Listener: newIdle()})
		defer r.Close()
		present(t, r, challengeFor(t, "example.com", "first"))
		start := time.Now()
		err := r.Present(t.Context(), challengeFor(t, "example.com", "second"))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "example.com") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("waited %s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Present(ctx, challengeFor(t, "example.com", "second")); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// idle is a listener that nobody connects to.
type idle chan struct{}

func newIdle() idle                      { return make(idle) }
func (i idle) Accept() (net.Conn, error) { <-i; return nil, net.ErrClosed }
func (i idle) Addr() net.Addr            { return &net.TCPAddr{} }
func (i idle) Close() error {
	select {
	case <-i:
	default:
		close(i)
	}
	return nil
}

// poisoned is a listener whose first connection makes the responder panic.
type poisoned struct {
	net.Listener
	once sync.Once
}

type poison struct{ net.Conn }

func (poison) SetDeadline(time.Time) error { panic("lost") }

func (l *poisoned) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.once.Do(func() { conn = poison{conn} })
	return conn, err
}

// TestPanicInAHandshake is logged, and the next client is answered.
func TestPanicInAHandshake(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.ErrorLevel)
	r := newResponder(t, tlsalpn01.ResponderConfig{Listener: &poisoned{Listener: ln}, Log: zap.New(core)})
	c := challengeFor(t, "example.com", "t")
	present(t, r, c)
	defer cleanUp(t, r, c)
	if err := validate(r, c); err == nil {
		t.Error("the first client was answered")
	}
	if err := validate(r, c); err != nil {
		t.Errorf("the next client: %v", err)
	}
	for logs.FilterField(zap.String("where", "challenge responder")).Len() != 1 { // the client may be gone before it is logged
		time.Sleep(time.Millisecond)
	}
}

func TestTwentyCertificatesShareAResponder(t *testing.T) {
	r := newResponder(t, tlsalpn01.ResponderConfig{})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 10 {
				c := challengeFor(t, fmt.Sprintf("n%d.c%d.example.com", j, i), "t")
				if err := r.Present(t.Context(), c); err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(validate(r, c), r.CleanUp(t.Context(), c)); err != nil {
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

func TestHostileClients(t *testing.T) {
	r := newResponder(t, tlsalpn01.ResponderConfig{MaxConns: 32})
	c := challengeFor(t, "example.com", "t")
	present(t, r, c)
	for name, text := range map[string]string{
		"plain HTTP":    "GET /debug/pprof/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"noise":         strings.Repeat("\xff", 100_000),
		"endless hello": "\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("\x00", 200_000),
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, r.Addr())
			go func() { _, _ = io.WriteString(conn, text) }()
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			answer, err := io.ReadAll(conn)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("not cut off")
			}
			if len(answer) > 7 || strings.Contains(string(answer), "HTTP") {
				t.Errorf("answered %q, want an alert at most", answer)
			}
		})
	}
	t.Run("a crowd", func(t *testing.T) {
		for range 500 {
			dial(t, r.Addr())
		}
		if err := validate(r, c); err != nil {
			t.Errorf("with 500 idle connections: %v", err)
		}
	})
	t.Run("stalled", func(t *testing.T) {
		conn := dial(t, r.Addr())
		start := time.Now()
		_, _ = io.WriteString(conn, "\x16\x03\x01")
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
		_, _ = io.ReadAll(conn)
		if took := time.Since(start); took < 4*time.Second || took > time.Minute {
			t.Errorf("cut off after %s", took)
		}
	})
	t.Run("clean-up", func(t *testing.T) {
		conn := dial(t, r.Addr())
		cleanUp(t, r, c)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection outlives the clean-up: %v", err)
		}
	})
}

// TestACrowdElsewhereDoesNotCutOffTheCA: a CA whose handshake is on its way keeps its connection, however many clients of
// another network come meanwhile.
func TestACrowdElsewhereDoesNotCutOffTheCA(t *testing.T) {
	const bound = 64
	r := newResponder(t, tlsalpn01.ResponderConfig{MaxConns: bound})
	c := challengeFor(t, "example.com", "t")
	present(t, r, c)
	conn := dial(t, r.Addr())
	for i := range 10 * bound {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 66, 0, byte(1+i%200))}}
		other, err := d.DialContext(t.Context(), "tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
	}
	if err := validate(r, c); err != nil { // by now all are accepted
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	ca := tls.Client(conn, &tls.Config{ServerName: "example.com", NextProtos: []string{tlsalpn01.Protocol}, InsecureSkipVerify: true})
	if err := ca.HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
}

func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
