package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// statusAt is the time in the golden files.
var statusAt = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// TestStatusGolden: what "acmed status" prints is in testdata/status, byte for byte. UPDATE_SCRIPTS=1 writes it anew. The
// files of -o json are the promise that fields are added, never changed.
func TestStatusGolden(t *testing.T) {
	zone := time.Local
	time.Local = time.UTC
	defer func() { time.Local = zone }()
	all := control.Status{
		Version: control.Version, Daemon: &control.Daemon{
			Version: "v1.2.3", PID: 4711, Started: in(-9), Config: "/etc/acmed/acmed.yaml", ReloadError: "acmed.yaml:7: unknown key \"solver\"",
		},
		Certificates: []renewal.Status{goldenWWW(), goldenMail(), goldenNew()},
	}
	one := func(i int) control.Status {
		return control.Status{Version: control.Version, Certificates: all.Certificates[i : i+1]}
	}
	for name, show := range map[string]func(*app) error{
		"table.txt":   func(a *app) error { a.table(all, statusAt, selection{output: "table"}); return nil },
		"wide.txt":    func(a *app) error { a.table(all, statusAt, selection{output: "wide"}); return nil },
		"ok.txt":      func(a *app) error { a.story(one(0), statusAt); return nil },
		"failing.txt": func(a *app) error { a.story(one(1), statusAt); return nil },
		"missing.txt": func(a *app) error { a.story(one(2), statusAt); return nil },
		"status.json": func(a *app) error { return a.json(all) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := show(&app{out: &out}); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "status", name), out.Bytes())
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_SCRIPTS") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what is printed (-file +printed):\n%s", file, diff)
	}
}

// in is a number of days from the time of the golden files.
func in(days int) time.Time { return statusAt.AddDate(0, 0, days) }

// goldenWWW is all well, with everything that there is to tell.
func goldenWWW() renewal.Status {
	return renewal.Status{
		Name: "www", Names: []string{"example.com", "www.example.com", "shop.example.com", "blog.example.com"}, Health: renewal.HealthOK,
		Version: "20261101-120000-ab12", Serial: "4f0c", Issuer: "letsencrypt", KeyTypes: []certs.KeyType{certs.EC256, certs.RSA2048},
		From: in(-20), NotAfter: in(70), Reason: plan.ReasonNothing, Message: "renews on 2026-12-29", Next: in(38),
		Renewal: &renewal.RenewalStatus{
			At: in(38), Reason: plan.ReasonARI, Rule: in(40), Start: in(37), End: in(39), Drawn: in(38), URL: "https://ca.example/docs/ari",
			AskAt: statusAt.Add(5 * time.Hour),
		},
		Chain: []renewal.LinkStatus{
			{Subject: "", Issuer: "CN=R12,C=US", KeyType: certs.EC256, From: in(-20), NotAfter: in(70), Fingerprint: "9f3a"},
			{Subject: "CN=R12,C=US", Issuer: "CN=ISRG Root X1", KeyType: certs.RSA2048, From: in(-900), NotAfter: in(900), Fingerprint: "07bd"},
		},
		Targets: []renewal.TargetStatus{
			{ID: "nginx", Installed: true, VerifiedAt: statusAt.Add(-3 * time.Hour)}, {ID: "file:/srv/tls", Off: true, VerifiedAt: in(-4)},
		},
		Solved: map[string]string{"example.com": "http", "shop.example.com": "dns"},
		Versions: []renewal.VersionStatus{
			{ID: "20261101-120000-ab12", Active: true, Issuer: "letsencrypt", Created: in(-20), From: in(-20), NotAfter: in(70)},
			{ID: "20260902-120000-99aa", Issuer: "backup", Created: in(-80), From: in(-80), NotAfter: in(10)},
		},
		Warnings: []string{"the CAA records of example.com forbid backup to issue for www.example.com"},
		Notes:    []string{"the copy of the account key is older than the key"},
		Validations: []certs.Validation{
			{Identifier: "example.com", Solver: "http", Type: "http-01"}, {Identifier: "www.example.com", Solver: "http-01", Type: "http-01"},
			{Identifier: "shop.example.com", Solver: "dns", Type: "dns-01", Reason: "http failed: connection refused"},
		},
		Trust: []renewal.TrustStatus{{Client: "firmware-1.2", Until: in(900)}, {Client: "till-2019", Error: "it does not know ISRG Root X1"}},
	}
}

// goldenMail fails in every way at once.
func goldenMail() renewal.Status {
	return renewal.Status{
		Name: "mail", Names: []string{"mail.example.com"}, Health: renewal.HealthFailing, Version: "20260916-120000-cd34", Serial: "77",
		Issuer: "letsencrypt", KeyTypes: []certs.KeyType{certs.EC256}, From: in(-66), NotAfter: in(24), Reason: plan.ReasonBackoff,
		Message: "24 days of validity remain; try 4 failed", Order: true, Next: statusAt.Add(17 * time.Hour), Failures: 4,
		Error: "mail.example.com: http-01: connection refused", Code: advice.PortClosed, RetryAt: statusAt.Add(17 * time.Hour),
		Renewal: &renewal.RenewalStatus{At: in(-6), Rule: in(-6), Reason: plan.ReasonRenewBefore},
		Targets: []renewal.TargetStatus{{
			ID: "nginx", VerifiedAt: in(-3), Error: "nginx -t: unknown directive", Code: advice.ServerTestFailed, RetryAt: statusAt.Add(9 * time.Minute),
		}},
		Hook:     &renewal.HookStatus{Failures: 2, Error: "exit status 1", Code: advice.NoPermission, RetryAt: statusAt.Add(time.Hour)},
		Pinned:   "20260916-120000-cd34",
		Held:     &renewal.HeldStatus{Version: "20261120-120000-ef56", Clients: []string{"till-2019"}, Reason: "till-2019 would not trust it", Since: in(-1), Until: in(9)},
		Versions: []renewal.VersionStatus{{ID: "20260916-120000-cd34", Active: true, Issuer: "letsencrypt", Created: in(-66), From: in(-66), NotAfter: in(24)}},
		Running:  true,
	}
}

// goldenNew has no certificate yet.
func goldenNew() renewal.Status {
	return renewal.Status{
		Name: "new", Names: []string{"new.example.com"}, Health: renewal.HealthMissing, Reason: plan.ReasonNeverIssued,
		Message: "there is no certificate yet", Order: true, Next: statusAt, Targets: []renewal.TargetStatus{{ID: "nginx"}},
	}
}
