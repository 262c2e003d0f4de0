package preflight_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/preflight"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zone is a DNS server with fixed answers.
type zone struct {
	records []string
	bogus   string // this name fails unless checking is disabled
	broken  string // this name always fails
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name, rcode := q.Question[0].Name, dns.RcodeNameError
	for hops := 0; hops < 5; hops++ {
		alias := ""
		for _, text := range z.records {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			if rr.Header().Name != name {
				continue
			}
			rcode = dns.RcodeSuccess
			if cname, ok := rr.(*dns.CNAME); ok {
				alias = cname.Target
			}
			if alias != "" || rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if alias == "" {
			break
		}
		name = alias
	}
	m.Rcode = rcode
	if name == z.broken || name == z.bogus && !q.CheckingDisabled {
		m.Rcode, m.Answer = dns.RcodeServerFailure, nil
	}
	if len(m.Answer) > 20 && w.LocalAddr().Network() == "udp" {
		m.Truncated, m.Answer = true, nil
	}
	_ = w.WriteMsg(m)
}

func serveDNS(t *testing.T, z *zone) (addr string) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: tcp, Handler: z}, {PacketConn: udp, Handler: z}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return tcp.Addr().String()
}

func run(t *testing.T, cfg preflight.Config, name string) *preflight.Report {
	t.Helper()
	id, _, err := certs.ParseIdentifier(name)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	r := preflight.Run(t.Context(), cfg, id)
	t.Logf("%s: %s, problems %q", name, r.Class, r.Problems)
	return r
}

// site is one machine: DNS for example.com, and both responders on free ports.
func site(t *testing.T) (preflight.Config, *http01.Responder, *tlsalpn01.Responder) {
	t.Helper()
	cfg := preflight.Config{
		Resolver: serveDNS(t, &zone{records: []string{"example.com. A 127.0.0.1", "other.example. A 127.0.0.1"}}),
		HTTPPort: acmetest.FreePort(t), TLSPort: acmetest.FreePort(t),
	}
	h := http01.NewResponder(http01.ResponderConfig{Addr: local(cfg.HTTPPort)})
	a := tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: local(cfg.TLSPort)})
	t.Cleanup(func() { _, _ = h.Close(), a.Close() })
	cfg.HTTP, cfg.TLSALPN = h, a
	return cfg, h, a
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// front runs a web server at a fixed port.
func front(t *testing.T, port int, secure bool, h http.Handler) {
	t.Helper()
	ln, err := net.Listen("tcp", local(port))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	_ = srv.Listener.Close()
	srv.Listener = ln
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		srv.TLS = &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
}

func TestDirect(t *testing.T) {
	cfg, h, a := site(t)
	for _, name := range []string{"example.com", "127.0.0.1"} {
		r := run(t, cfg, name)
		if r.Class != preflight.Direct || len(r.Problems) > 0 || len(r.Avoid) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if h.Addr() != nil || a.Addr() != nil {
		t.Error("the responders still listen")
	}
}

func TestBehindAProxyThatPassesHTTP(t *testing.T) {
	cfg, _, _ := site(t)
	inner := acmetest.FreePort(t)
	cfg.HTTP = http01.NewResponder(http01.ResponderConfig{Addr: local(inner)})
	target, err := url.Parse("http://" + local(inner))
	if err != nil {
		t.Fatal(err)
	}
	cdn := proxyTo(target)
	front(t, cfg.HTTPPort, false, cdn)
	front(t, cfg.TLSPort, true, cdn)
	r := run(t, cfg, "example.com")
	if r.Class != preflight.HTTPPasses || r.Proxy != "Imperva" {
		t.Errorf("class %s, proxy %q", r.Class, r.Proxy)
	}
	if diff := cmp.Diff([]challenges.Type{challenges.HTTP01, challenges.DNS01}, r.Prefer); diff != "" {
		t.Error(diff)
	}
	got := r.Addresses[0].TLS
	if got.Outcome != preflight.Other || len(got.Names) == 0 || got.Error == "" {
		t.Errorf("TLS %+v", got)
	}
	if len(r.Local) != 1 || r.Local[0].Holder == nil || r.Local[0].Holder.PID != os.Getpid() {
		t.Errorf("the holder of the TLS port: %+v", r.Local)
	}
}

func proxyTo(target *url.URL) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := httptest.NewRequestWithContext(r.Context(), r.Method, target.JoinPath(r.URL.Path).String(), nil)
		out.Host = "rewritten.example"
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(out)
		w.Header().Set("X-Iinfo", "1-23-45")
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})
}

func TestTLSTerminatedInFront(t *testing.T) {
	cfg, _, _ := site(t)
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cf-Ray", "1")
		if r.TLS == nil {
			http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
			return
		}
		_, _ = io.WriteString(w, "welcome")
	})
	front(t, cfg.HTTPPort, false, page)
	front(t, cfg.TLSPort, true, page)
	r := run(t, cfg, "example.com")
	if r.Class != preflight.Terminated || r.Proxy != "Cloudflare" || len(r.Local) != 2 {
		t.Errorf("%+v", r)
	}
	h := r.Addresses[0].HTTP
	if h.Outcome != preflight.Other || h.Status != 200 || len(h.Redirects) != 1 || !strings.HasPrefix(h.Redirects[0], "https://example.com/.well-known/") {
		t.Errorf("HTTP %+v", h)
	}
	if diff := cmp.Diff([]challenges.Type{challenges.DNS01}, r.Prefer); diff != "" {
		t.Error(diff)
	}
}

func TestRedirects(t *testing.T) {
	for _, tc := range []struct {
		name, to string // %s: the path
		outcome  preflight.Outcome
		words    string
	}{
		{"to another host of ours", "http://other.example%s?a=b", preflight.Ours, ""},
		{"in circles", "http://example.com/again%s", preflight.Other, "too many redirects"},
		{"to another port", "http://example.com:8080%s", preflight.Other, "port 8080"},
		{"to another scheme", "ftp://example.com%s", preflight.Other, `scheme "ftp"`},
		{"to a host that is not there", "http://gone.example%s", preflight.Other, "NXDOMAIN"},
		{"to this machine by no address", "http://0.0.0.0%s", preflight.Other, "an address that is not public"},
		{"to this machine by no address of IPv6", "http://[::]%s", preflight.Other, "an address that is not public"},
		{"to this machine by a mapped address", "http://[::ffff:0.0.0.0]%s", preflight.Other, "an address that is not public"},
		{"to the metadata of a cloud", "http://169.254.169.254%s", preflight.Other, "an address that is not public"},
		{"to a closed port", "https://example.com%s", preflight.Other, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, h, _ := site(t)
			front(t, cfg.HTTPPort, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Host == "other.example" {
					h.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Location", fmt.Sprintf(tc.to, r.URL.Path))
				w.WriteHeader(http.StatusFound)
			}))
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			inner := http01.NewResponder(http01.ResponderConfig{Listener: ln})
			defer inner.Close()
			cfg.HTTP, cfg.TLSALPN, h = inner, nil, inner
			r := run(t, cfg, "example.com")
			got := r.Addresses[0].HTTP
			if got.Outcome != tc.outcome || !strings.Contains(got.Error, tc.words) || len(got.Redirects) == 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	cfg, _, _ := site(t)
	cfg.HTTP, cfg.TLSALPN = http01.Stateless{}, stateless{}
	r := run(t, cfg, "example.com")
	if r.Class != preflight.Unreachable || r.Addresses[0].HTTP.Outcome != preflight.Closed || r.Addresses[0].TLS.Outcome != preflight.Closed {
		t.Errorf("%+v", r)
	}
	// Somebody accepts and says nothing.
	for _, port := range []int{cfg.HTTPPort, cfg.TLSPort} {
		ln, err := net.Listen("tcp", local(port))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	cfg.Timeout = 300 * time.Millisecond
	r = run(t, cfg, "example.com")
	if r.Class != preflight.Unreachable || r.Addresses[0].HTTP.Outcome != preflight.Timeout || r.Addresses[0].TLS.Outcome != preflight.Timeout {
		t.Errorf("%+v", r)
	}
}

// stateless is a tls-alpn-01 solver that leaves the answer to others.
type stateless struct{ http01.Stateless }

func (stateless) Type() challenges.Type { return challenges.TLSALPN01 }

func TestAProxyThatAnswersByItself(t *testing.T) {
	cfg, _, _ := site(t)
	cfg.HTTP, cfg.TLSALPN, cfg.Thumbprint = http01.Stateless{}, nil, "thumbprint"
	front(t, cfg.HTTPPort, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintln(w, strings.TrimPrefix(r.URL.Path, http01.PathPrefix)+".thumbprint")
	}))
	if r := run(t, cfg, "example.com"); r.Class != preflight.Direct {
		t.Errorf("%+v", r)
	}
}

func TestAServerThatShouts(t *testing.T) {
	cfg, _, _ := site(t)
	cfg.HTTP, cfg.TLSALPN = http01.Stateless{}, nil
	front(t, cfg.HTTPPort, false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", strings.Repeat("evil\x1b", 1000))
		for range 1000 {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}))
	r := run(t, cfg, "example.com")
	if got := r.Addresses[0].HTTP; got.Outcome != preflight.Other || len(got.Server) > 100 || strings.Contains(got.Server, "\x1b") {
		t.Errorf("%+v", got)
	}
}

func TestDNS(t *testing.T) {
	z := &zone{bogus: "bogus.example.", broken: "broken.example.", records: []string{
		"bogus.example. A 192.0.2.1", "broken.example. A 192.0.2.1",
		"alias.example. CNAME target.example.", "target.example. A 192.0.2.1", "target.example. AAAA 2001:db8::1",
		"mail.example. MX 1 mx.example.",
		`example.org. CAA 0 issue "ca.example"`, `deep.example.org. CAA 0 issue ";"`, "a.b.example.org. A 192.0.2.1", "x.deep.example.org. A 192.0.2.1",
	}}
	for i := range 30 {
		z.records = append(z.records, fmt.Sprintf("many.example. A 192.0.2.%d", i))
	}
	cfg := preflight.Config{Resolver: serveDNS(t, z), CAAIdentities: []string{"ca.example"}}

	r := run(t, cfg, "alias.example")
	if diff := cmp.Diff([]string{"target.example"}, r.DNS.CNAME); diff != "" || len(r.Addresses) != 2 || r.Class != preflight.Unprobed {
		t.Errorf("%s, %+v", diff, r)
	}
	if r := run(t, cfg, "many.example"); len(r.Addresses) != 16 {
		t.Errorf("%d addresses", len(r.Addresses))
	}
	if r := run(t, cfg, "bogus.example"); !r.DNS.Bogus || !r.Blocked {
		t.Errorf("%+v", r)
	}
	for name, words := range map[string]string{
		"broken.example": "SERVFAIL", "gone.example": "NXDOMAIN", "mail.example": "no address",
	} {
		if r := run(t, cfg, name); !strings.Contains(r.DNS.Error, words) || len(r.Problems) == 0 || r.DNS.Bogus {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := run(t, cfg, "a.b.example.org"); r.DNS.Zone != "example.org" || len(r.DNS.CAA) != 1 || r.Blocked {
		t.Errorf("%+v", r)
	}
	if r := run(t, cfg, "x.deep.example.org"); r.DNS.Zone != "deep.example.org" || !r.Blocked {
		t.Errorf("%+v", r)
	}
	if r := run(t, cfg, "*.example.org"); r.DNS.Zone != "example.org" || r.Class != preflight.Unprobed || r.Blocked {
		t.Errorf("%+v", r)
	}
	start := time.Now()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r = run(t, preflight.Config{Resolver: silent.LocalAddr().String(), Timeout: 200 * time.Millisecond}, "example.com")
	if !r.DNS.Silent || r.Advice() != advice.ResolverSilent || !strings.Contains(r.DNS.Error, "(probe.resolver) does not answer") || time.Since(start) > time.Minute {
		t.Errorf("%+v after %s", r, time.Since(start))
	}
}

func TestTheJSONFormIsStable(t *testing.T) {
	cfg, _, _ := site(t)
	cfg.TLSALPN = nil
	text, err := json.Marshal(run(t, cfg, "example.com"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"identifier":"example.com","dns":{},"addresses":[{"address":"127.0.0.1","http":{"outcome":"ours","status":200},"tls":{}}],` +
		`"class":"direct","prefer":["http-01","dns-01"]}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}

func TestCheckCAA(t *testing.T) {
	resolver := serveDNS(t, &zone{records: []string{
		`example.org. CAA 0 issue "first.example"`, `deep.example.org. CAA 0 issue ";"`, "a.b.example.org. A 192.0.2.1",
		`example.net. CAA 0 issue "first.example"`, `example.net. CAA 0 issuewild "second.example; validationmethods=dns-01"`,
	}})
	cas := map[string][]string{"one": {"first.example"}, "two": {"second.example", "alias.example"}, "unknown": nil}
	for name, want := range map[string][]string{
		"a.b.example.org":    {`the CAA records of example.org forbid two to issue for a.b.example.org; add: example.org. CAA 0 issue "second.example"`},
		"x.deep.example.org": {`of deep.example.org forbid one to`, `of deep.example.org forbid two to`},
		"www.example.com":    nil,
		"*.example.net":      {`of example.net forbid one to issue for *.example.net`},
	} {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		got := preflight.CheckCAA(t.Context(), resolver, time.Second, []certs.Identifier{id}, cas)
		if len(got) != len(want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: %q does not say %q", name, got[i], want[i])
			}
		}
	}
}
