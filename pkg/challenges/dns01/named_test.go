package dns01

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// The key that the test servers know: what tsig-keygen prints.
const testKey = `key "acmed-key" {
	algorithm hmac-sha256;
	secret "c3VwZXJzZWNyZXQtc3VwZXJzZWNyZXQtc3VwZXJzZWM=";
};
`

// named is a BIND on a loopback address.
type named struct {
	t    testing.TB
	addr string
	port string
	dir  string
}

// zone is one zone of a BIND: its options in named.conf and the records of its file.
type zone struct{ name, options, records string }

const updatable = "type primary; update-policy { grant acmed-key zonesub TXT CNAME; };"

// freePort is free for both protocols at all the addresses that the tests use.
func freePort(t testing.TB) string {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		l.Close()
		if free("127.0.0.1", port) && free("127.0.0.2", port) {
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

func free(ip, port string) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(ip, port))
	if err != nil {
		return false
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", net.JoinHostPort(ip, port))
	if err != nil {
		return false
	}
	return p.Close() == nil
}

func startNamed(t testing.TB, port string, zones ...zone) *named {
	t.Helper()
	const ip = "127.0.0.1" // BIND listens at addresses of interfaces only
	const program = "/usr/sbin/named"
	if _, err := os.Stat(program); err != nil {
		t.Skip("BIND is not installed: ", err)
	}
	n := &named{t: t, addr: net.JoinHostPort(ip, port), port: port, dir: t.TempDir()}
	conf := fmt.Sprintf(`%s
options {
	directory %q; pid-file none; session-keyfile none; listen-on port %s { %s; }; listen-on-v6 { none; };
	recursion yes; dnssec-validation no; notify explicit; allow-query { any; }; minimal-responses yes;
};
controls { };
`, testKey, n.dir, port, ip)
	for _, z := range zones {
		file := z.name + ".zone"
		if view, ok := strings.CutPrefix(z.options, "view "); ok { // "inside" is the one that the key selects
			file = view + ".zone"
			match := map[string]string{"inside": "key acmed-key;", "outside": "any;"}[view]
			conf += fmt.Sprintf("view %q { match-clients { %s }; zone %q { file %q; %s }; };\n", view, match, z.name, file, updatable)
		} else {
			conf += fmt.Sprintf("zone %q { file %q; %s };\n", z.name, file, z.options)
		}
		if z.records != "" {
			n.write(file, "$TTL 60\n@ SOA ns1 hostmaster 1 60 60 3600 1\n"+z.records)
		}
	}
	n.write("named.conf", conf)
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-g", "-c", filepath.Join(n.dir, "named.conf"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("named on %s:\n%s", n.addr, &log)
		}
	})
	for _, z := range zones {
		n.await(z.name)
	}
	return n
}

// alsoAt makes the server reachable at another address too.
func (n *named) alsoAt(ip, port string) {
	n.t.Helper()
	serveDNS(n.t, net.JoinHostPort(ip, port), func(w dns.ResponseWriter, m *dns.Msg) {
		c := &dns.Client{Net: w.RemoteAddr().Network()}
		if in, _, err := c.Exchange(m, n.addr); err == nil {
			_ = w.WriteMsg(in)
		}
	})
}

// serveDNS serves both protocols at an address until the end of the test.
func serveDNS(t testing.TB, addr string, handle dns.HandlerFunc) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		ready := make(chan struct{})
		s := &dns.Server{Addr: addr, Net: network, Handler: handle, NotifyStartedFunc: func() { close(ready) }}
		failed := make(chan error, 1)
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-ready:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Shutdown() })
	}
}

func (n *named) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *named) await(zone string) {
	n.t.Helper()
	await.True(n.t, fmt.Sprintf("named on %s serves %s", n.addr, zone), func() bool {
		m, err := dnsquery.Ask(n.t.Context(), n.addr, dnsquery.Question(dns.Fqdn(zone), dns.TypeSOA, false), 0)
		return err == nil && len(m.Answer) > 0
	})
}

// txt lists the values at a name, sorted.
func (n *named) txt(name string) []string {
	n.t.Helper()
	m, err := dnsquery.Ask(n.t.Context(), n.addr, dnsquery.Question(dns.Fqdn(name), dns.TypeTXT, false), 0)
	if err != nil {
		n.t.Fatal(err)
	}
	list := []string{}
	for _, rr := range m.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			list = append(list, strings.Join(txt.Txt, ""))
		}
	}
	slices.Sort(list)
	return list
}

// update changes records behind the back of acmed. Lines that begin with "-" are removed.
func (n *named) update(zone string, lines ...string) {
	n.t.Helper()
	m := new(dns.Msg).SetUpdate(dns.Fqdn(zone))
	for _, line := range lines {
		text, remove := strings.CutPrefix(line, "-")
		rr, err := dns.NewRR(text)
		if err != nil {
			n.t.Fatal(err)
		}
		if remove {
			m.Remove([]dns.RR{rr})
		} else {
			m.Insert([]dns.RR{rr})
		}
	}
	key, err := parseTSIGKey(testKey)
	if err != nil {
		n.t.Fatal(err)
	}
	m.SetTsig(key.name, key.algorithm, 300, time.Now().Unix())
	c := &dns.Client{Net: "tcp", TsigSecret: map[string]string{key.name: string([]byte(key.secret))}}
	in, _, err := c.Exchange(m, n.addr)
	if err == nil && in.Rcode != dns.RcodeSuccess {
		err = errors.New(dnsquery.Code(in.Rcode))
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// secretFile writes a file that only its owner can read.
func secretFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
