package acmetest_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

func TestPebbleAsProcess(t *testing.T) {
	p := acmetest.StartProcess(t, acmetest.WithProfile("default", time.Hour), acmetest.WithAlternateRoots(1))
	pem, _, err := acmetest.BareOrder(t.Context(), p.Server, "a.example.com", "b.example.com")
	if err != nil {
		t.Fatal(err)
	}
	chain := parse(t, pem)
	verify(t, chain, p.IssuingRoots(), "b.example.com")
	if life := chain[0].NotAfter.Sub(chain[0].NotBefore); life > time.Hour {
		t.Errorf("the certificate lives %s, want an hour", life)
	}
	if string(p.IssuingRootPEM(0)) == string(p.IssuingRootPEM(1)) {
		t.Error("the alternate root is the main one")
	}
	if err := p.SetRenewalInfoRaw(chain[0], "{}"); err != nil {
		t.Error(err)
	}
	if revoked, _, err := p.Revoked(chain[0].SerialNumber); revoked || err != nil {
		t.Errorf("revoked %t, %v", revoked, err)
	}
	if err := p.Record(t.Context(), "set-servfail", map[string]any{"host": "broken.example.com."}); err != nil {
		t.Error(err)
	}
	if _, _, err := acmetest.BareOrder(t.Context(), p.Server, "broken.example.com"); err == nil {
		t.Error("the CA validated a name which does not resolve")
	}
	p.Close()
	if _, _, err := get(t, p.Server, time.Second); err == nil {
		t.Error("the CA answers after its end")
	}
}

func TestProcessIsTheReleaseInGoMod(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/letsencrypt/pebble/v2 " + acmetest.PebbleVersion + " "; !strings.Contains(strings.ReplaceAll(string(text), "\n", " "), want) {
		t.Errorf("go.mod does not say %q", want)
	}
}

func TestProcessOutlivesNoFailedStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := acmetest.NewProcess(ctx, t.TempDir()); err == nil {
		p.Close()
		t.Error("a cancelled start gave a CA")
	}
}

func TestStepCA(t *testing.T) {
	ca := acmetest.StartStepCA(t)
	for directory, limit := range map[string]time.Duration{ca.Directory: 25 * time.Hour, ca.Short: 10 * time.Minute} {
		server := ca.Server
		server.Directory = directory
		pem, _, err := acmetest.BareOrder(t.Context(), server, "a.example.com", "b.example.com")
		if err != nil {
			t.Fatal(err)
		}
		chain := parse(t, pem)
		verify(t, chain, ca.Roots, "a.example.com")
		if life := chain[0].NotAfter.Sub(chain[0].NotBefore); life > limit || life < limit/3 {
			t.Errorf("%s: the certificate lives %s, want about %s", directory, life, limit)
		}
	}
}
