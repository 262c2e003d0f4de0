package daemon

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/preflight"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

func at(h preflight.HTTP, s preflight.TLS) []preflight.Address {
	return []preflight.Address{{Address: netip.MustParseAddr("192.0.2.1"), HTTP: h, TLS: s}}
}

// TestFindings: each finding says what, why and what to do, and needs attention only where no solver is left.
func TestFindings(t *testing.T) {
	ours, closed := preflight.HTTP{Outcome: preflight.Ours}, preflight.HTTP{Outcome: preflight.Closed, Error: "connection refused"}
	front := preflight.TLS{Outcome: preflight.Other, Names: []string{"cdn.example"}}
	holder := &challenges.Process{Name: "nginx", PID: 12}
	for _, tc := range []struct {
		name      string
		issuer    control.IssuerDiagnosis
		findings  preflight.Findings
		works     string
		server    string
		attention bool
		want      string // what|why|do, parts of them; "" for nothing
	}{
		{name: "well", works: "http-01", findings: preflight.Findings{Addresses: at(ours, preflight.TLS{Outcome: preflight.Ours})}},
		{name: "clock ahead", works: "http-01", issuer: control.IssuerDiagnosis{ClockOffset: 400}, attention: true,
			want: "6m40s ahead of that of ca|not valid yet|set-ntp"},
		{name: "clock behind", works: "http-01", issuer: control.IssuerDiagnosis{ClockOffset: -61}, attention: true, want: "1m1s behind that of ca||"},
		{name: "clock near enough", works: "http-01", issuer: control.IssuerDiagnosis{ClockOffset: 60}},
		{name: "CA away", works: "http-01", issuer: control.IssuerDiagnosis{Error: "no route"}, attention: true, want: "ca cannot be asked|no route|https://ca.example/dir"},
		{name: "CAA", works: "http-01", attention: true,
			findings: preflight.Findings{DNS: preflight.DNS{Zone: "example.com", CAA: []preflight.CAARecord{{Tag: "issue", Value: "other.example"}}}},
			want:     `CAA forbids ca|issue "other.example"|example.com. CAA 0 issue "ca.example"`},
		{name: "DNSSEC", attention: true, findings: preflight.Findings{DNS: preflight.DNS{Bogus: true, Error: "DNSSEC validation fails"}},
			want: "DNSSEC validation fails|CAs validate|DS record"},
		{name: "no address", attention: true, findings: preflight.Findings{DNS: preflight.DNS{Error: "NXDOMAIN"}}, want: "DNS does not lead|NXDOMAIN|dns-01"},
		{name: "port held", attention: true, findings: preflight.Findings{Local: []preflight.Local{{Type: challenges.HTTP01, Holder: holder, Error: "nginx (pid 12) is listening there"}}},
			want: "http-01 is not available on this machine|nginx (pid 12)|acmed snippet nginx"},
		{name: "port held by somebody", attention: true, findings: preflight.Findings{Local: []preflight.Local{{Type: challenges.HTTP01, Taken: true, Error: "another process is listening there"}}},
			want: "http-01 is not available on this machine|another process|acmed doctor"},
		{name: "not allowed", attention: true, findings: preflight.Findings{Local: []preflight.Local{{Type: challenges.HTTP01, Error: "permission denied"}}},
			want: "http-01 is not available on this machine|permission|CAP_NET_BIND_SERVICE"},
		{name: "TLS port held", findings: preflight.Findings{Local: []preflight.Local{{Type: challenges.TLSALPN01, Holder: holder, Error: "nginx (pid 12) is listening there"}}},
			works: "http-01", want: "tls-alpn-01 is not available|nginx (pid 12)|acmed snippet nginx --mode tls-alpn"},
		{name: "TLS in front", works: "http-01", findings: preflight.Findings{Addresses: at(ours, front)},
			want: "tls-alpn-01 does not reach acmed at 192.0.2.1|cdn.example|use http-01"},
		{name: "closed", attention: true, findings: preflight.Findings{Addresses: at(closed, preflight.TLS{})},
			want: "http-01 does not reach acmed at 192.0.2.1|connection refused|forward port 80"},
		{name: "stopped here", attention: true, server: "nginx", findings: preflight.Findings{Addresses: []preflight.Address{{Address: netip.MustParseAddr("192.0.2.1"), Own: true, HTTP: closed}}},
			want: "http-01 does not reach|connection refused|the address is this machine's, and nginx is not running there: start it (systemctl start nginx)"},
		{name: "stopped here, webroot", attention: true, findings: preflight.Findings{Webroot: "/srv/www", Addresses: []preflight.Address{{Address: netip.MustParseAddr("127.0.0.1"), HTTP: closed}}},
			want: "http-01 does not reach|connection refused|the web server is not running there"},
		{name: "webroot missing", attention: true, findings: preflight.Findings{Local: []preflight.Local{{Type: challenges.HTTP01, Path: "/srv/gone", Error: "open /srv/gone: no such file or directory"}}},
			want: "http-01 cannot use the directory /srv/gone|no such file|create /srv/gone or correct the path in the solver"},
		{name: "webroot elsewhere", attention: true, findings: preflight.Findings{Webroot: "/srv/www", Served: "/var/www/html", Addresses: at(preflight.HTTP{Outcome: preflight.Other, Status: 404}, preflight.TLS{})},
			want: "http-01 does not reach|status 404|the solver writes into /srv/www, and the web server serves /var/www/html"},
		{name: "webroot not readable", attention: true, findings: preflight.Findings{Webroot: "/srv/www", Served: "/srv/www", Addresses: at(preflight.HTTP{Outcome: preflight.Other, Status: 403}, preflight.TLS{})},
			want: "http-01 does not reach|status 403|let the web server read /srv/www"},
		{name: "webroot not served", attention: true, findings: preflight.Findings{Webroot: "/srv/www", Addresses: at(preflight.HTTP{Outcome: preflight.Other, Status: 404}, preflight.TLS{})},
			want: "http-01 does not reach|status 404|compare /srv/www with the directory"},
		{name: "DNS service", works: "http-01", attention: true, findings: preflight.Findings{Local: []preflight.Local{{Type: challenges.DNS01, Solver: "team-a", Path: "/etc/acmed/secrets/team-a.env", Error: "[status code 403] Authentication error"}}},
			want: "the solver team-a does not work|status code 403|check /etc/acmed/secrets/team-a.env"},
		{name: "resolver", attention: true, findings: preflight.Findings{DNS: preflight.DNS{Silent: true, Error: "the resolver 192.0.2.53:53 (/etc/resolv.conf) does not answer"}},
			want: "the resolver does not answer|192.0.2.53:53 (/etc/resolv.conf)|probe.resolver"},
		{name: "CDN", attention: true, findings: preflight.Findings{Addresses: at(preflight.HTTP{Outcome: preflight.Other, Status: 403, Proxy: "Imperva"}, preflight.TLS{})},
			want: "http-01 does not reach|Imperva answered with status 403|let Imperva pass"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.issuer.Name, tc.issuer.Directory, tc.issuer.CAAIdentities = "ca", "https://ca.example/dir", []string{"ca.example"}
			id := certs.Identifier{Type: certs.DNS, Value: "example.com"}
			n := control.NameDiagnosis{Identifier: id.Value, Server: tc.server, Solver: tc.works, Report: &preflight.Report{Findings: tc.findings}}
			if tc.works == "" || tc.want != "" {
				n.Fails = []string{"tls-alpn-01"}
			}
			got := findings(&control.Diagnosis{Issuers: []control.IssuerDiagnosis{tc.issuer}, Names: []control.NameDiagnosis{n}},
				[]patient{{id: id, issuers: []string{"ca"}}})
			if tc.want == "" {
				if len(got) != 0 {
					t.Errorf("got %+v", got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("got %+v", got)
			}
			parts := strings.Split(tc.want, "|")
			f := got[0]
			if !strings.Contains(f.What, parts[0]) || !strings.Contains(f.Why, parts[1]) || !strings.Contains(f.Do, parts[2]) || f.Attention != tc.attention {
				t.Errorf("got %+v", f)
			}
			if f.Why == "" || f.Do == "" || strings.Contains(f.What+f.Why+f.Do, "\n") {
				t.Errorf("want one line each: %+v", f)
			}
		})
	}
}

// TestDoctorFindsTheClock: 400 seconds between this machine's clock and the Date header of a CA are told, and in which
// direction.
func TestDoctorFindsTheClock(t *testing.T) {
	ca := acmetest.Start(t)
	dir, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	for ahead, want := range map[time.Duration]string{400 * time.Second: "ahead of that of ca", -400 * time.Second: "behind that of ca"} {
		i, err := issuer.New(issuer.Config{
			Name: "ca", Directory: ca.Directory, Private: true, Roots: ca.Roots, Store: dir, Clock: func() time.Time { return time.Now().Add(ahead) },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = i.Close() })
		is := examineIssuer(t.Context(), "ca", madeIssuer{Issuer: i})
		got := issuerFindings(&is)
		if len(got) != 1 || !got[0].Attention || !strings.Contains(got[0].What, want) || (time.Duration(is.ClockOffset)*time.Second-ahead).Abs() > 2*time.Second {
			t.Errorf("%s: %+v, %+v", ahead, is, got)
		}
	}
}

// TestDoctorTriesDNS: a service that rejects the credential is found without an order, asked once, and named with the file.
func TestDoctorTriesDNS(t *testing.T) {
	var asked atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "no such token", http.StatusForbidden)
	}))
	defer service.Close()
	names := acmetest.Start(t).DNS
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := dns01.New(dns01.Config{
		HTTPReq: &dns01.HTTPReqConfig{Endpoint: service.URL, Username: "acmed", PasswordFile: password}, Resolvers: []string{names.Addr},
	}, dns01.Options{Name: "team-a", Journal: dns01.NewJournal(filepath.Join(t.TempDir(), "dns")), Locks: new(dns01.Locks), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	var patients []patient
	for _, name := range []string{"example.com", "*.example.com"} {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		patients = append(patients, patient{certificate: "www", id: id, ladder: challenges.Ladder{{Name: "team-a", Solver: s}}, issuers: []string{"ca"}})
	}
	broken := tryDNS(t.Context(), patients)
	n := examine(t.Context(), preflight.Config{Resolver: names.Addr}, patients[1], broken)
	found := nameFindings(&n)
	if len(found) != 1 || !found[0].Attention || n.Solver != "" || !slices.Equal(n.Fails, []string{"team-a"}) {
		t.Fatalf("%+v, %+v", n, found)
	}
	for _, want := range []string{"the solver team-a does not work", "403 Forbidden: no such token", password} {
		if text := fmt.Sprint(found[0]); !strings.Contains(text, want) || strings.Contains(text, "secret") {
			t.Errorf("%s, want %q", text, want)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}
