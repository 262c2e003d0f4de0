package acmetest

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"github.com/letsencrypt/challtestsrv"
	"github.com/miekg/dns"
)

// DNS is the name server that the CA asks, over UDP and TCP on the same port. Every name has the address 127.0.0.1
// and no IPv6 address until told otherwise with the Add and Delete methods of the embedded server, which also
// remembers the questions (RequestHistory). The last two labels of a name are taken for its zone, with the name
// server ns.<zone>.
type DNS struct {
	*challtestsrv.ChallSrv
	// Addr is where it answers: host:port.
	Addr    string
	servers []*dns.Server
}

// NewDNS starts a name server on addr; port 0 picks a free one. The caller closes it.
func NewDNS(addr string) (*DNS, error) {
	// The library wants an address for one of its servers. They are never run: its DNS server would register itself
	// in a table that is shared by the whole process.
	records, err := challtestsrv.New(challtestsrv.Config{
		HTTPOneAddrs: []string{"127.0.0.1:0"}, Log: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return nil, fmt.Errorf("dns records: %w", err)
	}
	records.SetDefaultDNSIPv4("127.0.0.1")
	records.SetDefaultDNSIPv6("")
	stream, packet, err := listenBoth(addr)
	if err != nil {
		return nil, err
	}
	d := &DNS{ChallSrv: records, Addr: stream.Addr().String()}
	d.servers = []*dns.Server{{Listener: stream, Handler: d}, {PacketConn: packet, Handler: d}}
	for _, s := range d.servers {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }()
		<-up
	}
	return d, nil
}

// listenBoth binds TCP and UDP at one port.
func listenBoth(addr string) (net.Listener, net.PacketConn, error) {
	var last error
	for range 20 {
		stream, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("dns: %w", err)
		}
		packet, err := net.ListenPacket("udp", stream.Addr().String())
		if err == nil {
			return stream, packet, nil
		}
		_ = stream.Close()
		last = err
	}
	return nil, nil, fmt.Errorf("dns: %w", last)
}

// Close stops both listeners.
func (d *DNS) Close() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.Shutdown())
	}
	return errors.Join(errs...)
}

// ServeDNS answers one message.
func (d *DNS) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	for _, q := range r.Question {
		d.AddRequestEvent(challtestsrv.DNSRequestEvent{Question: q})
		if d.GetDNSServFailRecord(q.Name) {
			m.Rcode = dns.RcodeServerFailure
			continue
		}
		m.Answer = append(m.Answer, d.answer(q)...)
		if len(m.Answer) == 0 {
			m.Ns = append(m.Ns, soa(zoneOf(q.Name)))
		}
	}
	_ = w.WriteMsg(m)
}

// answer follows CNAME records for at most ten steps.
func (d *DNS) answer(q dns.Question) []dns.RR {
	var out []dns.RR
	for range 10 {
		target := d.GetDNSCNAMERecord(q.Name)
		if target == "" {
			return append(out, d.records(q)...)
		}
		out = append(out, &dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: dns.Fqdn(target)})
		if q.Qtype == dns.TypeCNAME {
			return out
		}
		q.Name = dns.Fqdn(target)
	}
	return out
}

func (d *DNS) records(q dns.Question) []dns.RR {
	var out []dns.RR
	switch q.Qtype {
	case dns.TypeA:
		for _, a := range orDefault(d.GetDNSARecord(q.Name), d.GetDefaultDNSIPv4()) {
			out = append(out, &dns.A{Hdr: header(q.Name, q.Qtype), A: net.ParseIP(a)})
		}
	case dns.TypeAAAA:
		for _, a := range orDefault(d.GetDNSAAAARecord(q.Name), d.GetDefaultDNSIPv6()) {
			out = append(out, &dns.AAAA{Hdr: header(q.Name, q.Qtype), AAAA: net.ParseIP(a)})
		}
	case dns.TypeTXT:
		for _, txt := range d.GetDNSTXTRecords(q.Name) {
			out = append(out, &dns.TXT{Hdr: header(q.Name, q.Qtype), Txt: chunks(txt)})
		}
	case dns.TypeCAA:
		for _, p := range d.GetDNSCAARecord(q.Name) {
			out = append(out, &dns.CAA{Hdr: header(q.Name, q.Qtype), Tag: p.Tag, Value: p.Value})
		}
	case dns.TypeSOA:
		if zone := zoneOf(q.Name); strings.EqualFold(zone, q.Name) {
			out = append(out, soa(zone))
		}
	case dns.TypeNS:
		if zone := zoneOf(q.Name); strings.EqualFold(zone, q.Name) {
			out = append(out, &dns.NS{Hdr: header(zone, q.Qtype), Ns: "ns." + zone})
		}
	}
	return out
}

func orDefault(list []string, fallback string) []string {
	if len(list) == 0 && fallback != "" {
		return []string{fallback}
	}
	return list
}

// chunks cuts a TXT value into character-strings of at most 255 octets (RFC 1035 section 3.3.14).
func chunks(s string) []string {
	var out []string
	for len(s) > 255 {
		out = append(out, s[:255])
		s = s[255:]
	}
	return append(out, s)
}

func zoneOf(name string) string {
	labels := dns.SplitDomainName(name)
	return dns.Fqdn(strings.Join(labels[max(0, len(labels)-2):], "."))
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET}
}

func soa(zone string) *dns.SOA {
	return &dns.SOA{
		Hdr: header(zone, dns.TypeSOA), Ns: dns.Fqdn("ns." + strings.TrimPrefix(zone, ".")),
		Mbox: dns.Fqdn("hostmaster." + strings.TrimPrefix(zone, ".")), Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: 1,
	}
}
