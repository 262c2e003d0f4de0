package dnsquery_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// serve answers questions at a loopback address over both protocols.
func serve(t *testing.T, handle dns.HandlerFunc) string {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			l.Close()
			continue
		}
		for _, s := range []*dns.Server{{Listener: l, Handler: handle}, {PacketConn: p, Handler: handle}} {
			ready := make(chan struct{})
			s.NotifyStartedFunc = func() { close(ready) }
			go func() { _ = s.ActivateAndServe() }()
			<-ready
			t.Cleanup(func() { _ = s.Shutdown() })
		}
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

func answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	rr, _ := dns.NewRR(q.Question[0].Name + " 1 TXT found")
	m.Answer = []dns.RR{rr}
	return m
}

// bare is the answer of a server that did not understand the question: a header alone.
func bare(w dns.ResponseWriter, q *dns.Msg, code int) {
	_ = w.WriteMsg(&dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Rcode: code}})
}

func TestServersWithoutEDNS(t *testing.T) {
	for name, reject := range map[string]func(dns.ResponseWriter, *dns.Msg){
		"FORMERR":                    func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeFormatError)) },
		"FORMERR without a question": func(w dns.ResponseWriter, q *dns.Msg) { bare(w, q, dns.RcodeFormatError) },
		"NOTIMP without a question":  func(w dns.ResponseWriter, q *dns.Msg) { bare(w, q, dns.RcodeNotImplemented) },
		"BADVERS": func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetRcode(q, dns.RcodeBadVers)
			m.SetEdns0(dnsquery.UDPSize, false)
			_ = w.WriteMsg(m)
		},
		"silence": func(dns.ResponseWriter, *dns.Msg) {},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if q.IsEdns0() != nil {
					reject(w, q)
					return
				}
				_ = w.WriteMsg(answer(q))
			})
			m, err := dnsquery.Ask(t.Context(), addr, dnsquery.Question("a.example.", dns.TypeTXT, true), 500*time.Millisecond)
			if err != nil || len(m.Answer) != 1 {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
}

// A lost packet, an answer that is cut, and a firewall that lets TCP through alone.
func TestLostAndCut(t *testing.T) {
	for name, udp := range map[string]func(w dns.ResponseWriter, q *dns.Msg, n int32){
		"first lost": func(w dns.ResponseWriter, q *dns.Msg, n int32) {
			if n > 1 {
				_ = w.WriteMsg(answer(q))
			}
		},
		"cut": func(w dns.ResponseWriter, q *dns.Msg, _ int32) {
			m := new(dns.Msg).SetReply(q)
			m.Truncated = true
			_ = w.WriteMsg(m)
		},
		"TCP only": func(dns.ResponseWriter, *dns.Msg, int32) {},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			addr := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if w.RemoteAddr().Network() == "udp" {
					udp(w, q, n.Add(1))
					return
				}
				_ = w.WriteMsg(answer(q))
			})
			m, err := dnsquery.Ask(t.Context(), addr, dnsquery.Question("a.example.", dns.TypeTXT, true), 500*time.Millisecond)
			if err != nil || len(m.Answer) != 1 || m.Truncated {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
}

func TestSilentServer(t *testing.T) {
	addr := serve(t, func(dns.ResponseWriter, *dns.Msg) {})
	_, err := dnsquery.Ask(t.Context(), addr, dnsquery.Question("a.example.", dns.TypeTXT, true), 50*time.Millisecond)
	if !errors.Is(err, dnsquery.ErrSilent) || !strings.Contains(err.Error(), addr) {
		t.Error(err)
	}
}

func TestZoneWithoutSOA(t *testing.T) {
	for name, soa := range map[string]func(*dns.Msg) *dns.Msg{
		"NOTIMP":   func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeNotImplemented) },
		"REFUSED":  func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) },
		"filtered": func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) },
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg).SetReply(q)
				switch asked := q.Question[0]; {
				case asked.Qtype == dns.TypeSOA:
					m = soa(q)
				case asked.Name == "example.com.":
					m.Answer = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "ns.example.com."}}
				}
				_ = w.WriteMsg(m)
			})
			zone, err := dnsquery.Zone(t.Context(), "_acme-challenge.www.example.com.", func(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
				m, err := dnsquery.Ask(ctx, addr, dnsquery.Question(name, qtype, true), 0)
				if err == nil && m.Rcode != dns.RcodeSuccess {
					err = errors.New(dnsquery.Code(m.Rcode))
				}
				return m, err
			})
			if zone != "example.com." || err != nil {
				t.Errorf("%q, %v", zone, err)
			}
		})
	}
}
