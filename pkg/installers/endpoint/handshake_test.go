package endpoint_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

func TestParseEndpoint(t *testing.T) {
	good := map[string]endpoint.Endpoint{
		"example.com:443":                     {Addr: "example.com:443"},
		"127.0.0.1:8443/www.example.com":      {Addr: "127.0.0.1:8443", ServerName: "www.example.com"},
		"[2001:db8::1]:443":                   {Addr: "[2001:db8::1]:443"},
		"smtp://mail.example:25":              {Addr: "mail.example:25", StartTLS: "smtp"},
		"postgres://10.0.0.1:5432/db.example": {Addr: "10.0.0.1:5432", ServerName: "db.example", StartTLS: "postgres"},
	}
	for text, want := range good {
		if got, err := endpoint.Parse(text); err != nil || got != want {
			t.Errorf("%q = %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "example.com", "example.com:", ":443", "example.com:0", "example.com:70000", "example.com:https", "https://example.com:443",
		"a b:443", "-x:443", "example.com:443/", "example.com:443/a/b", "2001:db8::1:443", "example.com:443/\x1b[31m", "ex\nample:1",
	} {
		if got, err := endpoint.Parse(text); err == nil {
			t.Errorf("%q = %+v, want an error", text, got)
		} else if strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%q: the error has control characters", text)
		}
	}
}

// serve starts a server for whatever bundle the pointer holds.
func serve(t *testing.T, b *certs.Bundle) (*installertest.TLSServer, *atomic.Pointer[certs.Bundle]) {
	var now atomic.Pointer[certs.Bundle]
	now.Store(b)
	return installertest.Serve(t, func() ([]tls.Certificate, error) { return installertest.KeyPairs(now.Load()) }), &now
}

func TestHandshakeReturnsTheChain(t *testing.T) {
	b := installertest.Bundle(t, "www.example.com")
	server, _ := serve(t, b)
	chain, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: server.Addr, ServerName: "www.example.com"})
	if err != nil || len(chain) != 2 || !chain[0].Equal(b.Leaf) {
		t.Errorf("Handshake = %d certificates, %v", len(chain), err)
	}
}

func TestHandshakeChoosesTheKeyType(t *testing.T) {
	b := installertest.Dual(t, "www.example.com")
	server, _ := serve(t, b)
	for rsa, want := range map[bool]*certs.Bundle{false: b, true: b.RSA} {
		server.Versions(0, tls.VersionTLS12)
		chain, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: server.Addr, RSA: rsa})
		if err != nil || !chain[0].Equal(want.Leaf) {
			t.Errorf("RSA %v: %v", rsa, err)
		}
	}
}

func TestVerifySaysWhoAnsweredWhat(t *testing.T) {
	old, fresh := installertest.Bundle(t, "old.example"), installertest.Bundle(t, "example.com")
	server, _ := serve(t, old)
	e := endpoint.Endpoint{Addr: server.Addr, ServerName: "example.com"}
	if err := endpoint.Look(t.Context(), []endpoint.Endpoint{e}, old); err != nil {
		t.Error(err)
	}
	err := endpoint.Look(t.Context(), []endpoint.Endpoint{e}, fresh)
	want := server.Addr + " (SNI example.com) serves serial " + old.Serial() + ` from "CN=acmed test intermediate" until ` +
		old.Leaf.NotAfter.UTC().Format(time.RFC3339) + ", expected serial " + fresh.Serial()
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %v", err, want)
	}
}

func TestVerifyWaitsForTheNewCertificate(t *testing.T) {
	old, fresh := installertest.Bundle(t, "example.com"), installertest.Bundle(t, "example.com")
	var looks atomic.Int32
	server := installertest.Serve(t, func() ([]tls.Certificate, error) {
		if looks.Add(1) < 4 {
			return installertest.KeyPairs(old)
		}
		return installertest.KeyPairs(fresh)
	})
	err := endpoint.Verify(t.Context(), []endpoint.Endpoint{{Addr: server.Addr}}, fresh, 30*time.Second)
	if err != nil || looks.Load() < 4 {
		t.Errorf("after %d looks: %v", looks.Load(), err)
	}
}

// A server that accepts and never answers costs no more than the time of the verification, or the second of the last look.
func TestVerifyGivesUpOnSilence(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	b := installertest.Bundle(t, "example.com")
	for _, wait := range []time.Duration{100 * time.Millisecond, 1500 * time.Millisecond} {
		start := time.Now()
		err := endpoint.Verify(t.Context(), []endpoint.Endpoint{{Addr: silent.Addr().String()}}, b, wait)
		if err == nil || !strings.Contains(err.Error(), silent.Addr().String()) {
			t.Errorf("%s: Verify = %v, want an error with the address", wait, err)
		}
		if took := time.Since(start); took < wait || took > wait+time.Minute {
			t.Errorf("%s: took %s", wait, took)
		}
	}
}

func TestVerifyGivesUp(t *testing.T) {
	old, fresh := installertest.Bundle(t, "example.com"), installertest.Bundle(t, "example.com")
	server, _ := serve(t, old)
	endpoints := []endpoint.Endpoint{{Addr: server.Addr}}
	if err := endpoint.Verify(t.Context(), endpoints, fresh, 60*time.Millisecond); err == nil || !strings.Contains(err.Error(), "expected serial") {
		t.Errorf("Verify = %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 60*time.Millisecond, errors.New("shutting down"))
	defer cancel()
	if err := endpoint.Verify(ctx, endpoints, fresh, time.Hour); err == nil || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("Verify = %v", err)
	}
}

func TestVerifyLooksAtEveryEndpoint(t *testing.T) {
	old, fresh := installertest.Bundle(t, "example.com"), installertest.Bundle(t, "example.com")
	stale, _ := serve(t, old)
	good, _ := serve(t, fresh)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	_, port, _ := net.SplitHostPort(stale.Addr)
	err = endpoint.Look(t.Context(), []endpoint.Endpoint{
		{Addr: good.Addr}, {Addr: net.JoinHostPort("localhost", port)}, {Addr: closed.Addr().String()}, {Addr: "nowhere.invalid:443"},
	}, fresh)
	if err == nil {
		t.Fatal("Verify = nil")
	}
	for _, part := range []string{"127.0.0.1:" + port + " (SNI localhost) serves", "connection refused", "nowhere.invalid"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if strings.Contains(err.Error(), good.Addr) {
		t.Errorf("the good endpoint is in %q", err)
	}
}

// resolve makes every name stand for the addresses, until the test ends.
func resolve(t *testing.T, addresses ...string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, address := range addresses {
			if q.Question[0].Qtype == dns.TypeA {
				header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}
				m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.ParseIP(address)})
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	usual := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = usual; conn.Close() })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// TestVerifyLooksAtEveryAddress: a name with three addresses is served when all three serve the certificate.
func TestVerifyLooksAtEveryAddress(t *testing.T) {
	resolve(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	old, fresh := installertest.Bundle(t, "example.com"), installertest.Bundle(t, "example.com")
	good, _ := serve(t, fresh)
	_, port, _ := net.SplitHostPort(good.Addr)
	var last atomic.Pointer[certs.Bundle]
	last.Store(old)
	for address, b := range map[string]func() *certs.Bundle{"127.0.0.2": func() *certs.Bundle { return fresh }, "127.0.0.3": last.Load} {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
		if err != nil {
			t.Skipf("no second address with this port: %v", err)
		}
		defer listener.Close()
		go answer(listener, b)
	}
	endpoints := []endpoint.Endpoint{{Addr: net.JoinHostPort("farm.example", port)}}
	err := endpoint.Look(t.Context(), endpoints, fresh)
	if want := "127.0.0.3:" + port + " (SNI farm.example) serves serial " + old.Serial(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("with a stale address: %v", err)
	}
	last.Store(fresh)
	if err := endpoint.Look(t.Context(), endpoints, fresh); err != nil {
		t.Error(err)
	}
}

// answer serves whatever bundle b returns until the listener is closed.
func answer(listener net.Listener, b func() *certs.Bundle) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if pairs, err := installertest.KeyPairs(b()); err == nil {
				server := tls.Server(conn, &tls.Config{Certificates: pairs})
				if server.Handshake() == nil {
					_, _ = io.Copy(io.Discard, server)
				}
			}
		}()
	}
}

func TestVerifyDualUnit(t *testing.T) {
	b := installertest.Dual(t, "example.com")
	half := *b
	half.RSA = nil
	otherTwin := *b
	otherTwin.RSA = installertest.Dual(t, "example.com").RSA
	server, now := serve(t, b)
	verify := func() error {
		return endpoint.Look(t.Context(), []endpoint.Endpoint{{Addr: server.Addr}}, b)
	}
	if err := verify(); err != nil {
		t.Errorf("both served: %v", err)
	}
	now.Store(&half)
	if err := verify(); err == nil {
		t.Error("the RSA twin is missing, and nobody noticed")
	}
	now.Store(&otherTwin)
	if err := verify(); err == nil || !strings.Contains(err.Error(), "expected serial "+b.RSA.Serial()) {
		t.Errorf("another twin: %v", err)
	}
	server.Versions(tls.VersionTLS13, 0)
	if err := verify(); err != nil {
		t.Errorf("TLS 1.3 only: %v", err)
	}
	now.Store(installertest.Bundle(t, "example.com"))
	if err := verify(); err == nil || !strings.Contains(err.Error(), " or ") {
		t.Errorf("TLS 1.3 only, another certificate: %v", err)
	}
}

func TestHandshakeWithSilence(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, protocol := range append(endpoint.StartTLSProtocols(), "") {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		begun := time.Now()
		_, err := endpoint.Handshake(ctx, endpoint.Endpoint{Addr: silent.Addr().String(), StartTLS: protocol})
		cancel()
		if err == nil || time.Since(begun) > time.Minute {
			t.Errorf("%q: %v after %v", protocol, err, time.Since(begun))
		}
	}
}

// TestHandshakeOfMutualTLS: a server that requires a client certificate shows its own before it refuses.
func TestHandshakeOfMutualTLS(t *testing.T) {
	b := installertest.Bundle(t, "www.example.com")
	pairs, err := installertest.KeyPairs(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: pairs, ClientAuth: tls.RequireAnyClientCert, MinVersion: version, MaxVersion: version,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(io.Discard, conn)
					conn.Close()
				}()
			}
		}()
		e := endpoint.Endpoint{Addr: l.Addr().String(), ServerName: "www.example.com"}
		if err := endpoint.Verify(t.Context(), []endpoint.Endpoint{e}, b, time.Second); err != nil {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		other := installertest.Bundle(t, "www.example.com")
		if err := endpoint.Look(t.Context(), []endpoint.Endpoint{e}, other); err == nil || !strings.Contains(err.Error(), "serves serial") {
			t.Errorf("%s: another certificate counts as served: %v", tls.VersionName(version), err)
		}
		if p := endpoint.Protocols(t.Context(), e); len(p) != 1 || p[0] != version {
			t.Errorf("the protocols are %v", p)
		}
	}
}
