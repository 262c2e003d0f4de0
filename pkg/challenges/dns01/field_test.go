package dns01

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
)

// A wildcard CNAME is no delegation: the record belongs to the name itself.
func TestWildcardCNAME(t *testing.T) {
	n := startNamed(t, freePort(t),
		zone{"example.com", updatable, oneServer + `
* CNAME elsewhere.example.net.
www A 127.0.0.1
*.deep CNAME elsewhere.example.net.
_acme-challenge.own CNAME own.example.net.
moved DNAME moved.example.net.
`},
		zone{"example.net", updatable, oneServer + "elsewhere A 127.0.0.1\n* CNAME wild.example.com.\n"})
	yes, no := true, false
	for _, tc := range []struct {
		name, at string
		follow   *bool
	}{
		{name: "example.com", at: "_acme-challenge.example.com"},
		{name: "*.example.com", at: "_acme-challenge.example.com"},
		{name: "www.example.com", at: "_acme-challenge.www.example.com"},
		{name: "new.example.com", at: "_acme-challenge.new.example.com"},
		{name: "a.deep.example.com", at: "_acme-challenge.a.deep.example.com"},
		{name: "own.example.com", at: "own.example.net"}, // whose name has a wildcard beside it
		{name: "moved.example.com", at: "_acme-challenge.moved.example.net"},
		{name: "set.example.com", at: "_acme-challenge.set.example.com", follow: &no},
		{name: "all.example.com", at: "elsewhere.example.net", follow: &yes},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := n.config(t)
			c.FollowCNAME = tc.follow
			s := solverFor(t, c, Options{})
			ch := challenge(t, tc.name, "x")
			if err := s.Present(t.Context(), ch); err != nil {
				t.Fatal(err)
			}
			if got := n.txt(tc.at); !slices.Equal(got, []string{value(ch)}) {
				t.Errorf("%s has %q", tc.at, got)
			}
			if err := s.CleanUp(t.Context(), ch); err != nil {
				t.Error(err)
			}
			if got := n.txt(tc.at); len(got) != 0 {
				t.Errorf("%s has %q after the clean-up", tc.at, got)
			}
		})
	}
}

// lame serves no zone but answers with this code.
func lame(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) }
}

// upward answers as a server that lost the zone: with a referral.
func upward(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "a.root-servers.example."}}
	_ = w.WriteMsg(m)
}

// Who says nothing about the zone does not outvote those that have the record.
func TestServersThatSayNothing(t *testing.T) {
	for _, tc := range []struct {
		name, servers string
		second        dns.HandlerFunc // at 127.0.0.2; nil: nobody listens there
		fails         []string
	}{
		{name: "no such name", servers: "@ NS ns1\n@ NS gone.example.net.\nns1 A 127.0.0.1\n"},
		{name: "a name in a dead zone", servers: "@ NS ns1\n@ NS ns.dead.example.net.\nns1 A 127.0.0.1\n"},
		{name: "nobody listens", servers: twoServers},
		{name: "one of two addresses is dead", servers: "@ NS ns1\nns1 A 127.0.0.1\nns1 A 127.0.0.2\n"},
		{name: "no route", servers: "@ NS ns1\n@ NS ns6\nns1 A 127.0.0.1\nns6 AAAA 2001:db8::1\n"},
		{name: "broken IPv6 beside IPv4", servers: "@ NS ns1\nns1 A 127.0.0.1\nns1 AAAA 2001:db8::1\n"},
		{name: "REFUSED", servers: twoServers, second: lame(dns.RcodeRefused)},
		{name: "SERVFAIL", servers: twoServers, second: lame(dns.RcodeServerFailure)},
		{name: "NOTAUTH", servers: twoServers, second: lame(dns.RcodeNotAuth)},
		{name: "referral", servers: twoServers, second: upward},
		{name: "no server answers", servers: "@ NS ns2\nns2 A 127.0.0.2\n",
			fails: []string{"no name server of the zone answers", "ns2.example.com (127.0.0.2:", "propagation: resolvers"}},
		{name: "no server has an address", servers: "@ NS gone.example.net.\n",
			fails: []string{"no name server of the zone answers", "gone.example.net.", "propagation: resolvers"}},
		{name: "an address that leads to this machine without saying so", servers: "@ NS ns2\nns2 A 0.0.0.0\nns2 AAAA ::\nns2 AAAA ::ffff:0.0.0.0\n",
			fails: []string{"name server ns2.example.com. has no address that this host can reach"}},
		{name: "one does not have it", servers: twoServers + "@ NS gone.example.net.\n", second: lame(dns.RcodeNameError),
			fails: []string{"ns2.example.com (127.0.0.2:", "does not have it", "propagation: resolvers"}},
		{name: "one address does not have it", servers: "@ NS ns1\nns1 A 127.0.0.1\nns1 A 127.0.0.2\n", second: lame(dns.RcodeNameError),
			fails: []string{"ns1.example.com (127.0.0.2:", "does not have it"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			port := freePort(t)
			n := startNamed(t, port, zone{"example.com", updatable, tc.servers}, zone{"example.net", "type primary;", "@ NS ns1\nns1 A 127.0.0.1\ndead NS ns.dead\n"})
			if tc.second != nil {
				serveDNS(t, net.JoinHostPort("127.0.0.2", port), tc.second)
			}
			c := n.config(t)
			if tc.fails != nil {
				c.PropagationTimeout = time.Second
			}
			s := solverFor(t, c, Options{})
			s.wait.grace = 50 * time.Millisecond
			ch := challenge(t, "example.com", "x")
			err := s.Present(t.Context(), ch)
			if (err == nil) != (tc.fails == nil) {
				t.Fatal(err)
			}
			for _, want := range tc.fails {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
			if err := s.CleanUp(t.Context(), ch); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server that answers late, within the grace, has a say.
func TestGraceIsForServersThatComeBack(t *testing.T) {
	port := freePort(t)
	n := startNamed(t, port, zone{"example.com", updatable, twoServers})
	asked := 0
	serveDNS(t, net.JoinHostPort("127.0.0.2", port), func(w dns.ResponseWriter, q *dns.Msg) {
		if asked++; asked == 1 {
			lame(dns.RcodeServerFailure)(w, q)
			return
		}
		lame(dns.RcodeNameError)(w, q) // it is back, with an old zone
	})
	c := n.config(t)
	c.PropagationTimeout = 2 * time.Second
	s := solverFor(t, c, Options{})
	s.wait.grace = time.Minute
	if err := s.Present(t.Context(), challenge(t, "example.com", "x")); err == nil || !strings.Contains(err.Error(), "ns2.example.com (") {
		t.Errorf("%v, want that ns2 does not have it", err)
	}
}

// A record that an earlier process left is absent when those that answer do not have it.
func TestAbsentWithASilentServer(t *testing.T) {
	port := freePort(t)
	n := startNamed(t, port, zone{"example.com", updatable, twoServers})
	s := solverFor(t, n.config(t), Options{})
	view, err := s.network()
	if err != nil {
		t.Fatal(err)
	}
	r := recordOf(challenge(t, "example.com", "x"))
	if gone, err := view.absent(t.Context(), r); !gone || err != nil {
		t.Errorf("%v, %v", gone, err)
	}
	n.update("example.com", r.FQDN+` 60 TXT "`+r.Value+`"`)
	if gone, err := view.absent(t.Context(), r); gone || err != nil {
		t.Errorf("%v, %v after it was set", gone, err)
	}
}

// An update that goes to another view of the server than the one that others see.
func TestViewsAreNamed(t *testing.T) {
	n := startNamed(t, freePort(t),
		zone{"example.com", "view inside", oneServer}, zone{"example.com", "view outside", oneServer})
	c := n.config(t)
	c.PropagationTimeout = 300 * time.Millisecond
	s := solverFor(t, c, Options{})
	ch := challenge(t, "example.com", "x")
	err := s.Present(t.Context(), ch)
	for _, want := range []string{"selects another view", c.RFC2136.TSIGKeyFile, "does not have it"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A try changes nothing that stays, and says what the server answers.
func TestTry(t *testing.T) {
	n := startNamed(t, freePort(t), zone{"example.com", updatable, oneServer})
	s := solverFor(t, n.config(t), Options{})
	if err := s.Try(t.Context(), identify(t, "*.example.com")); err != nil {
		t.Error(err)
	}
	c := n.config(t)
	c.RFC2136.TSIGKeyFile = secretFile(t, strings.Replace(testKey, "c3Vw", "d3Vw", 1))
	bad := solverFor(t, c, Options{})
	if err := bad.Try(t.Context(), identify(t, "example.com")); err == nil || !strings.Contains(err.Error(), "BADSIG") {
		t.Errorf("%v, want BADSIG", err)
	}
	if bad.Credential() != c.RFC2136.TSIGKeyFile {
		t.Errorf("the credential is %q", bad.Credential())
	}
	if left := n.txt("_acme-challenge.example.com"); len(left) != 0 {
		t.Errorf("records %q are left", left)
	}
	if left := append(entries(t, s.journal), entries(t, bad.journal)...); len(left) != 0 {
		t.Errorf("journals: %v", left)
	}
}

// A credential that was rejected is asked once, and nothing is removed that was never set.
func TestRejectedCredential(t *testing.T) {
	for text, want := range map[string]bool{
		"cloudflare: failed to find zone example.com.: [status code 403] 10000: Authentication error":          true,
		"digitalocean: [status code: 401] id: unauthorized: Unable to authenticate you":                        true,
		"route53: operation error: https response error StatusCode: 403, RequestID: 1, api error AccessDenied": true,
		"hetzner: invalid API token":                               true,
		"gandiv5: 401 Unauthorized":                                true,
		"github: [status code 403] API rate limit exceeded":        false,
		"x: [status code: 429] too many requests":                  false,
		"x: unexpected status code: [status code: 500] body: boom": false,
		"x: record 401 was not found":                              false,
		"netcup: 403 Forbidden: throttled, slow down":              false,
	} {
		if got := denied(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	w, log := fake(t, "denied", 10*time.Second)
	s := memorySolver(t, &memory{}, 5*time.Second)
	s.provider, s.retries = w, []time.Duration{time.Hour, time.Hour}
	c := challenge(t, "example.com", "x")
	err := s.Present(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "remove the TXT record") {
		t.Errorf("%v", err)
	}
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := entries(t, s.journal); len(got) != 0 {
		t.Errorf("journal: %v", got)
	}
	w.settle()
	if got := strings.Join(log(), " "); got != "denied end" {
		t.Errorf("the worker did %q", got)
	}
}
