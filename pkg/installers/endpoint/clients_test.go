package endpoint_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// switchable is a TLS server whose settings can be exchanged.
type switchable struct {
	endpoint.Endpoint
	config atomic.Pointer[tls.Config]
}

func newSwitchable(t *testing.T, name string) *switchable {
	t.Helper()
	s := &switchable{}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.config.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.(*tls.Conn).Handshake()
				_, _ = conn.Read(make([]byte, 1))
			}()
		}
	}()
	s.Endpoint = endpoint.Endpoint{Addr: l.Addr().(*net.TCPAddr).String(), ServerName: name}
	return s
}

// serve shows the leaf, to clients of the versions, with the suites of RSA keys alone where rsaOnly says so.
func (s *switchable) serve(t *testing.T, b *certs.Bundle, first, last uint16, rsaOnly bool) {
	t.Helper()
	pairs := []*certs.Bundle{b}
	if b.RSA != nil {
		pairs = append(pairs, b.RSA)
	}
	config := &tls.Config{MinVersion: first, MaxVersion: last, CipherSuites: suites("_ECDHE_")}
	if rsaOnly {
		config.CipherSuites = suites("_ECDHE_RSA_")
	}
	for _, one := range pairs {
		pair, err := tls.X509KeyPair(one.FullChainPEM(), one.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	s.config.Store(config)
}

// suites are those with a part in their name.
func suites(part string) []uint16 {
	var list []uint16
	for _, s := range tls.CipherSuites() {
		if strings.Contains(s.Name, part) {
			list = append(list, s.ID)
		}
	}
	return list
}

func nothingSame(*x509.Certificate) bool { return false }

func TestAskAllAndLost(t *testing.T) {
	s := newSwitchable(t, "a.example")
	dual := installertest.Dual(t, "a.example")
	rsaAlone := dual.RSA
	for _, tt := range []struct {
		name         string
		before       func()
		after        func()
		bundle       *certs.Bundle
		min          uint16
		lost, remedy bool
	}{
		{
			"an RSA-only list and an ECDSA key", func() { s.serve(t, rsaAlone, tls.VersionTLS12, tls.VersionTLS13, true) },
			func() { s.serve(t, withoutTwin(dual), tls.VersionTLS12, tls.VersionTLS13, true) }, withoutTwin(dual), 0, true, true,
		},
		{
			"the same with TLS 1.2 alone", func() { s.serve(t, rsaAlone, tls.VersionTLS12, tls.VersionTLS12, true) },
			func() { s.serve(t, withoutTwin(dual), tls.VersionTLS12, tls.VersionTLS12, true) }, withoutTwin(dual), 0, true, true,
		},
		{
			"a dual unit keeps both families", func() { s.serve(t, dual, tls.VersionTLS12, tls.VersionTLS13, false) },
			func() { s.serve(t, dual, tls.VersionTLS12, tls.VersionTLS13, false) }, dual, 0, false, false,
		},
		{
			"a dual unit whose twin is not served", func() { s.serve(t, dual, tls.VersionTLS12, tls.VersionTLS13, false) },
			func() { s.serve(t, withoutTwin(dual), tls.VersionTLS12, tls.VersionTLS13, false) }, dual, 0, true, true,
		},
		{
			"another family, as it was asked for", func() { s.serve(t, rsaAlone, tls.VersionTLS12, tls.VersionTLS13, false) },
			func() { s.serve(t, withoutTwin(dual), tls.VersionTLS12, tls.VersionTLS13, false) }, withoutTwin(dual), 0, false, false,
		},
		{
			"TLS 1.3 went", func() { s.serve(t, dual, tls.VersionTLS12, tls.VersionTLS13, false) },
			func() { s.serve(t, dual, tls.VersionTLS12, tls.VersionTLS12, false) }, dual, 0, true, true,
		},
		{
			"TLS 1.0 went, as it was asked for", func() { s.serve(t, dual, tls.VersionTLS10, tls.VersionTLS13, false) },
			func() { s.serve(t, dual, tls.VersionTLS12, tls.VersionTLS13, false) }, dual, tls.VersionTLS12, false, false,
		},
		{
			"another name had no clients", func() { s.serve(t, installertest.Bundle(t, "b.example"), tls.VersionTLS12, tls.VersionTLS13, false) },
			func() { s.serve(t, dual, tls.VersionTLS13, tls.VersionTLS13, false) }, dual, 0, false, false,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.before()
			before := endpoint.AskAll(t.Context(), []endpoint.Endpoint{s.Endpoint}, nothingSame)
			tt.after()
			err := before.Lost(t.Context(), tt.bundle, tt.min)
			var locked *endpoint.LockedOutError
			if errors.As(err, &locked) != tt.lost || tt.remedy && !strings.Contains(err.Error(), "key_type") {
				t.Errorf("Lost = %v", err)
			}
			if tt.lost && advice.Of(err) != advice.ClientsLockedOut {
				t.Errorf("the code is %q", advice.Of(err))
			}
		})
	}
}

func withoutTwin(b *certs.Bundle) *certs.Bundle {
	alone := *b
	alone.RSA = nil
	return &alone
}

// TestVerifyEndsEarly has a server that refuses every handshake after the change. Nothing waits for the hour that it would
// be given otherwise, unless the address had no clients before.
func TestVerifyEndsEarly(t *testing.T) {
	s := newSwitchable(t, "a.example")
	dual := installertest.Dual(t, "a.example")
	s.serve(t, dual.RSA, tls.VersionTLS12, tls.VersionTLS12, true)
	before := endpoint.AskAll(t.Context(), []endpoint.Endpoint{s.Endpoint}, nothingSame)
	want := []endpoint.Client{{Version: tls.VersionTLS12}, {Version: tls.VersionTLS12, Family: endpoint.RSA}}
	if got := before.Clients(s.Endpoint); !slices.Equal(got, want) {
		t.Fatalf("clients before: %v", got)
	}
	alone := withoutTwin(dual)
	s.serve(t, alone, tls.VersionTLS12, tls.VersionTLS12, true)
	err := before.Verify(t.Context(), []endpoint.Endpoint{s.Endpoint}, alone, time.Hour)
	if locked := (*endpoint.LockedOutError)(nil); !errors.As(err, &locked) || !strings.Contains(err.Error(), endpoint.Remedy) {
		t.Errorf("Verify = %v", err)
	}
}

func TestRefused(t *testing.T) {
	s := newSwitchable(t, "a.example")
	dual := installertest.Dual(t, "a.example")
	s.serve(t, dual, tls.VersionTLS13, tls.VersionTLS13, false)
	if _, err := (endpoint.Client{Version: tls.VersionTLS12}).Ask(t.Context(), s.Endpoint); !endpoint.Refused(err) {
		t.Errorf("an alert is not seen as such: %v", err)
	}
	if _, err := (endpoint.Client{Version: tls.VersionTLS12}).Ask(t.Context(), endpoint.Endpoint{Addr: "127.0.0.1:1"}); err == nil || endpoint.Refused(err) {
		t.Errorf("a closed port is %v", err)
	}
}
