package daemon

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/trust"
)

// later is a certificate of a CA that does not deliver the only chain that a client trusts, and the file that has it.
type later struct {
	*harness
	ca     *acmetest.CA
	served string
}

func newLater(t *testing.T) *later {
	ca := acmetest.Start(t, acmetest.WithAlternateRoots(1))
	l := &later{newHarness(t, ca), ca, filepath.Join(t.TempDir(), "fullchain.pem")}
	var err error
	if l.web, err = file.New(file.Config{Dir: filepath.Dir(l.served), FullChain: filepath.Base(l.served), Key: "key.pem"}, installers.Target{Journal: t.TempDir(), Names: l.spec.Identifiers}); err != nil {
		t.Fatal(err)
	}
	l.spec.Targets = []string{"web"}
	root, err := certs.ParseChain(ca.IssuingRootPEM(1))
	if err != nil {
		t.Fatal(err)
	}
	l.trusts = []*trust.Store{trust.New("partner", root)}
	l.withhold()
	return l
}

// withhold makes the CA have no alternate chain.
func (l *later) withhold() {
	l.ca.Use(acmetest.AlternateFault(0, acmetest.Problem(http.StatusNotFound, "malformed", "not yet", "")))
}

// trusted reports whether the partner accepts what is served, which the file has too.
func (l *later) trusted(out *outcome) bool {
	l.t.Helper()
	text, err := os.ReadFile(l.served)
	if err != nil || string(text) != string(out.have.Current.FullChainPEM()) {
		l.t.Errorf("the file is not what is active, %v", err)
	}
	return trust.Judge(out.have.Current, l.trusts, time.Now())[0].Err == nil
}

// TestChainComesLater: the certificate is used with the chain that there is, status says what is missing, and the chain that a
// client needs is used as soon as the CA has it, without another order.
func TestChainComesLater(t *testing.T) {
	l := newLater(t)
	got := l.run(renewal.Options{})
	if got.Err != nil || l.trusted(&got) {
		t.Fatalf("%+v", got.Result)
	}
	says := strings.Join(got.status.Warnings, "\n")
	if !strings.Contains(says, "alternate chain unavailable: https://") || !strings.Contains(says, ": not yet (malformed, HTTP status 404); next attempt at ") {
		t.Errorf("status says %q", says)
	}
	l.ca.Use()
	before := l.ca.Requests(acmetest.Certificate)
	if got = l.run(renewal.Options{}); l.trusted(&got) || l.ca.Requests(acmetest.Certificate) != before {
		t.Errorf("it asked at once: %d requests", l.ca.Requests(acmetest.Certificate)-before)
	}
	if got.Next.After(got.have.State.Chains.RetryAt) {
		t.Errorf("the next look is at %s, the next attempt at %s", got.Next, got.have.State.Chains.RetryAt)
	}
	l.goTo(got.have.State.Chains.RetryAt)
	leaf := got.have.Current.Fingerprint()
	if got = l.run(renewal.Options{}); got.Err != nil || !l.trusted(&got) || got.have.Current.Fingerprint() != leaf {
		t.Fatalf("%+v", got.Result)
	}
	if n := l.ca.Requests(acmetest.NewOrder); n != 1 || len(got.status.Warnings) != 0 || got.have.State.Chains != nil {
		t.Errorf("%d orders, warnings %q", n, got.status.Warnings)
	}
}

// TestChainComesForAHeldVersion: with it the version is not held any more.
func TestChainComesForAHeldVersion(t *testing.T) {
	l := newLater(t)
	l.ca.Use()
	got := l.run(renewal.Options{})
	if !l.trusted(&got) {
		t.Fatalf("%+v", got.Result)
	}
	l.withhold()
	got = l.run(renewal.Options{Force: true})
	if got.have.State.Held == nil || !l.trusted(&got) {
		t.Fatalf("%+v, held %+v", got.Result, got.have.State.Held)
	}
	old := got.have.Current.Fingerprint()
	l.ca.Use()
	l.goTo(got.have.State.Chains.RetryAt)
	got = l.run(renewal.Options{})
	if got.have.State.Held != nil || !l.trusted(&got) || got.have.Current.Fingerprint() == old || l.ca.Requests(acmetest.NewOrder) != 2 {
		t.Errorf("%+v, held %+v, %d orders", got.Result, got.have.State.Held, l.ca.Requests(acmetest.NewOrder))
	}
}

// TestChainNeverComes: the CA is asked six times within a week, and no more.
func TestChainNeverComes(t *testing.T) {
	l := newLater(t)
	got := l.run(renewal.Options{})
	before, begun, asked := l.ca.Requests(acmetest.Certificate), l.clock(), 0
	for ; !got.have.State.Chains.RetryAt.IsZero(); asked++ {
		l.goTo(got.have.State.Chains.RetryAt)
		if got = l.run(renewal.Options{}); got.Err != nil {
			t.Fatal(got.Err)
		}
	}
	if took := l.clock().Sub(begun); asked != 6 || took > 8*day {
		t.Errorf("asked %d times in %s", asked, took)
	}
	if n := l.ca.Requests(acmetest.Certificate) - before; n > 6*8 {
		t.Errorf("%d requests", n)
	}
	if says := strings.Join(got.status.Warnings, "\n"); !strings.Contains(says, "with the next certificate") {
		t.Errorf("status says %q", says)
	}
}
