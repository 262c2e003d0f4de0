package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// fleet are n certificates of several kinds: most are well, each ninth fails for one of two causes, one has a long name.
func fleet(n int) control.Status {
	all := control.Status{Certificates: make([]renewal.Status, n)}
	for i := range all.Certificates {
		c := renewal.Status{
			Name: fmt.Sprintf("site-%05d", i), Names: []string{fmt.Sprintf("s%d.example.com", i), fmt.Sprintf("www.s%d.example.com", i)},
			Health: renewal.HealthOK, Version: "20261101T120000Z-ab12cd34", Issuer: "letsencrypt", From: in(-20), NotAfter: in(70 - i%30),
			Reason: plan.ReasonNothing, Message: "renews on 2026-12-29", Next: in(38), Renewal: &renewal.RenewalStatus{At: in(38), Reason: plan.ReasonRenewBefore},
			Targets: []renewal.TargetStatus{{ID: "nginx", Installed: true, VerifiedAt: statusAt.Add(-time.Hour)}},
		}
		switch {
		case i == 40:
			c.Name = "a-" + strings.Repeat("very-", 10) + "long-name"
		case i%18 == 9:
			c.Health, c.Error, c.Code, c.Reason = renewal.HealthFailing, "http-01: connection refused by "+strings.Repeat("2001:db8::", 4), advice.PortClosed, plan.ReasonBackoff
			c.RetryAt, c.Next = statusAt.Add(time.Hour), statusAt.Add(time.Hour)
		case i%18 == 0 && i > 0:
			c.Health = renewal.HealthNotInstalled
			c.Targets[0] = renewal.TargetStatus{ID: "nginx", Error: "test failed: unknown directive \"sll\" in /etc/nginx/sites-enabled/www:3", Code: advice.ServerTestFailed, RetryAt: statusAt.Add(9 * time.Minute)}
		}
		all.Certificates[i] = c
	}
	return all
}

// shown is what a terminal of a width gets.
func shownAt(width int, s control.Status) string {
	var out bytes.Buffer
	(&app{out: &out}).tableIn(&grid{out: &out, width: width}, s, statusAt, false)
	return out.String()
}

func checkWidth(t *testing.T, width int, out string) {
	t.Helper()
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("a line of %d at %d columns: %s", n, width, line)
		}
	}
}

// TestSizesGolden: the tables of status and history at the usual widths of terminals, byte for byte.
func TestSizesGolden(t *testing.T) {
	history := control.History{Versions: []control.StoredVersion{
		{ID: "20261121T120000Z-ef56aa01", State: control.VersionHeld, Detail: "till-2019 would not trust it: certificate signed by unknown authority", Issuer: "letsencrypt", Created: in(0), NotAfter: in(90)},
		{ID: "20261101T120000Z-ab12cd34", State: control.VersionActive, Issuer: "letsencrypt", Created: in(-20), NotAfter: in(70)},
		{ID: "20260902T120000Z-99aa77bb", State: control.VersionEarlier, Issuer: "backup", Created: in(-80), NotAfter: in(10)},
	}}
	for _, width := range []int{80, 100} {
		for _, n := range []int{1, 66} {
			out := shownAt(width, fleet(n))
			checkWidth(t, width, out)
			golden(t, filepath.Join("testdata", "status", fmt.Sprintf("table-%d-%d.txt", n, width)), []byte(out))
		}
		var out bytes.Buffer
		historyIn(&grid{out: &out, width: width}, history)
		checkWidth(t, width, out.String())
		golden(t, filepath.Join("testdata", "status", fmt.Sprintf("history-%d.txt", width)), out.Bytes())
		for _, v := range history.Versions {
			if !strings.Contains(out.String(), v.ID+" ") {
				t.Errorf("the version %s is cut at %d columns", v.ID, width)
			}
		}
	}
}

// TestTenThousand: every certificate has its line, a cause is one line however many have it, nothing is longer than the
// terminal is wide, and memory grows with the number of certificates alone. The beginning and the end are in testdata/status.
func TestTenThousand(t *testing.T) {
	for _, width := range []int{80, 100} {
		all := fleet(10_000)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out := shownAt(width, all)
		runtime.ReadMemStats(&after)
		checkWidth(t, width, out)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if n := len(lines); n < 1+10_000+2+1 || n > 10_012 { // the header, the certificates, two causes with remedies, the sum
			t.Errorf("%d lines", n)
		}
		tail := strings.Join(lines[10_001:], "\n")
		golden(t, filepath.Join("testdata", "status", fmt.Sprintf("table-10000-%d.txt", width)), []byte(strings.Join(lines[:20], "\n")+"\n[...]\n"+tail+"\n"))
		for _, want := range []string{"port-closed: 556 certificates: ", "server-test-failed: 555 certificates: ", "10000 certificates: 556 failing, 555 not-installed, 8889 ok"} {
			if !strings.Contains(tail, want) {
				t.Errorf("no %q in\n%s", want, tail)
			}
		}
		if each := (after.TotalAlloc - before.TotalAlloc) / 10_000; each > 20_000 {
			t.Errorf("%d bytes for each certificate", each)
		}
	}
}
