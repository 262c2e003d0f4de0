package acmetest_test

import (
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/acmetest"
)

func TestOptionsThatRefuse(t *testing.T) {
	key := "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	for want, option := range map[string]acmetest.Option{
		"rejectedIdentifier":      acmetest.WithBlocklist("example.com"),
		"externalAccountRequired": acmetest.WithEAB(map[string]string{"kid-1": key}),
		"invalidProfile":          acmetest.WithOnlyProfile("other", time.Hour),
	} {
		ca := acmetest.Start(t, option)
		_, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestNonceReject(t *testing.T) {
	var refused atomic.Int64
	ca := acmetest.Start(t, acmetest.WithNonceReject(30), acmetest.WithMiddleware(
		acmetest.At(acmetest.Change(func(r *acmetest.Response) {
			if strings.Contains(string(r.Body), "badNonce") {
				refused.Add(1)
			}
		}))))
	for range 20 {
		if _, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com"); err != nil {
			t.Fatal(err)
		}
		if refused.Load() > 0 {
			return
		}
	}
	t.Error("not one nonce was refused")
}

// Tests count validations, so none may be left out by chance.
func TestNoAuthorizationIsReused(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithAlwaysValid())
	client, err := acmetest.NewBare(ca.Server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	const orders = 200
	for range orders {
		if _, _, err := client.Order(t.Context(), "", "a.example.com"); err != nil {
			t.Fatal(err)
		}
	}
	if n := ca.Requests(acmetest.Challenge); n != orders {
		t.Errorf("%d validations for %d orders", n, orders)
	}
}

func TestAlwaysValid(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithAlwaysValid())
	ca.DNS.AddDNSServFailRecord("a.example.com.")
	if _, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com"); err != nil {
		t.Error(err)
	}
}

func TestValidationSleep(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithValidationSleep(2*time.Second))
	if _, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com", "b.example.com"); err != nil {
		t.Error(err)
	}
}

func TestProfileAndChains(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithProfile("default", 5*time.Minute), acmetest.WithAlternateRoots(2), acmetest.WithChainLength(2))
	pem, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	chain := parse(t, pem)
	if life := chain[0].NotAfter.Sub(chain[0].NotBefore); life > 5*time.Minute {
		t.Errorf("the certificate lives %s, want 5 minutes", life)
	}
	if len(chain) != 3 {
		t.Errorf("%d certificates in the chain, want 3", len(chain))
	}
	verify(t, chain, ca.IssuingRoots(), "127.0.0.1")
	roots := map[string]bool{}
	for i := range 3 {
		roots[string(ca.IssuingRootPEM(i))] = true
	}
	if len(roots) != 3 {
		t.Errorf("%d different issuing roots, want 3", len(roots))
	}
}

func TestRenewalInfoAndRevocation(t *testing.T) {
	ca := acmetest.Start(t)
	pem, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, pem)[0]
	past := time.Now().Add(-time.Hour)
	if err := ca.SetRenewalInfo(leaf, past, past.Add(time.Minute)); err != nil {
		t.Error(err)
	}
	if err := ca.SetRenewalInfoRaw(leaf, "not JSON"); err != nil {
		t.Error(err)
	}
	if revoked, _, err := ca.Revoked(leaf.SerialNumber); revoked || err != nil {
		t.Errorf("revoked %t, %v", revoked, err)
	}
	unknown := parse(t, ca.RootPEM)[0]
	if _, _, err := ca.Revoked(unknown.SerialNumber); err == nil {
		t.Error("the status of an unknown certificate is no error")
	}
	if err := ca.SetRenewalInfoRaw(unknown, ""); err == nil {
		t.Error("renewal information for an unknown certificate is no error")
	}
}

func TestHTTP2(t *testing.T) {
	for _, c := range []struct {
		options []acmetest.Option
		major   int
	}{{nil, 1}, {[]acmetest.Option{acmetest.WithHTTP2()}, 2}} {
		ca := acmetest.Start(t, c.options...)
		transport := &http.Transport{TLSClientConfig: clientTLS(ca.Server), ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, ca.Directory, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.ProtoMajor != c.major {
			t.Errorf("%s, want HTTP/%d", answer.Proto, c.major)
		}
	}
}

func TestNameServer(t *testing.T) {
	names, err := acmetest.NewDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = names.Close() })
	long := strings.Repeat("x", 300)
	names.AddDNSTXTRecord("_acme-challenge.a.example.com.", long)
	names.AddDNSCNAMERecord("_acme-challenge.b.example.com.", "_acme-challenge.a.example.com.")
	names.AddDNSServFailRecord("broken.example.com.")
	names.AddDNSARecord("other.example.com.", []string{"192.0.2.1"})
	cases := []struct {
		name string
		kind uint16
		code int
		want string
	}{
		{"any.example.com.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"other.example.com.", dns.TypeA, dns.RcodeSuccess, "192.0.2.1"},
		{"any.example.com.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"_acme-challenge.a.example.com.", dns.TypeTXT, dns.RcodeSuccess, long[:255]},
		{"_acme-challenge.b.example.com.", dns.TypeTXT, dns.RcodeSuccess, long[:255]},
		{"broken.example.com.", dns.TypeA, dns.RcodeServerFailure, ""},
		{"example.com.", dns.TypeSOA, dns.RcodeSuccess, "hostmaster.example.com."},
		{"a.example.com.", dns.TypeSOA, dns.RcodeSuccess, ""},
		{"example.com.", dns.TypeNS, dns.RcodeSuccess, "ns.example.com."},
	}
	for _, c := range cases {
		for _, network := range []string{"udp", "tcp"} {
			client := &dns.Client{Net: network}
			answer, _, err := client.Exchange(new(dns.Msg).SetQuestion(c.name, c.kind), names.Addr)
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, rr := range answer.Answer {
				text = append(text, rr.String())
			}
			got := strings.Join(text, "\n")
			if answer.Rcode != c.code || !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
				t.Errorf("%s %s over %s: code %d, %q", dns.TypeToString[c.kind], c.name, network, answer.Rcode, got)
			}
		}
	}
}

func TestFreePort(t *testing.T) {
	port := acmetest.FreePort(t)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if port >= 32768 {
		t.Errorf("port %d is in the range of outgoing connections", port)
	}
}
