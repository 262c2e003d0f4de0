package preflight_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/preflight"
)

// record is a dns-01 solver that is never asked.
type record struct{ challenges.Solver }

func (record) Type() challenges.Type { return challenges.DNS01 }

func look(ctx context.Context, t *testing.T, cfg preflight.Config, name string, ladder ...challenges.Rung) (o *preflight.Outlook, works, fails string) {
	t.Helper()
	id, _, err := certs.ParseIdentifier(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Timeout = 2 * time.Second
	o = preflight.Look(ctx, cfg, id, ladder)
	for _, r := range ladder {
		if o.Works[r.Name] {
			works += r.Name + " "
		}
		if o.Fails[r.Name] {
			fails += r.Name + " "
		}
	}
	return o, strings.TrimSpace(works), strings.TrimSpace(fails)
}

func TestLook(t *testing.T) {
	cfg, h, a := site(t)
	rungs := func() (alpn, webroot, plain, dns challenges.Rung) {
		return challenges.Rung{Name: "alpn", Solver: a}, challenges.Rung{Name: "webroot", Solver: http01.NewWebroot(http01.WebrootConfig{Dir: t.TempDir()}, nil)},
			challenges.Rung{Name: "plain", Solver: h}, challenges.Rung{Name: "dns", Solver: record{}}
	}
	alpn, webroot, plain, dns := rungs()

	_, works, fails := look(t.Context(), t, cfg, "example.com", alpn, plain, dns)
	if works != "alpn plain dns" || fails != "" {
		t.Errorf("direct: works %q, fails %q", works, fails)
	}
	// Nothing serves the webroot, so the next rung of the type is looked at too.
	if _, works, fails = look(t.Context(), t, cfg, "example.com", webroot, plain, alpn); works != "plain alpn" || fails != "webroot" {
		t.Errorf("an empty webroot: works %q, fails %q", works, fails)
	}
	if _, works, fails = look(t.Context(), t, cfg, "example.com", plain, webroot); works != "plain" || fails != "" {
		t.Errorf("the second was not needed: works %q, fails %q", works, fails)
	}
	if o, works, _ := look(t.Context(), t, cfg, "*.example.com", alpn, plain, dns); works != "dns" || o.Hopeless() {
		t.Errorf("wildcard: works %q", works)
	}
	o, works, fails := look(t.Context(), t, cfg, "nowhere.example", alpn, plain)
	if works+fails != "" || !o.Hopeless() || !strings.Contains(o.Report.Summary(), "NXDOMAIN") {
		t.Errorf("no address: works %q, fails %q, %q", works, fails, o.Report.Summary())
	}

	front(t, cfg.TLSPort, true, http.NotFoundHandler())
	o, works, fails = look(t.Context(), t, cfg, "example.com", alpn, plain, dns)
	if works != "plain dns" || fails != "alpn" || o.Hopeless() {
		t.Errorf("TLS in front: works %q, fails %q", works, fails)
	}
	if got := o.Report.Summary(); !strings.Contains(got, "is listening there") {
		t.Errorf("summary %q", got)
	}
	if o, _, _ = look(t.Context(), t, cfg, "example.com", alpn); !o.Hopeless() {
		t.Error("a taken port leaves hope")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o, works, fails = look(ctx, t, cfg, "example.com", alpn, plain); works+fails != "" || o.Report == nil {
		t.Errorf("cancelled: works %q, fails %q", works, fails)
	}
}

func TestSummary(t *testing.T) {
	for want, r := range map[string]preflight.Report{
		"": {Verdict: preflight.Verdict{Class: preflight.Direct}},
		"TLS is terminated in front by Cloudflare":     {Verdict: preflight.Verdict{Class: preflight.HTTPPasses, Proxy: "Cloudflare"}},
		"TLS is terminated in front by another server": {Verdict: preflight.Verdict{Class: preflight.Terminated}},
		"Imperva answers on port 80":                   {Verdict: preflight.Verdict{Class: preflight.Elsewhere, Proxy: "Imperva"}},
		"nothing answers at its address":               {Verdict: preflight.Verdict{Class: preflight.Unreachable}},
		"CAA records forbid this CA":                   {Verdict: preflight.Verdict{Class: preflight.Direct, Blocked: true}},
		"DNSSEC is broken":                             {Findings: preflight.Findings{DNS: preflight.DNS{Bogus: true}}, Verdict: preflight.Verdict{Blocked: true}},
	} {
		if got := r.Summary(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
