package preflight_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/challenges/preflight"
)

// signed is a zone that BIND's own tools sign.
type signed struct {
	t    *testing.T
	dir  string
	name string
}

// sign makes a key and the signed zone, and returns the key as a trust anchor.
func (z *signed) sign(records string, options ...string) (anchor string) {
	z.t.Helper()
	const head = "$TTL 60\n@ SOA ns1 hostmaster 1 60 60 3600 60\n@ NS ns1\nns1 A 127.0.0.1\n"
	z.write(head + records)
	key := strings.TrimSpace(z.run("dnssec-keygen", "-K", z.dir, "-a", "ECDSAP256SHA256", "-f", "KSK", z.name))
	argv := append([]string{"dnssec-signzone", "-z", "-S", "-K", z.dir, "-d", z.dir, "-O", "full", "-o", z.name, "-f", z.file()}, options...)
	z.run(append(argv, z.file())...)
	text, err := os.ReadFile(filepath.Join(z.dir, key+".key"))
	if err != nil {
		z.t.Fatal(err)
	}
	rr, err := dns.NewRR(string(text))
	if err != nil {
		z.t.Fatal(err)
	}
	public := rr.(*dns.DNSKEY)
	return fmt.Sprintf("%s. static-key %d %d %d %q;\n", z.name, public.Flags, public.Protocol, public.Algorithm, public.PublicKey)
}

// spoil changes the signature of the addresses of a name.
func (z *signed) spoil(name string) {
	z.t.Helper()
	text, err := os.ReadFile(z.file())
	if err != nil {
		z.t.Fatal(err)
	}
	var spoiled strings.Builder
	found := 0
	for records := dns.NewZoneParser(bytes.NewReader(text), "", ""); ; {
		rr, ok := records.Next()
		if !ok {
			break
		}
		if sig, ok := rr.(*dns.RRSIG); ok && sig.Hdr.Name == name && sig.TypeCovered == dns.TypeA {
			other := byte('A')
			if sig.Signature[0] == other {
				other = 'B'
			}
			sig.Signature = string(other) + sig.Signature[1:]
			found++
		}
		fmt.Fprintln(&spoiled, rr)
	}
	if found != 1 {
		z.t.Fatalf("%d signatures of %s in\n%s", found, name, text)
	}
	z.write(spoiled.String())
}

func (z *signed) file() string { return filepath.Join(z.dir, z.name+".zone") }

func (z *signed) write(text string) {
	z.t.Helper()
	if err := os.WriteFile(z.file(), []byte(text), 0o600); err != nil {
		z.t.Fatal(err)
	}
}

func (z *signed) run(argv ...string) string {
	z.t.Helper()
	cmd := exec.CommandContext(z.t.Context(), argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		z.t.Fatalf("%q: %v: %s", argv, err, &stderr)
	}
	return string(out)
}

// serveBIND runs BIND on a free port until the end of the test.
func serveBIND(t *testing.T, name, options, rest string) (port int) {
	t.Helper()
	port = acmetest.FreePort(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, name+".conf")
	text := fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	%s
};
controls { };
%s`, dir, port, options, rest)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/usr/sbin/named", "-g", "-c", conf)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, &log)
		}
	})
	return port
}

// TestDNSSECOfARealResolver: BIND validates, with the keys of two zones as trust anchors. The one zone is intact but for one
// signature; those of the other have expired. Nobody validates a third.
func TestDNSSECOfARealResolver(t *testing.T) {
	for _, program := range []string{"/usr/sbin/named", "/usr/bin/dnssec-keygen", "/usr/bin/dnssec-signzone"} {
		if _, err := os.Stat(program); err != nil {
			t.Skip("BIND is not installed: ", err)
		}
	}
	dir := t.TempDir()
	example := &signed{t: t, dir: dir, name: "example"}
	late := &signed{t: t, dir: dir, name: "late"}
	plain := &signed{t: t, dir: dir, name: "plain"}
	anchors := example.sign("intact A 192.0.2.1\nintact CAA 0 issue \"ca.example\"\nspoiled A 192.0.2.2\nalias CNAME spoiled\n")
	example.spoil("spoiled.example.")
	now := time.Now().UTC()
	const stamp = "20060102150405"
	anchors += late.sign("www A 192.0.2.3\n", "-P", "-s", now.Add(-48*time.Hour).Format(stamp), "-e", now.Add(-24*time.Hour).Format(stamp))
	plain.write("$TTL 60\n@ SOA ns1 hostmaster 1 60 60 3600 60\n@ NS ns1\nns1 A 127.0.0.1\nwww A 192.0.2.4\n")

	var zones, forwards string
	for _, z := range []*signed{example, late, plain} {
		zones += fmt.Sprintf("zone %q { type primary; file %q; };\n", z.name, z.file())
	}
	authority := serveBIND(t, "authority", "recursion no; dnssec-validation no; notify no;", zones)
	for _, z := range []*signed{example, late, plain} {
		forwards += fmt.Sprintf("zone %q { type forward; forward only; forwarders { 127.0.0.1 port %d; }; };\n", z.name, authority)
	}
	resolver := serveBIND(t, "resolver", "recursion yes; dnssec-validation yes;", "trust-anchors {\n"+anchors+"};\n"+forwards)
	cfg := preflight.Config{Resolver: net.JoinHostPort("127.0.0.1", strconv.Itoa(resolver)), CAAIdentities: []string{"ca.example"}}
	awaitValidation(t, cfg.Resolver)

	for name, want := range map[string]struct {
		addresses int
		bogus     bool
	}{
		"intact.example":  {addresses: 1},
		"www.plain":       {addresses: 1},
		"spoiled.example": {bogus: true},
		"alias.example":   {bogus: true},
		"www.late":        {bogus: true},
	} {
		r := run(t, cfg, name)
		if r.DNS.Bogus != want.bogus || r.Blocked != want.bogus || len(r.Addresses) != want.addresses {
			t.Errorf("%s: bogus %t, blocked %t, %d addresses, error %q", name, r.DNS.Bogus, r.Blocked, len(r.Addresses), r.DNS.Error)
		}
		if told := strings.Contains(strings.Join(r.Problems, "\n"), "DNSSEC of "+name+" is broken"); told != want.bogus {
			t.Errorf("%s: problems %q", name, r.Problems)
		}
	}
}

// awaitValidation waits until a resolver vouches for an intact name.
func awaitValidation(t *testing.T, resolver string) {
	t.Helper()
	question := new(dns.Msg).SetQuestion("intact.example.", dns.TypeA)
	question.SetEdns0(1232, true)
	await.NoError(t, func() error {
		answer, err := dns.ExchangeContext(t.Context(), question, resolver)
		if err != nil || !answer.AuthenticatedData || len(answer.Answer) == 0 {
			return errors.Join(fmt.Errorf("the resolver does not validate: %v", answer), err)
		}
		return nil
	})
}
