package dns01

import (
	"crypto"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/certs"
)

// signedZone answers for example.com with signatures, as its name servers and as the resolver.
type signedZone struct {
	t        testing.TB
	key      *dns.DNSKEY
	private  crypto.Signer
	ds       *dns.DS
	records  []string // of TLSA at _25._tcp.mx.example.com.
	from, to time.Time
	forge    func(*dns.TLSA)
	bare     bool // answers without signatures
	naive    bool // as a resolver it does not validate
}

func newSignedZone(t testing.TB, records ...string) *signedZone {
	t.Helper()
	z := &signedZone{t: t, records: records, from: time.Now().Add(-time.Hour), to: time.Now().Add(time.Hour)}
	z.key = &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := z.key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	z.private, z.ds = private.(crypto.Signer), z.key.ToDS(dns.SHA256)
	return z
}

func (z *signedZone) sign(set []dns.RR) []dns.RR {
	if z.bare || len(set) == 0 {
		return set
	}
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: 60}, Algorithm: z.key.Algorithm, KeyTag: z.key.KeyTag(), SignerName: "example.com.",
		Inception: uint32(z.from.Unix()), Expiration: uint32(z.to.Unix()),
	}
	if err := sig.Sign(z.private, set); err != nil {
		z.t.Error(err)
	}
	return append(set, sig)
}

func (z *signedZone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	rr := func(text string) dns.RR {
		rr, err := dns.NewRR(text)
		if err != nil {
			z.t.Error(err)
		}
		return rr
	}
	switch name := q.Question[0].Name; q.Question[0].Qtype {
	case dns.TypeSOA:
		if name == "example.com." {
			m.Answer = []dns.RR{rr("example.com. 1 SOA ns1 h. 1 1 1 1 1")}
		}
	case dns.TypeNS:
		m.Answer = []dns.RR{rr("example.com. 1 NS ns1.example.com."), rr("example.com. 1 NS ns2.example.com.")}
	case dns.TypeA:
		m.Answer = []dns.RR{rr(name + " 1 A 127.0.0." + map[string]string{"ns1.example.com.": "1", "ns2.example.com.": "2"}[name])}
	case dns.TypeDS:
		if z.ds != nil {
			m.Answer, m.AuthenticatedData = []dns.RR{z.ds}, !z.naive
		}
	case dns.TypeDNSKEY:
		m.Answer = z.sign([]dns.RR{z.key})
	case dns.TypeTLSA:
		for _, data := range z.records {
			m.Answer = append(m.Answer, rr(name+" 300 TLSA "+data))
		}
		m.Answer = z.sign(m.Answer)
		if z.forge != nil {
			z.forge(m.Answer[0].(*dns.TLSA))
		}
	}
	_ = w.WriteMsg(m)
}

// TestLookTLSA: what counts is what all name servers that answer have, signed with a key that the parent knows.
func TestLookTLSA(t *testing.T) {
	one, two := strings.Repeat("aa", 32), strings.Repeat("bb", 32)
	for name, test := range map[string]struct {
		first  func(*signedZone) // which the resolver asks as well
		second func(*signedZone) // nil: nobody listens there
		sees   []string
		fails  string
	}{
		"both have both":          {second: func(*signedZone) {}, sees: []string{one, two}},
		"the second lags":         {second: func(z *signedZone) { z.records = z.records[:1] }, sees: []string{one}},
		"the second has nothing":  {second: func(z *signedZone) { z.records = nil }},
		"the second is down":      {sees: []string{one, two}},
		"another kind of record":  {first: func(z *signedZone) { z.records = append(z.records, "3 0 1 "+one, "2 1 2 "+one+one) }, sees: []string{one, two}},
		"no DS at the parent":     {first: func(z *signedZone) { z.ds = nil }, fails: "not signed (DNSSEC): its parent has no DS record"},
		"a resolver without AD":   {first: func(z *signedZone) { z.naive = true }, fails: "does not validate DNSSEC, or has no trust anchor above example.com. (no AD bit); set resolvers"},
		"the DS of another key":   {first: func(z *signedZone) { z.ds.Digest = one }, fails: "no DNSKEY record of example.com. is one that a DS record of the parent names"},
		"no signatures":           {first: func(z *signedZone) { z.bare = true }, fails: "nothing signed them"},
		"signatures that ended":   {first: func(z *signedZone) { z.to = time.Now().Add(-time.Minute) }, fails: "not valid at this time"},
		"a forged record":         {first: func(z *signedZone) { z.forge = func(r *dns.TLSA) { r.Certificate = two } }, fails: "bad signature"},
		"one server is not right": {second: func(z *signedZone) { z.bare = true }, fails: "(127.0.0.2:"},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			z := newSignedZone(t, "3 1 1 "+one, "3 1 1 "+two)
			other := *z
			if test.first != nil {
				test.first(z)
			}
			serveDNS(t, net.JoinHostPort("127.0.0.1", port), z.ServeDNS)
			if test.second != nil {
				test.second(&other)
				serveDNS(t, net.JoinHostPort("127.0.0.2", port), other.ServeDNS)
			}
			n := &named{addr: "127.0.0.1:" + port, port: port}
			s := solverFor(t, n.config(t), Options{})
			got, ttl, err := s.LookTLSA(t.Context(), "_25._tcp.mx.example.com.")
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("%v, %v; want %q", got, err, test.fails)
				}
				return
			}
			if err != nil || len(got) != len(test.sees) {
				t.Fatalf("%v, %v; want %q", got, err, test.sees)
			}
			for i, digest := range test.sees {
				if want := (certs.TLSA{Name: "_25._tcp.mx.example.com.", Usage: 3, Digest: digest}); got[i] != want {
					t.Errorf("%s, want %s", got[i], want)
				}
			}
			if len(got) > 0 && ttl != 300*time.Second {
				t.Errorf("the records live %s", ttl)
			}
		})
	}
}

// TestTLSAByHand: where acmed cannot write, the error is what the operator has to do, and ends when it is done.
func TestTLSAByHand(t *testing.T) {
	port := freePort(t)
	z := newSignedZone(t, "3 1 1 "+strings.Repeat("aa", 32))
	serveDNS(t, net.JoinHostPort("127.0.0.1", port), z.ServeDNS)
	n := &named{addr: "127.0.0.1:" + port, port: port}
	s := solverFor(t, n.config(t), Options{})
	s.provider = &memory{}
	there := certs.TLSA{Name: "_25._tcp.mx.example.com.", Usage: 3, Digest: strings.Repeat("aa", 32)}
	gone := certs.TLSA{Name: there.Name, Usage: 3, Digest: strings.Repeat("bb", 32)}
	if err := s.AddTLSA(t.Context(), gone, time.Hour); err == nil || !strings.Contains(err.Error(), "publish the record "+gone.Name+" TLSA 3 1 1 bbbb") {
		t.Error(err)
	}
	if err := s.RemoveTLSA(t.Context(), there); err == nil || !strings.Contains(err.Error(), "remove the record "+there.Name+" TLSA 3 1 1 aaaa") {
		t.Error(err)
	}
	if err := s.RemoveTLSA(t.Context(), gone); err != nil {
		t.Error(err)
	}
}
