package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
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
		{name: "CDN", attention: true, findings: preflight.Findings{Addresses: at(preflight.HTTP{Outcome: preflight.Other, Status: 403, Proxy: "Imperva"}, preflight.TLS{})},
			want: "http-01 does not reach|Imperva answered with status 403|let Imperva pass"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.issuer.Name, tc.issuer.Directory, tc.issuer.CAAIdentities = "ca", "https://ca.example/dir", []string{"ca.example"}
			id := certs.Identifier{Type: certs.DNS, Value: "example.com"}
			n := control.NameDiagnosis{Identifier: id.Value, Solver: tc.works, Report: &preflight.Report{Findings: tc.findings}}
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
