package dns01

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// records answers every question with these records, and says that the question was the one that was asked.
func records(t testing.TB, lines ...string) dns.HandlerFunc {
	var answer []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		answer = append(answer, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = answer
		if w.RemoteAddr().Network() == "udp" && m.Len() > dnsquery.UDPSize {
			m.Answer, m.Truncated = nil, true
		}
		_ = w.WriteMsg(m)
	}
}

func hugeTXT(name, last string) []string {
	line := name + " 1 TXT"
	for range 250 {
		line += ` "` + strings.Repeat("x", 250) + `"`
	}
	return []string{line, name + " 1 TXT " + last}
}

func TestAnswersWithUnexpectedRecords(t *testing.T) {
	r := Record{FQDN: "_acme-challenge.example.com.", Value: "the-value"}
	for _, tc := range []struct {
		name  string
		lines []string
		has   bool
		cname string
		fails string // of cname
	}{
		{name: "nothing"},
		{name: "the record", lines: []string{r.FQDN + " 1 TXT the-value"}, has: true},
		{name: "in pieces", lines: []string{r.FQDN + ` 1 TXT "the-" "value"`}, has: true},
		{name: "upper case", lines: []string{"_ACME-Challenge.Example.COM. 1 TXT the-value"}, has: true},
		{name: "beside 62 kB", lines: hugeTXT(r.FQDN, "the-value"), has: true},
		{name: "of another name", lines: []string{"example.org. 1 TXT the-value"}},
		{name: "as another type", lines: []string{r.FQDN + " 1 HINFO the-value the-value", r.FQDN + " 1 SPF the-value", r.FQDN + " 1 A 192.0.2.1"}},
		{name: "alias beside data", lines: []string{r.FQDN + " 1 A 192.0.2.1", r.FQDN + " 1 CNAME Other.Example.NET."}, cname: "other.example.net."},
		{name: "alias of another name", lines: []string{"example.org. 1 CNAME other.example.net."}},
		{name: "alias of the root", lines: []string{r.FQDN + " 1 CNAME ."}, fails: "is no host name"},
		{name: "alias with control characters", lines: []string{r.FQDN + ` 1 CNAME a\010\000b.example.net.`}, fails: "is no host name"},
		{name: "alias with a shell in it", lines: []string{r.FQDN + ` 1 CNAME $(reboot).example.net.`}, fails: "is no host name"},
		{name: "alias of a wildcard", lines: []string{r.FQDN + ` 1 CNAME *.example.net.`}, fails: "is no host name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := "127.0.0.1:" + freePort(t)
			serveDNS(t, addr, records(t, tc.lines...))
			if got := (server{addr: addr}).sees(t.Context(), r); got.has != tc.has || got.err != nil {
				t.Errorf("saw %v, want %v", got, tc.has)
			}
			got, err := resolver{servers: []string{addr}}.cname(t.Context(), r.FQDN)
			if got != tc.cname || (tc.fails == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("alias %q, %v; want %q, %q", got, err, tc.cname, tc.fails)
			}
		})
	}
}

// raw answers every UDP question with the header of an answer and then these bytes.
func raw(t testing.TB, tail []byte, answers byte) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			m := append([]byte(nil), buf[:n]...)
			m[2] |= 0x80                       // an answer
			m[7], m[9], m[11] = answers, 0, 0  // records
			m = append(m[:len(m)-11], tail...) // in place of EDNS
			_, _ = conn.WriteTo(m, from)
		}
	}()
	return conn.LocalAddr().String()
}

func TestHostileMessages(t *testing.T) {
	loop := []byte{0xc0, 45, 0, 16, 0, 1, 0, 0, 0, 1, 0, 1, 0} // a name that points to itself: the question ends at 45
	for name, addr := range map[string]string{
		"compression loop":                    raw(t, loop, 1),
		"cut in the record":                   raw(t, []byte{0xc0, 12, 0, 16, 0, 1, 0, 0}, 1),
		"TXT longer than it is":               raw(t, []byte{0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 'x'}, 1),
		"TXT with a string longer than it is": raw(t, []byte{0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1, 0, 2, 0xff, 'x'}, 1),
		"more records than there are":         raw(t, nil, 255),
	} {
		t.Run(name, func(t *testing.T) {
			got := server{addr: addr}.sees(t.Context(), Record{FQDN: "_acme-challenge.example.com.", Value: "v"})
			if got.has {
				t.Error("a record was seen")
			}
			if _, err := (resolver{servers: []string{addr}}).delegated(t.Context(), "_acme-challenge.example.com.", false); err == nil {
				t.Log("taken as an answer without records")
			}
		})
	}
}

func TestAnswerToAnotherQuestion(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	serveDNS(t, addr, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Question[0].Name = "example.org."
		_ = w.WriteMsg(m)
	})
	if _, err := dnsquery.Ask(t.Context(), addr, dnsquery.Question("example.com.", dns.TypeTXT, true), 0); err == nil || !strings.Contains(err.Error(), "another question") {
		t.Error(err)
	}
}

func TestResolversAreTriedInOrder(t *testing.T) {
	good := "127.0.0.1:" + freePort(t)
	serveDNS(t, good, records(t))
	bad := map[string]dns.HandlerFunc{
		"SERVFAIL": func(w dns.ResponseWriter, q *dns.Msg) {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
		},
		"REFUSED": func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused)) },
	}
	for code, handle := range bad {
		addr := "127.0.0.1:" + freePort(t)
		serveDNS(t, addr, handle)
		if name, err := (resolver{servers: []string{addr, good}}).delegated(t.Context(), "a.example.", false); err != nil || name != "a.example." {
			t.Errorf("%s first: %q, %v", code, name, err)
		}
		if _, err := (resolver{servers: []string{addr}}).delegated(t.Context(), "a.example.", false); err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("%s alone: %v", code, err)
		}
	}
}

func TestSilentServersDoNotOutlastTheDeadline(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0") // never read
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := propagation{kind: Resolvers, resolver: resolver{servers: []string{conn.LocalAddr().String()}}, timeout: 300 * time.Millisecond, interval: time.Second}
	start := time.Now()
	err = p.wait(t.Context(), Record{FQDN: "a.example."})
	if err == nil || !strings.Contains(err.Error(), "was not visible everywhere") || time.Since(start) > time.Minute {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}

func TestPropagationThroughResolvers(t *testing.T) {
	m := &memory{}
	s := memorySolver(t, m, 5*time.Second)
	s.wait.kind, s.wait.port = Resolvers, "1" // where no authoritative server is
	c := challenge(t, "example.com", "x")
	if err := s.Present(t.Context(), c); err != nil {
		t.Error(err)
	}
	if err := s.CleanUp(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestZoneIsTheClosestWithItsOwnSOA(t *testing.T) {
	lookup := func(_ context.Context, name string, _ uint16) (*dns.Msg, error) {
		m := new(dns.Msg)
		soa := map[string]string{"b.example.com.": "b.example.com.", "example.com.": "example.com.", "c.example.com.": "elsewhere.example.net."}[name]
		if soa != "" { // the last as after an alias
			m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: name}}, &dns.SOA{Hdr: dns.RR_Header{Name: soa}}}
		}
		return m, nil
	}
	got := map[string]string{}
	for _, name := range []string{"_acme-challenge.a.b.example.com.", "b.example.com.", "_acme-challenge.c.example.com.", "_acme-challenge.example.org."} {
		zone, err := dnsquery.Zone(t.Context(), name, lookup)
		if err != nil {
			zone = "error"
		}
		got[name] = zone
	}
	want := map[string]string{
		"_acme-challenge.a.b.example.com.": "b.example.com.", "b.example.com.": "b.example.com.",
		"_acme-challenge.c.example.com.": "example.com.", "_acme-challenge.example.org.": "error",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("zones (-want +got):\n%s", diff)
	}
}

// FuzzMessage feeds the wire form of an answer to everything that looks at answers.
func FuzzMessage(f *testing.F) {
	for _, lines := range [][]string{{"a.example. 1 TXT v"}, {"a.example. 1 CNAME b.example."}, {"a.example. 1 SOA n. h. 1 1 1 1 1", "a.example. 1 NS n.example."}} {
		m := new(dns.Msg).SetQuestion("a.example.", dns.TypeTXT)
		for _, line := range lines {
			rr, err := dns.NewRR(line)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		_ = m.Unpack(wire) // the library may return half a message with an error
		texts(m, "a.example.")
		if target, err := aliasIn(m, "a.example."); err == nil && target != "" && !dnsquery.PlainName(target) {
			t.Errorf("alias %q", target)
		}
		for _, rr := range m.Answer {
			addressOf(rr)
		}
		_, _ = dnsquery.Zone(t.Context(), "a.example.", func(context.Context, string, uint16) (*dns.Msg, error) { return m, nil })
	})
}
