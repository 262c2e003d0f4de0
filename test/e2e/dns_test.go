package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/acmetest"
)

// zones are a machine with a BIND that has a zone for each of three customers, each with a key of its own. The last zone has
// a second name server at another address of loopback. The CA asks the BIND.
type zones struct {
	*box
	bind string // host:port
	key  map[string]string
}

func newZones(t *testing.T, opts ...acmetest.Option) *zones {
	t.Helper()
	z := &zones{box: newBox(t, opts...), key: map[string]string{}}
	z.need("named:bind9")
	z.bind = z.free()
	_, port, _ := net.SplitHostPort(z.bind)
	var conf strings.Builder
	for i, name := range []string{"example.com", "example.org", "example.net"} {
		key := fmt.Sprintf("key \"key-%d\" {\n\talgorithm hmac-sha256;\n\tsecret \"%s\";\n};\n", i, strings.Repeat("c2VjcmV0LXNlY3Jl", i+2))
		z.key[name] = filepath.Join(z.dir, name+".key")
		if err := os.WriteFile(z.key[name], []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		text := "$TTL 60\n@ SOA ns1 hostmaster 1 60 60 3600 1\n@ NS ns1\nns1 A 127.0.0.1\n@ A 127.0.0.1\n"
		if name == "example.net" {
			text += "@ NS ns2\nns2 A 127.0.0.2\n"
		}
		z.file(name+".zone", text)
		fmt.Fprintf(&conf, "%szone %q { type primary; file \"%s.zone\"; update-policy { grant key-%d zonesub TXT; }; };\n", key, name, name, i)
	}
	named := z.file("named.conf", conf.String()+fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion yes; dnssec-validation no; notify no; allow-query { any; };
};
controls { };
`, z.dir, port))
	cmd := exec.Command("/usr/sbin/named", "-g", "-c", named)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("named: %s", &log)
		}
	})
	z.await("BIND answered", func() bool {
		return z.ask("example.com", dns.TypeSOA) != nil && z.ask("example.org", dns.TypeSOA) != nil
	})
	z.ca.DNS.Addr = z.bind
	if err := z.ca.Forget(); err != nil { // the new CA asks there
		t.Fatal(err)
	}
	return z
}

func (z *zones) ask(name string, qtype uint16) []dns.RR {
	m, _, err := new(dns.Client).ExchangeContext(z.Context(), new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), z.bind)
	if err != nil {
		return nil
	}
	return m.Answer
}

// records lists the values of the challenges of a domain.
func (z *zones) records(domain string) []string {
	var list []string
	for _, rr := range z.ask("_acme-challenge."+domain, dns.TypeTXT) {
		if txt, ok := rr.(*dns.TXT); ok {
			list = append(list, strings.Join(txt.Txt, ""))
		}
	}
	return list
}

// solver is a credential for one of the zones.
func (z *zones) solver(name, zone string) string {
	_, port, _ := net.SplitHostPort(z.bind)
	return fmt.Sprintf("  - { name: %s, dns-01: { rfc2136: { nameserver: %q, tsig_key_file: %s }, resolvers: [%q], authoritative_port: %s } }\n",
		name, z.bind, z.key[zone], z.bind, port)
}

// zoned is a solver for the names of one zone, with the key of that or another zone.
func (z *zones) zoned(name, zone, key string) string {
	return strings.Replace(z.solver(name, key), "name: "+name+",", "name: "+name+", zones: ["+zone+"],", 1)
}

// TestDNS: a wildcard and its apex in one order, and two credentials of one provider side by side: neither key may write
// to the other's zone.
func TestDNS(t *testing.T) {
	z := newZones(t)
	z.configure("advisory", z.solver("com", "example.com")+z.solver("org", "example.org"), `  - { name: com, names: ["*.example.com", example.com], solvers: [com] }
  - { name: org, names: ["*.example.org", example.org, www.example.org], solvers: [org] }
`)
	z.run()
	z.await("both obtained", z.healthy)
	for name, want := range map[string]string{"com": "*.example.com example.com", "org": "*.example.org example.org www.example.org"} {
		if out := z.must("status", "-o", "wide", name); !strings.Contains(out, want) {
			t.Errorf("status of %s: %s, want the names %s", name, out, want)
		}
		if solver, _ := z.proof(name); solver != name {
			t.Errorf("%s was proved through %s", name, solver)
		}
	}
	for _, domain := range []string{"example.com", "example.org", "www.example.org"} {
		if left := z.records(domain); len(left) != 0 {
			t.Errorf("records %q are left at %s", left, domain)
		}
	}
	z.configure("advisory", z.solver("com", "example.com")+z.solver("org", "example.org"), "  - { name: wrong, names: [www.example.com], solvers: [org] }\n")
	z.must("reload")
	if out, code := z.acmed("renew", "wrong"); code != 1 || !strings.Contains(out, "REFUSED") {
		t.Errorf("with the key of the other zone: exit %d: %s", code, out)
	}
}

// TestTwoZonesInOneOrder: one certificate with names of two customers; zones choose the credential of each name.
func TestTwoZonesInOneOrder(t *testing.T) {
	z := newZones(t)
	z.configure("advisory", z.zoned("com", "example.com", "example.com")+z.zoned("org", "example.org", "example.org"),
		"  - { name: both, names: [example.com, \"*.example.com\", example.org, www.example.org], solvers: [com, org] }\n")
	z.must("renew", "both")
	if n := z.ca.Requests(acmetest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	want := []proof{{"*.example.com", "com", "dns-01", ""}, {"example.com", "com", "dns-01", ""}, {"example.org", "org", "dns-01", ""}, {"www.example.org", "org", "dns-01", ""}}
	got := z.proofs("both")
	for i := range got {
		if strings.Contains(got[i].Reason, "failed") {
			t.Errorf("%s was tried with another credential: %s", got[i].Identifier, got[i].Reason)
		}
		got[i].Reason = ""
	}
	slices.SortFunc(got, func(a, b proof) int { return strings.Compare(a.Identifier, b.Identifier) })
	if !slices.Equal(got, want) {
		t.Errorf("proved as %+v, want %+v", got, want)
	}
}

// TestManyCredentialsAtOnce: solvers that write down their records at the same moment are not in each other's way. The
// CA, which finds no record, was told about every name.
func TestManyCredentialsAtOnce(t *testing.T) {
	const n = 40
	b := newBox(t)
	var solvers, names, refs []string
	for i := range n {
		name, ref := fmt.Sprintf("c%d.example.com", i), fmt.Sprint("s", i)
		names, refs = append(names, name), append(refs, ref)
		solvers = append(solvers, fmt.Sprintf("  - { name: %s, zones: [%s], dns-01: { exec: { command: [/bin/true] }, resolvers: [%q], propagation: none } }\n", ref, name, b.ca.DNS.Addr))
	}
	b.configure("off", strings.Join(solvers, ""), fmt.Sprintf("  - { name: many, names: [%s], solvers: [%s] }\n", strings.Join(names, ", "), strings.Join(refs, ", ")))
	if out, code := b.acmed("renew"); code != 1 || strings.Contains(out, "journal") {
		t.Errorf("exit %d: %s", code, out)
	}
	if got := b.validations(); got != n {
		t.Errorf("the CA was told about %d names, want %d", got, n)
	}
}

// TestOneOfTwoNamesFails: what one name's server refuses keeps the other from nothing, and only the one is blamed.
func TestOneOfTwoNamesFails(t *testing.T) {
	z := newZones(t)
	z.configure("off", z.zoned("com", "example.com", "example.com")+z.zoned("org", "example.org", "example.com"), // the key of the other zone
		"  - { name: both, names: [example.com, example.org], solvers: [com, org] }\n")
	out, code := z.acmed("renew", "both")
	if code != 1 || !strings.Contains(out, "example.org could not be validated through org") || !strings.Contains(out, "REFUSED") {
		t.Errorf("exit %d: %s", code, out)
	}
	if strings.Contains(out, "example.com could not") || strings.Contains(out, "_acme-challenge.example.com") {
		t.Errorf("the sound name is blamed: %s", out)
	}
	if n := z.validations(); n != 1 {
		t.Errorf("%d names were handed over to the CA, want 1", n)
	}
	if left := append(z.records("example.com"), z.records("example.org")...); len(left) != 0 {
		t.Errorf("records %q are left", left)
	}
}

// TestStaleSecondary: while one name server of the zone lacks the record, the CA is not told, and no validation fails.
func TestStaleSecondary(t *testing.T) {
	z := newZones(t)
	_, port, _ := net.SplitHostPort(z.bind)
	conn, err := net.ListenPacket("udp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	stale := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
	})}
	go func() { _ = stale.ActivateAndServe() }()
	t.Cleanup(func() { _ = conn.Close() })
	solver := strings.Replace(z.solver("net", "example.net"), "resolvers:", "propagation_timeout: 2s, poll_interval: 200ms, resolvers:", 1)
	z.configure("off", solver, "  - { name: net, names: [example.net], solvers: [net] }\n")
	out, code := z.acmed("renew", "net")
	if code != 1 || !strings.Contains(out, "ns2.example.net (127.0.0.2:"+port+") does not have it") || strings.Contains(out, "ns1.example.net") {
		t.Errorf("exit %d: %s", code, out)
	}
	if asked.Load() < 2 {
		t.Errorf("the secondary was asked %d times", asked.Load())
	}
	if n := z.validations(); n != 0 {
		t.Errorf("the CA was told %d times", n)
	}
	state, err := os.ReadFile(filepath.Join(z.dir, "state", "certs", "net", "state.json"))
	if err != nil || bytes.Contains(state, []byte(`"invalid"`)) || !bytes.Contains(state, []byte(`"dns-propagation"`)) {
		t.Errorf("%v: stored %s", err, state)
	}
	if left := z.records("example.net"); len(left) != 0 {
		t.Errorf("records %q are left", left)
	}
}

// TestDNSKilled: after kill -9 between the record and the validation, the next start removes the record.
func TestDNSKilled(t *testing.T) {
	var hold atomic.Bool
	hold.Store(true)
	gate := func(e acmetest.Endpoint, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if hold.Load() && e == acmetest.Challenge {
				<-r.Context().Done()
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	z := newZones(t, acmetest.WithMiddleware(gate))
	z.configure("off", z.solver("com", "example.com"), "  - { name: com, names: [\"*.example.com\"], solvers: [com] }\n")
	z.run()
	var stale []string
	z.await("the record is there", func() bool { stale = z.records("example.com"); return len(stale) == 1 })
	z.kill(syscall.SIGKILL)
	if now := z.records("example.com"); !slices.Equal(now, stale) {
		t.Fatalf("the record went away by itself: %q", now)
	}
	hold.Store(false)
	z.run()
	z.await("obtained", z.healthy)
	z.await("the records are removed", func() bool { return len(z.records("example.com")) == 0 })
}
