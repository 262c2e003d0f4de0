package dnspersist01_test

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
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/preflight"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// bind is a real name server with the zone example.com, which anybody may update.
type bind struct {
	t    *testing.T
	addr string
	port uint16
}

func startBIND(t *testing.T) *bind {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bind{t: t, addr: l.Addr().String()}
	l.Close()
	_, port, _ := net.SplitHostPort(b.addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	b.port = uint16(n)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"named.conf": fmt.Sprintf(`options { directory %q; pid-file none; session-keyfile none; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; }; controls { }; zone "example.com" { type primary; file "zone"; allow-update { any; }; };`, dir, port),
		"zone": "$TTL 60\n@ SOA ns1 hostmaster 1 60 60 3600 1\n@ NS ns1\nns1 A 127.0.0.1\n@ A 127.0.0.1\n* A 127.0.0.1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/usr/sbin/named", "-g", "-c", filepath.Join(dir, "named.conf"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("named:\n%s", &log)
		}
	})
	for {
		q := new(dns.Msg).SetQuestion("example.com.", dns.TypeSOA)
		if m, err := dns.Exchange(q, b.addr); err == nil && len(m.Answer) > 0 {
			return b
		}
		if cmd.ProcessState != nil || t.Context().Err() != nil {
			t.Fatal("named does not answer")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// set replaces the TXT records of a name. A line is as [dnspersist01.Record.Line] writes it.
func (b *bind) set(name string, lines ...string) {
	b.t.Helper()
	m := new(dns.Msg).SetUpdate("example.com.")
	m.RemoveRRset([]dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT}}})
	for _, line := range lines {
		rr, err := dns.NewRR(strings.Replace(line, " IN TXT", " 60 IN TXT", 1))
		if err != nil {
			b.t.Fatal(err)
		}
		m.Insert([]dns.RR{rr})
	}
	in, err := dns.Exchange(m, b.addr)
	if err == nil && in.Rcode != dns.RcodeSuccess {
		err = errors.New(dns.RcodeToString[in.Rcode])
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bind) solver() *dnspersist01.Solver {
	return dnspersist01.New(dnspersist01.Config{Resolvers: []string{b.addr}, AuthoritativePort: b.port}, dns01.Values, time.Now)
}

func identifiers(t *testing.T, names ...string) (list []certs.Identifier) {
	t.Helper()
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, id)
	}
	return list
}

// setUp is Pebble with the name server, and an issuer at it.
func setUp(t *testing.T) (*bind, *acmetest.CA, *issuer.Issuer) {
	t.Helper()
	b := startBIND(t)
	ca := acmetest.Start(t, acmetest.WithCAAIdentities("ca.example", "other-name.example"))
	ca.DNS.Addr = b.addr
	if err := ca.Forget(); err != nil {
		t.Fatal(err)
	}
	return b, ca, b.issuer(ca, challenges.Rung{Name: "persist", Solver: b.solver()})
}

// issuer is one with an account of its own.
func (b *bind) issuer(ca *acmetest.CA, ladder ...challenges.Rung) *issuer.Issuer {
	b.t.Helper()
	st, err := store.Open(b.t.TempDir())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = st.Close() })
	solvers := map[string]challenges.Rung{}
	for _, r := range ladder {
		solvers[r.Name] = r
	}
	i, err := issuer.New(issuer.Config{
		Name: "test", Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: st, Solvers: solvers,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = i.Close() })
	return i
}

func obtain(t *testing.T, i *issuer.Issuer, solvers []string, names ...string) (*certs.Bundle, error) {
	t.Helper()
	return i.Obtain(t.Context(), certs.Request{Spec: certs.Spec{
		Name: fmt.Sprintf("www-%d", time.Now().UnixNano()), Profile: "default", Solvers: solvers, Identifiers: identifiers(t, names...),
	}})
}

// The record that acmed prints lets Pebble issue for a name and its wildcard, also after the account's key was replaced. A
// new account makes it wrong, which is said before the CA is asked.
func TestIssue(t *testing.T) {
	b, ca, i := setUp(t)
	persist := []string{"persist"}
	_, err := obtain(t, i, persist, "example.com", "*.example.com")
	if err == nil || !strings.Contains(err.Error(), "there is no record; publish: _validation-persist.example.com. IN TXT \"ca.example; accounturi=") {
		t.Fatalf("without a record: %v", err)
	}
	account, err := i.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := dnspersist01.Records(identifiers(t, "example.com", "*.example.com", "www.example.com"), account.CAAIdentities, account.URI, time.Now().Add(time.Hour))
	if len(lines) != 2 || !strings.Contains(lines[0], "policy=wildcard") || strings.Contains(lines[1], "policy") {
		t.Fatalf("records: %q", lines)
	}
	b.set("_validation-persist.example.com.", lines[0])
	b.set("_validation-persist.www.example.com.", lines[1])
	names := []string{"*.example.com", "example.com", "www.example.com"}
	if _, err := obtain(t, i, persist, names...); err != nil {
		t.Fatal(err)
	}
	if err := i.Rollover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := obtain(t, i, persist, names...); err != nil {
		t.Errorf("after the rollover: %v", err)
	}
	if err := i.Deactivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	validated := ca.Requests(acmetest.Challenge)
	if _, err := obtain(t, i, persist, names...); err == nil || !strings.Contains(err.Error(), "the record is for another account ("+account.URI+")") {
		t.Errorf("with another account: %v", err)
	}
	if again := ca.Requests(acmetest.Challenge); again != validated {
		t.Errorf("the CA was asked to validate %d times", again-validated)
	}
}

// In a ladder, a record that is missing gives way to the next solver within the same order, and comes first again when it
// is there.
func TestLadder(t *testing.T) {
	b, ca, _ := setUp(t)
	web := http01.NewResponder(http01.ResponderConfig{Addr: fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort)})
	i := b.issuer(ca, challenges.Rung{Name: "persist", Solver: b.solver()}, challenges.Rung{Name: "http", Solver: web})
	for _, want := range []string{"http", "persist"} {
		bundle, err := obtain(t, i, []string{"persist", "http"}, "www.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if got := bundle.Validations[0].Solver; got != want {
			t.Errorf("validated through %s, want %s", got, want)
		}
		account, err := i.Account(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.set("_validation-persist.www.example.com.", dnspersist01.Records(identifiers(t, "www.example.com"), account.CAAIdentities, account.URI, time.Time{})...)
	}
	if orders := ca.Requests(acmetest.NewOrder); orders != 2 {
		t.Errorf("%d orders, want 2", orders)
	}
}

// What is wrong with a record, as doctor and preflight say it, against what Pebble says.
func TestFindingsAgreeWithTheCA(t *testing.T) {
	b, ca, _ := setUp(t)
	blind := b.issuer(ca, challenges.Rung{Name: "blind", Solver: trusting{b.solver()}})
	account, err := blind.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	uri, past, future := account.URI, strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10), strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	for i, tc := range []struct {
		value, name, problem string
	}{
		{"ca.example; accounturi=" + uri, "a.example.com", ""},
		{"other-name.example;accounturi=" + uri, "a.example.com", ""},
		{"  ca.example ;  accountURI = " + uri + " ; POLICY=Wildcard; persistuntil=" + future, "*.a.example.com", ""},
		{"ca.example; accounturi=" + uri + "; unknown=x; policy=other", "a.example.com", ""},
		{"letsencrypt.example; accounturi=" + uri, "a.example.com", "only records for other CAs (letsencrypt.example)"},
		{"CA.example; accounturi=" + uri, "a.example.com", "only records for other CAs (CA.example)"},
		{"ca.example; accounturi=" + uri + "9", "a.example.com", "for another account"},
		{"ca.example; accounturi=" + uri, "*.a.example.com", "lacks policy=wildcard"},
		{"ca.example; accounturi=" + uri + "; policy=subdomain", "*.a.example.com", "lacks policy=wildcard"},
		{"ca.example; accounturi=" + uri + "; persistUntil=" + past, "a.example.com", "expired, persistUntil was"},
		{"ca.example; accounturi=" + uri + "; persistUntil=2027-01-01", "a.example.com", "must be seconds since 1970"},
		{"ca.example; accounturi=" + uri + ";", "a.example.com", "ends in a semicolon"},
		{"ca.example; accounturi=" + uri + "; policy", "a.example.com", "not of the form name=value"},
		{"ca.example; accounturi=" + uri + "; accounturi=" + uri, "a.example.com", "has accounturi twice"},
		{"ca.example; policy=wildcard", "a.example.com", "has no accounturi"},
		{"ca.example", "a.example.com", "has no accounturi"},
		{"", "a.example.com", "no record"},
	} {
		tc.name = strings.Replace(tc.name, "a.", fmt.Sprintf("n%d.", i), 1) // the CA may remember that a name was validated
		id := identifiers(t, tc.name)[0]
		var lines []string
		if tc.value != "" {
			lines = []string{dnspersist01.Name(id) + " IN TXT " + strconv.Quote(tc.value)}
		}
		b.set(dnspersist01.Name(id), lines...)
		solver := b.solver()
		f := solver.Find(t.Context(), dnspersist01.Want{Identifier: id, Issuers: account.CAAIdentities, AccountURI: uri})
		if got := strings.Join(f.Problems, "; "); (got == "") != (tc.problem == "") || !strings.Contains(got, tc.problem) {
			t.Errorf("%q for %s: %q, want %q", tc.value, tc.name, got, tc.problem)
		}
		o := preflight.Look(t.Context(), preflight.Config{Resolver: b.addr, AccountURI: uri, CAAIdentities: account.CAAIdentities}, id,
			challenges.Ladder{{Name: "persist", Solver: solver}})
		if o.Works["persist"] != (tc.problem == "") || o.Fails["persist"] == (tc.problem == "") || o.Report.Persist == nil {
			t.Errorf("%q for %s: the preflight expects %v", tc.value, tc.name, o.Works)
		}
		if _, err := obtain(t, blind, []string{"blind"}, tc.name); (err == nil) != (tc.problem == "") {
			t.Errorf("%q for %s: the CA says %v", tc.value, tc.name, err)
		}
	}
}

// trusting presents without a look, so that the CA alone judges.
type trusting struct{ *dnspersist01.Solver }

func (trusting) Present(context.Context, challenges.Challenge) error { return nil }

func TestWarnings(t *testing.T) {
	b := startBIND(t)
	id := identifiers(t, "example.com")[0]
	w := dnspersist01.Want{Identifier: id, Issuers: []string{"ca.example"}, AccountURI: "https://ca.example/acct/1"}
	r := w.Record()
	for days, want := range map[int]string{0: "", 31: "", 29: "expires at", -1: "expired, persistUntil was"} {
		if r.Until = (time.Time{}); days != 0 {
			r.Until = time.Now().Add(time.Duration(days) * 24 * time.Hour)
		}
		b.set(dnspersist01.Name(id), r.Line(id))
		if got := b.solver().Warn(t.Context(), w); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%d days before: %q, want %q", days, got, want)
		}
	}
	b.set(dnspersist01.Name(id))
	if got := b.solver().Warn(t.Context(), w); !strings.Contains(got, "there is no record; publish: _validation-persist.example.com. IN TXT") {
		t.Errorf("without a record: %q", got)
	}
}

func TestLongRecordsAreSplit(t *testing.T) {
	b := startBIND(t)
	id := identifiers(t, "example.com")[0]
	w := dnspersist01.Want{Identifier: id, Issuers: []string{"ca.example"}, AccountURI: "https://ca.example/acct/" + strings.Repeat("x", 400)}
	b.set(dnspersist01.Name(id), w.Record().Line(id))
	if f := b.solver().Find(t.Context(), w); len(f.Problems) != 0 {
		t.Error(f.Problems)
	}
}
