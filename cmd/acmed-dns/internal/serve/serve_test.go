package serve_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/go-acme/lego/v4/challenge"
	lego "github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/miekg/dns"

	"github.com/acmed/acmed/cmd/acmed-dns/internal/serve"
	"github.com/acmed/acmed/pkg/challenges/dns01"
)

// recorder is a provider that writes down where it was asked to put records.
type recorder struct {
	calls []string
	err   error
}

func (r *recorder) Present(domain, _, keyAuth string) error {
	return r.note("present", domain, keyAuth)
}
func (r *recorder) CleanUp(domain, _, keyAuth string) error {
	return r.note("cleanup", domain, keyAuth)
}

func (r *recorder) note(verb, domain, keyAuth string) error {
	info := lego.GetChallengeInfo(domain, keyAuth)
	zone, err := lego.FindZoneByFqdn(info.EffectiveFQDN)
	if err != nil {
		return err
	}
	r.calls = append(r.calls, fmt.Sprint(verb, " ", info.EffectiveFQDN, " in ", zone))
	return r.err
}

// resolver answers SOA questions for two zones and knows an alias that is out of date.
func resolver(t *testing.T) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		line := ""
		switch {
		case q.Question[0].Qtype == dns.TypeCNAME:
			line = name + " 1 CNAME stale.example.org."
		case name == "example.com." || name == "example.net.":
			line = name + " 1 SOA ns. h. 1 1 1 1 1"
		}
		if line != "" {
			rr, _ := dns.NewRR(line)
			m.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return conn.LocalAddr().String()
}

// session runs a server and gives the means to talk to it.
type session struct {
	t   *testing.T
	in  *io.PipeWriter
	out *bufio.Scanner
	end chan error
	id  uint64
}

func start(t *testing.T, open func(string) (challenge.Provider, error)) *session {
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	s := &session{t: t, in: inWrite, out: bufio.NewScanner(outRead), end: make(chan error, 1)}
	go func() {
		server := serve.Server{Open: open, Version: "test"}
		s.end <- server.Run(inRead, outWrite)
		outWrite.Close()
		inRead.Close()
	}()
	return s
}

func (s *session) ask(req dns01.Request) dns01.Response {
	s.t.Helper()
	s.id++
	req.ID = s.id
	if err := json.NewEncoder(s.in).Encode(req); err != nil {
		s.t.Fatal(err)
	}
	var resp dns01.Response
	if !s.out.Scan() {
		s.t.Fatal("no answer")
	}
	if err := json.Unmarshal(s.out.Bytes(), &resp); err != nil || resp.ID != s.id {
		s.t.Fatalf("%s: %v", s.out.Text(), err)
	}
	return resp
}

func hello(provider, resolver string) dns01.Request {
	return dns01.Request{Op: dns01.OpHello, Hello: &dns01.Hello{Protocol: dns01.ProtocolVersion, Provider: provider, Resolvers: []string{resolver}}}
}

func (s *session) change(op dns01.Op, r dns01.Record) string {
	s.t.Helper()
	return s.ask(dns01.Request{Op: op, Record: &r}).Error
}

var (
	delegated = dns01.Record{Domain: "www.example.com", FQDN: "here.example.net.", Value: "v", Token: "t1", KeyAuth: "t1.k"}
	direct    = dns01.Record{Domain: "example.com", FQDN: "_acme-challenge.example.com.", Value: "v", Token: "t2", KeyAuth: "t2.k"}
)

func TestSession(t *testing.T) {
	p := &recorder{}
	s := start(t, func(name string) (challenge.Provider, error) { return p, nil })
	if got := s.change(dns01.OpPresent, direct); got != `unexpected request "present"` {
		t.Errorf("before the hello: %q", got)
	}
	if got := s.ask(hello("x", resolver(t))); got.Error != "" || got.Protocol != dns01.ProtocolVersion || got.Version != "test" {
		t.Errorf("hello: %+v", got)
	}
	if got := s.ask(hello("x", "")); got.Error != `unexpected request "hello"` {
		t.Errorf("second hello: %+v", got)
	}
	for _, op := range []dns01.Op{dns01.OpPresent, dns01.OpCleanUp} {
		for _, r := range []dns01.Record{delegated, direct} {
			if got := s.change(op, r); got != "" {
				t.Errorf("%s %s: %s", op, r.FQDN, got)
			}
		}
	}
	s.in.Close()
	if err := <-s.end; err != nil {
		t.Error(err)
	}
	want := []string{
		"present here.example.net. in example.net.", "present _acme-challenge.example.com. in example.com.",
		"cleanup here.example.net. in example.net.", "cleanup _acme-challenge.example.com. in example.com.",
	}
	if !slices.Equal(p.calls, want) {
		t.Errorf("calls %q\nwant %q", p.calls, want)
	}
}

// A resolver that knows neither EDNS0 nor SOA: the zone is that of the name servers.
func TestOldResolver(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch asked := q.Question[0]; {
		case q.IsEdns0() != nil:
			m.Rcode = dns.RcodeFormatError
		case asked.Qtype == dns.TypeSOA:
			m.Rcode = dns.RcodeNotImplemented
		case asked.Qtype == dns.TypeNS && asked.Name == "example.com.":
			rr, _ := dns.NewRR("example.com. 1 NS ns.example.com.")
			m.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	defer server.Shutdown()
	p := &recorder{}
	s := start(t, func(string) (challenge.Provider, error) { return p, nil })
	s.ask(hello("x", conn.LocalAddr().String()))
	if got := s.change(dns01.OpPresent, direct); got != "" {
		t.Error(got)
	}
	s.in.Close()
	<-s.end
	if want := "present _acme-challenge.example.com. in example.com."; len(p.calls) == 0 || p.calls[0] != want {
		t.Errorf("calls %q", p.calls)
	}
}

func TestRecordsAreRemovedWhenTheInputEnds(t *testing.T) {
	p := &recorder{err: errors.New("the API fails")}
	s := start(t, func(string) (challenge.Provider, error) { return p, nil })
	s.ask(hello("x", resolver(t)))
	for _, r := range []dns01.Record{delegated, direct} {
		if got := s.change(dns01.OpPresent, r); got != "the API fails" {
			t.Errorf("present: %q", got)
		}
	}
	s.change(dns01.OpCleanUp, direct)
	p.err = nil
	s.in.Close()
	if err := <-s.end; err != nil {
		t.Error(err)
	}
	if len(p.calls) != 4 || p.calls[3] != "cleanup here.example.net. in example.net." {
		t.Errorf("calls %q", p.calls)
	}
}

func TestSessionsThatAreRefused(t *testing.T) {
	open := func(string) (challenge.Provider, error) { return nil, errors.New("TOKEN is missing") }
	for want, h := range map[string]dns01.Request{
		"TOKEN is missing":        hello("x", "127.0.0.1:53"),
		"asks a person":           hello("manual", "127.0.0.1:53"),
		"acmed speaks protocol 9": {Op: dns01.OpHello, Hello: &dns01.Hello{Protocol: 9}},
	} {
		s := start(t, open)
		if got := s.ask(h); !strings.Contains(got.Error, want) {
			t.Errorf("%q, want %q", got.Error, want)
		}
		s.in.Close()
		if err := <-s.end; err != nil {
			t.Error(err)
		}
	}
	for _, line := range []string{"hello\n", strings.Repeat("x", dns01.MaxLine+1)} {
		s := start(t, open)
		go func() { _, _ = io.WriteString(s.in, line) }()
		if err := <-s.end; err == nil {
			t.Errorf("%.20q was accepted", line)
		}
	}
}
