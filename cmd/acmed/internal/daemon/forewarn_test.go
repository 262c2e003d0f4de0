package daemon

import (
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// TestForewarn: the CAA records are looked up for every issuer of a certificate, the backup's included, at the configured
// resolver, and only where they count.
func TestForewarn(t *testing.T) {
	main, backup := acmetest.Start(t, acmetest.WithCAAIdentities("main.example")), acmetest.Start(t, acmetest.WithCAAIdentities("backup.example"))
	dir, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	made := func(ca *acmetest.CA, private bool) madeIssuer {
		i, err := issuer.New(issuer.Config{Name: "ca", Directory: ca.Directory, Private: true, Roots: ca.Roots, Store: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = i.Close() })
		return madeIssuer{Issuer: i, conf: config.Issuer{Private: private}, probe: config.Probe{Resolver: main.DNS.Addr}}
	}
	issuers := map[string]madeIssuer{"main": made(main, false), "backup": made(backup, false), "own": made(backup, true)}
	main.DNS.AddDNSCAARecord("example.com.", []challtestsrv.CAAPolicy{{Tag: "issue", Value: "main.example"}})
	www := certs.Identifier{Type: certs.DNS, Value: "www.example.com"}
	for _, tc := range []struct {
		name    string
		issuers []string
		ids     []certs.Identifier
		want    []string // parts of one warning each
	}{
		{"allowed", []string{"main"}, []certs.Identifier{www}, nil},
		{"the backup is forbidden", []string{"main", "backup"}, []certs.Identifier{www}, []string{`forbid backup to issue for www.example.com; add: example.com. CAA 0 issue "backup.example"`}},
		{"one's own CA is not asked", []string{"main", "own"}, []certs.Identifier{www}, nil},
		{"another zone", []string{"backup"}, []certs.Identifier{{Type: certs.DNS, Value: "www.example.net"}}, nil},
		{"an address", []string{"backup"}, []certs.Identifier{{Type: certs.IP, Value: "192.0.2.1"}}, nil},
		{"an issuer that is not there", []string{"nobody"}, []certs.Identifier{www}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &builder{log: zap.NewNop()}
			got := b.forewarn(nil, issuers)(t.Context(), &certs.Spec{Issuers: tc.issuers, Identifiers: tc.ids})
			if !slices.EqualFunc(got, tc.want, strings.Contains) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestForewarnOfSolvers: a webroot that has gone, or that a sandbox closes, is told before a renewal needs it.
func TestForewarnOfSolvers(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	rungs := map[string]challenges.Rung{
		"good": {Name: "good", Solver: http01.NewWebroot(http01.WebrootConfig{Dir: t.TempDir()}, nil)}, "gone": {Name: "gone", Solver: http01.NewWebroot(http01.WebrootConfig{Dir: gone}, nil)},
		"cdn": {Name: "cdn", Solver: http01.Stateless{}},
	}
	b := &builder{log: zap.NewNop()}
	got := b.forewarn(rungs, nil)(t.Context(), &certs.Spec{Solvers: []string{"good", "gone", "cdn"}})
	if len(got) != 1 || !strings.Contains(got[0], "the solver gone cannot validate names now: write into "+gone+": no such file or directory") {
		t.Errorf("got %q", got)
	}
}

// TestForewarnOfPersistentRecords: the record of dns-persist-01 is looked at for the account that there is.
func TestForewarnOfPersistentRecords(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithCAAIdentities("ca.example"))
	dir, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	i, err := issuer.New(issuer.Config{Name: "ca", Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	_, port, _ := net.SplitHostPort(ca.DNS.Addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	solver := dnspersist01.New(dnspersist01.Config{Resolvers: []string{ca.DNS.Addr}, AuthoritativePort: uint16(n)}, dns01.Values, time.Now)
	rungs := map[string]challenges.Rung{"persist": {Name: "persist", Solver: solver}}
	issuers := map[string]madeIssuer{"ca": {Issuer: i, conf: config.Issuer{Name: "ca", Private: true}}}
	id, _, err := certs.ParseIdentifier("*.example.com")
	if err != nil {
		t.Fatal(err)
	}
	want := &certs.Spec{Solvers: []string{"persist"}, Issuers: []string{"ca"}, Identifiers: []certs.Identifier{id}}
	look := func() string {
		return strings.Join((&builder{log: zap.NewNop()}).forewarn(rungs, issuers)(t.Context(), want), "; ")
	}
	if got := look(); got != "" {
		t.Errorf("without an account: %s", got)
	}
	account, err := i.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := look(); !strings.Contains(got, "there is no record; publish: _validation-persist.example.com. IN TXT") {
		t.Errorf("without a record: %q", got)
	}
	record := dnspersist01.Record{Issuer: "ca.example", AccountURI: account.URI, Wildcard: true, Until: time.Now().Add(10 * 24 * time.Hour)}
	ca.DNS.AddDNSTXTRecord(dnspersist01.Name(id), record.String())
	if got := look(); !strings.Contains(got, "expires at "+record.Until.UTC().Format(time.DateOnly)) {
		t.Errorf("10 days before persistUntil: %q", got)
	}
	ca.DNS.DeleteDNSTXTRecord(dnspersist01.Name(id))
	record.Until = time.Time{}
	ca.DNS.AddDNSTXTRecord(dnspersist01.Name(id), record.String())
	if got := look(); got != "" {
		t.Errorf("all is well, and the warning is %q", got)
	}
}
