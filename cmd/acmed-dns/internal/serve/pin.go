package serve

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// pinner is a DNS server on the loopback address which lego asks in place of a resolver. It answers where the challenge
// name of a record leads to with what acmed found out, and passes all other questions on. So Present and CleanUp change
// the same name, even when the CNAME is changed between them, and providers use the resolvers of the configuration.
type pinner struct {
	addr      string
	upstreams []string
	servers   []*dns.Server

	mu      sync.Mutex
	targets map[string]string // by name; one that leads to itself is no alias
}

const (
	upstreamTimeout = 5 * time.Second
	pinTTL          = 1 // seconds
)

// newPinner starts the server. No upstreams means those of the system.
func newPinner(upstreams []string) (*pinner, error) {
	if len(upstreams) == 0 {
		var err error
		if upstreams, err = dnsquery.SystemServers(); err != nil {
			return nil, err
		}
	}
	packets, listener, err := listenBoth()
	if err != nil {
		return nil, err
	}
	p := &pinner{addr: listener.Addr().String(), upstreams: upstreams, targets: map[string]string{}}
	p.servers = []*dns.Server{{PacketConn: packets, Handler: p}, {Listener: listener, Handler: p}}
	for _, s := range p.servers {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go func() { _ = s.ActivateAndServe() }() // it ends with close
		<-ready
	}
	return p, nil
}

// listenBoth takes one free port of both protocols.
func listenBoth() (net.PacketConn, net.Listener, error) {
	var errs []error
	for range 10 { // the port that TCP was given may be taken for UDP
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a listener lives as long as the program
		if err != nil {
			return nil, nil, err
		}
		p, err := net.ListenPacket("udp", l.Addr().String()) //nolint:noctx // as above
		if err == nil {
			return p, l, nil
		}
		errs = append(errs, err, l.Close())
	}
	return nil, nil, errors.Join(errs...)
}

func (p *pinner) set(r dns01.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets[r.FQDN] = r.FQDN // the end, whatever the DNS says now
	p.targets["_acme-challenge."+strings.ToLower(r.Domain)+"."] = r.FQDN
}

func (p *pinner) close() {
	for _, s := range p.servers {
		_ = s.Shutdown() // the program ends
	}
}

// ServeDNS answers one question.
func (p *pinner) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	if len(m.Question) != 1 {
		p.reply(w, new(dns.Msg).SetRcode(m, dns.RcodeFormatError))
		return
	}
	q := m.Question[0]
	p.mu.Lock()
	target, pinned := p.targets[strings.ToLower(q.Name)]
	p.mu.Unlock()
	if !pinned || q.Qtype != dns.TypeCNAME {
		answer := p.forward(m)
		if opt := m.IsEdns0(); w.RemoteAddr().Network() == "udp" && opt != nil {
			answer.Truncate(int(opt.UDPSize()))
		} else if w.RemoteAddr().Network() == "udp" {
			answer.Truncate(dns.MinMsgSize)
		}
		p.reply(w, answer)
		return
	}
	answer := new(dns.Msg).SetReply(m)
	if !strings.EqualFold(target, q.Name) {
		answer.Answer = []dns.RR{&dns.CNAME{
			Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: pinTTL}, Target: target,
		}}
	}
	p.reply(w, answer)
}

// forward asks the resolvers. For a name whose SOA they do not tell it makes one up when the name has name servers: that is
// all by which providers recognise a zone.
func (p *pinner) forward(m *dns.Msg) *dns.Msg {
	q := m.Question[0]
	answer := p.ask(m)
	if q.Qtype != dns.TypeSOA || len(answer.Answer) > 0 || answer.Rcode == dns.RcodeNameError {
		return answer
	}
	for _, rr := range p.ask(dnsquery.Question(q.Name, dns.TypeNS, true)).Answer {
		if ns, ok := rr.(*dns.NS); ok && strings.EqualFold(ns.Hdr.Name, q.Name) {
			answer = new(dns.Msg).SetReply(m)
			answer.Answer = []dns.RR{&dns.SOA{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: pinTTL}, Ns: ns.Ns, Mbox: "hostmaster." + q.Name,
			}}
			break
		}
	}
	return answer
}

func (p *pinner) ask(m *dns.Msg) *dns.Msg {
	for _, server := range p.upstreams {
		if answer, err := dnsquery.Ask(context.Background(), server, m, upstreamTimeout); err == nil && answer.Rcode != dns.RcodeServerFailure {
			answer.Id = m.Id
			return answer
		}
	}
	return new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)
}

func (*pinner) reply(w dns.ResponseWriter, m *dns.Msg) {
	_ = w.WriteMsg(m) // who asked is gone, or asks again
}
