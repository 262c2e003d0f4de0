package renewal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
	"github.com/acmed/acmed/pkg/trust"
)

// pki is a signing certificate with its key.
type pki struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPKI(t testing.TB, name string, parent *pki) *pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent = &pki{template, key}
	}
	return &pki{parent.sign(t, template, key), key}
}

func (p *pki) sign(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	fresh := *template
	fresh.SerialNumber, fresh.AuthorityKeyId = serial, nil
	der, err := x509.CreateCertificate(rand.Reader, &fresh, p.cert, key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// chainCA is a fake CA with an intermediate that can be exchanged, and other certificates for the same one.
type chainCA struct {
	*fakeCA
	name       string
	signer     *pki
	alternates []*x509.Certificate
}

func (ca *chainCA) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	self, err := ca.fakeCA.Obtain(ctx, req)
	if err != nil {
		return nil, err
	}
	key, err := certs.ParseKey(self.KeyPEM)
	if err != nil {
		return nil, err
	}
	leaf := ca.signer.sign(ca.t, self.Leaf, key.(*ecdsa.PrivateKey))
	b, err := certs.NewBundle(slices.Concat(certs.EncodeCert(leaf), certs.EncodeCert(ca.signer.cert)), self.KeyPEM)
	if err != nil {
		return nil, err
	}
	for _, c := range ca.alternates {
		b.Alternates = append(b.Alternates, certs.EncodeCert(c))
	}
	b.Issuer = ca.name
	return b, nil
}

// gated is a bench whose CA signs with the intermediate "X3".
type gated struct {
	*bench
	chain  *chainCA
	root   *pki
	x3, r3 *pki
	client Clients
	backup Issuer
}

func newGated(t testing.TB, life time.Duration) *gated {
	b := newBench(t, life)
	g := &gated{bench: b, root: newPKI(t, "root", nil)}
	g.x3, g.r3 = newPKI(t, "X3", g.root), newPKI(t, "R3", g.root)
	g.chain = &chainCA{fakeCA: b.ca, name: "ca", signer: g.x3}
	g.swap()
	return g
}

// pinning makes a client that trusts these certificates and nothing else.
func pinning(name string, list ...*pki) []*trust.Store {
	anchors := make([]*x509.Certificate, len(list))
	for i, p := range list {
		anchors[i] = p.cert
	}
	return []*trust.Store{trust.New(name, anchors)}
}

func (g *gated) swap() {
	set := g.set()
	c := set.Certificates["www"]
	c.Clients = g.client
	set.Certificates["www"] = c
	set.Issuers["ca"] = g.chain
	if g.backup != nil {
		set.Issuers["backup"] = g.backup
	}
	g.engine.Swap(set)
}

// trust changes the clients of the certificate.
func (g *gated) trust(stores []*trust.Store) {
	g.client.Stores = func() []*trust.Store { return stores }
	g.swap()
}

// restart replaces the engine, as a restart of the daemon does.
func (g *gated) restart(t testing.TB) {
	g.engine.Close(t.Context())
	g.engine = NewEngine(Config{Store: g.store, Log: g.engine.log})
	g.swap()
}

func (g *gated) signedBy(t testing.TB) string { return g.load(t).Current.Leaf.Issuer.CommonName }

func (b *bench) count(kind notify.Kind) int {
	n := 0
	for _, k := range b.events.kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

// TestFirmware: clients know one intermediate. Renewals under it go through; when the CA moves on, the new version is
// held, with reminders that come closer together, until the old one is of no use to anybody.
func TestFirmware(t *testing.T) {
	for name, early := range map[string]time.Duration{"hold": 0, "activate-before-expiry=3d": 3 * day} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { firmware(t, early) })
		})
	}
}

func firmware(t *testing.T, early time.Duration) {
	g := newGated(t, 90*day)
	g.client.ActivateBefore = early
	g.trust(pinning("firmware", g.x3))
	live(t, g.bench, 190*day, func(time.Time) {})
	if n := g.ca.count(); n != 4 || g.signedBy(t) != "X3" || g.count(notify.Held) > 0 {
		t.Fatalf("%d orders, signed by %s, %v", n, g.signedBy(t), g.events.kinds())
	}
	g.chain.signer = g.r3
	end := g.load(t).Current.Leaf.NotAfter
	early = max(early, day) // the margin in which nothing is held
	live(t, g.bench, time.Until(end)-early-7*time.Hour, func(now time.Time) {
		if g.signedBy(t) != "X3" || g.server.served() != g.load(t).Current.Fingerprint() {
			t.Fatalf("at %s the firmware's intermediate is gone", now)
		}
	})
	s, err := g.engine.Status("www")
	if err != nil || s.Health != HealthHeld || s.Held == nil || !slices.Equal(s.Held.Clients, []string{"firmware"}) ||
		!s.Held.Until.Equal(end.Add(-early)) {
		t.Errorf("status %+v, held %+v, %v", s, s.Held, err)
	}
	if n := g.ca.count(); n < 12 || n > 14 {
		t.Errorf("%d orders, while a version is held the CA is asked again ten times in the renewal time", n)
	}
	if n := g.count(notify.Held); n < 6 || n > 9 {
		t.Errorf("%d reminders in a month, want them at 30, 21, 14, 10, 7 … days", n)
	}
	live(t, g.bench, day, func(time.Time) {})
	if g.signedBy(t) != "R3" || g.count(notify.Activated) != 1 {
		t.Errorf("signed by %s after the hold, %v", g.signedBy(t), g.events.kinds())
	}
}

// TestAlternate: a client that trusts only another root gets the chain to it, and nothing is held.
func TestAlternate(t *testing.T) {
	g := newGated(t, 90*day)
	other := newPKI(t, "other root", nil)
	g.chain.alternates = []*x509.Certificate{other.sign(t, g.x3.cert, g.x3.key)}
	g.trust(pinning("partner", other))
	if r := g.run(t, Options{}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if got := string(g.load(t).Current.ChainPEM); got != string(certs.EncodeCert(g.chain.alternates[0])) {
		t.Errorf("presented is\n%s", got)
	}
	g.trust(pinning("browser", g.root))
	if r := g.run(t, Options{Force: true}); r.Err != nil || !r.Obtained {
		t.Fatal(r)
	}
	if got := string(g.load(t).Current.ChainPEM); got != string(certs.EncodeCert(g.x3.cert)) {
		t.Errorf("presented is\n%s", got)
	}
}

// TestNextIssuer: when no chain of the first CA satisfies the clients, the second one is asked.
func TestNextIssuer(t *testing.T) {
	g := newGated(t, 90*day)
	g.backup = &chainCA{fakeCA: &fakeCA{t: t, life: 90 * day}, name: "backup", signer: g.r3}
	g.spec.Issuers = []string{"ca", "backup"}
	g.trust(pinning("firmware", g.r3))
	if r := g.run(t, Options{}); r.Err != nil || g.signedBy(t) != "R3" {
		t.Errorf("signed by %s, %v", g.signedBy(t), r.Err)
	}
	g.trust(pinning("firmware", newPKI(t, "nobody", nil)))
	if r := g.run(t, Options{Force: true}); r.Err != nil || g.signedBy(t) != "R3" || g.load(t).State.Held == nil {
		t.Errorf("%+v, held %+v", r, g.load(t).State.Held)
	}
}

// TestRefusedActivation: that activate is refused is an answer for the operator. Nobody is notified, and neither status nor
// the log of the certificate knows of it.
func TestRefusedActivation(t *testing.T) {
	g := newGated(t, 90*day)
	g.trust(pinning("firmware", g.x3))
	g.run(t, Options{})
	g.chain.signer = g.r3
	g.run(t, Options{Force: true})
	before, events := g.load(t).State, len(g.events.kinds())
	r := g.run(t, Options{Activate: true})
	if !errors.As(r.Err, new(*HeldError)) || !r.Refused || r.Next.IsZero() {
		t.Errorf("the answer is %+v", r)
	}
	s, err := g.engine.Status("www")
	if err != nil || s.Error != "" || s.Health != HealthHeld || len(g.events.kinds()) != events || len(g.load(t).State.Log) != len(before.Log) {
		t.Errorf("status %+v, %v, events %v, log %+v", s, err, g.events.kinds(), g.load(t).State.Log)
	}
}

// TestClientLearns: when a client learns the new issuer, the hold ends, and "activated" is sent, also if the new chain is
// stored as a version of its own for it.
func TestClientLearns(t *testing.T) {
	for name, alternate := range map[string]bool{"same chain": false, "another chain": true} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t, 90*day)
			other := newPKI(t, "other root", nil)
			g.trust(pinning("firmware", g.x3))
			g.run(t, Options{})
			g.chain.signer = g.r3
			if alternate {
				g.chain.alternates = []*x509.Certificate{other.sign(t, g.r3.cert, g.r3.key)}
			}
			g.run(t, Options{Force: true})
			if g.load(t).State.Held == nil || g.count(notify.Held) != 1 {
				t.Fatalf("not held, %v", g.events.kinds())
			}
			learned := pinning("firmware", g.r3)
			if alternate {
				learned = pinning("firmware", other)
			}
			g.client.Stores = func() []*trust.Store { return learned } // the file changed; nothing was reloaded
			g.swap()
			if r := g.run(t, Options{}); r.Err != nil || g.signedBy(t) != "R3" || g.load(t).State.Held != nil {
				t.Fatalf("%+v, signed by %s", r, g.signedBy(t))
			}
			if n := g.count(notify.Activated); n != 1 {
				t.Errorf("activated was sent %d times, %v", n, g.events.kinds())
			}
		})
	}
}

// TestNoticeOnTime: with the scheduler of a daemon, a notice goes live at the time that was announced, whatever the schedule.
func TestNoticeOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 90*day)
		g.spec.Notice = 50*time.Hour + 17*time.Minute + 13*time.Second
		g.swap()
		_, stop := runScheduler(t, SchedulerConfig{Engine: g.engine, Schedule: "@daily", Splay: 20 * time.Hour})
		defer stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		g.chain.signer = g.r3
		g.run(t, Options{Force: true})
		e := g.events.list[slices.Index(g.events.kinds(), notify.ChainChanged)]
		time.Sleep(time.Until(e.ActiveAt) - time.Second)
		synctest.Wait()
		if g.signedBy(t) != "X3" {
			t.Fatal("active before the time that was announced")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if g.signedBy(t) != "R3" || g.count(notify.Activated) != 1 {
			t.Errorf("not active at the time that was announced, %v", g.events.kinds())
		}
	})
}

// TestGateAfterCrash: a version that was stored a moment before acmed was killed does not slip through.
func TestGateAfterCrash(t *testing.T) {
	g := newGated(t, 90*day)
	g.trust(pinning("firmware", g.x3))
	g.run(t, Options{})
	g.chain.signer = g.r3
	next, err := g.chain.Obtain(t.Context(), certs.Request{Spec: g.spec})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.AddVersion("www", next, time.Now()); err != nil {
		t.Fatal(err)
	}
	if r := g.run(t, Options{}); r.Err != nil || g.signedBy(t) != "X3" || g.load(t).State.Held == nil {
		t.Fatalf("%+v, signed by %s", r, g.signedBy(t))
	}
	if r := g.run(t, Options{Activate: true}); !errors.As(r.Err, new(*HeldError)) || g.signedBy(t) != "X3" {
		t.Errorf("activated although a client would break: %v", r.Err)
	}
	// The firmware learns the new intermediate: the hold is over by itself.
	g.trust(pinning("firmware", g.x3, g.r3))
	if r := g.run(t, Options{}); r.Err != nil || g.signedBy(t) != "R3" || g.load(t).State.Held != nil {
		t.Errorf("%+v, signed by %s", r, g.signedBy(t))
	}
}

// TestAnotherChainLater: a held version goes live with another of its chains when the clients change.
func TestAnotherChainLater(t *testing.T) {
	g := newGated(t, 90*day)
	g.run(t, Options{})
	other := newPKI(t, "other root", nil)
	g.chain.alternates = []*x509.Certificate{other.sign(t, g.x3.cert, g.x3.key)}
	g.trust(pinning("nobody", g.r3))
	g.run(t, Options{Force: true})
	held := g.load(t)
	if held.State.Held == nil {
		t.Fatal("not held")
	}
	g.trust(pinning("partner", other))
	if r := g.run(t, Options{}); r.Err != nil || r.Obtained {
		t.Fatal(r)
	}
	if got := g.load(t); string(got.Current.ChainPEM) != string(certs.EncodeCert(g.chain.alternates[0])) || got.State.Held != nil {
		t.Error("the chain that they trust is not presented")
	}
}

// TestNamesWhileHeld: a version that waits does not keep one with other names from being ordered, once.
func TestNamesWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 90*day)
		g.run(t, Options{})
		g.trust(pinning("nobody", g.r3))
		g.run(t, Options{Force: true})
		time.Sleep(2 * day) // past the limit on issuances
		g.spec.Identifiers = identifiers(t, "example.com", "new.example.com")
		g.swap()
		for range 3 {
			if r := g.run(t, Options{}); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		l := g.load(t)
		if h := l.State.Held; g.ca.count() != 3 || h == nil || h.Version != l.Versions[0].ID || h.Stale {
			t.Errorf("%d orders, held %+v", g.ca.count(), h)
		}
	})
}

func TestAnyway(t *testing.T) {
	g := newGated(t, 90*day)
	g.run(t, Options{})
	g.trust(pinning("nobody", g.r3))
	g.run(t, Options{Force: true})
	waiting := g.load(t).State.Held.Version
	r := g.run(t, Options{Activate: true, Anyway: true})
	if l := g.load(t); r.Err != nil || r.Version != waiting || g.server.served() != l.Current.Fingerprint() || l.State.Held != nil {
		t.Errorf("%+v, want %s live and installed", r, waiting)
	}
}

// TestCompromise: after a key compromise nobody is asked.
func TestCompromise(t *testing.T) {
	g := newGated(t, 90*day)
	g.run(t, Options{})
	g.trust(pinning("nobody", g.r3))
	first := g.load(t).Version
	if r := g.run(t, Options{Force: true, NewKey: true}); r.Err != nil || r.Version == first {
		t.Errorf("%+v: the compromised key is still in use", r)
	}
}

// TestNotice: a changed issuer is announced once, and goes live after the notice, restarts or not.
func TestNotice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 90*day)
		g.spec.Notice = 72 * time.Hour
		g.swap()
		live(t, g.bench, 59*day, func(time.Time) {})
		g.chain.signer = g.r3
		live(t, g.bench, 2*day, func(time.Time) {})
		held := g.load(t).State.Held
		if held == nil || g.signedBy(t) != "X3" || g.count(notify.ChainChanged) != 1 {
			t.Fatalf("not staged, signed by %s, %v", g.signedBy(t), g.events.kinds())
		}
		e := g.events.list[slices.Index(g.events.kinds(), notify.ChainChanged)]
		if e.Chain != string(certs.EncodeCert(g.r3.cert)) || e.ChainFile == "" || !e.ActiveAt.Equal(held.Since.Add(72*time.Hour)) {
			t.Errorf("the event does not tell enough: %+v", e)
		}
		for g.signedBy(t) == "X3" && time.Since(held.Since) < 90*time.Hour {
			g.restart(t)
			live(t, g.bench, 6*time.Hour, func(now time.Time) {
				if g.signedBy(t) == "R3" && now.Sub(held.Since) < 72*time.Hour {
					t.Fatalf("live after %s", now.Sub(held.Since))
				}
			})
		}
		if after := time.Since(held.Since); after > 80*time.Hour {
			t.Errorf("live after %s", after)
		}
		if n := g.count(notify.ChainChanged); n != 1 {
			t.Errorf("announced %d times", n)
		}
	})
}

// TestNoticeNearExpiry: the last tenth of the active version's lifetime beats a notice.
func TestNoticeNearExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 90*day)
		g.spec.Notice = 60 * day
		g.swap()
		live(t, g.bench, 59*day, func(time.Time) {})
		g.chain.signer = g.r3
		end := g.load(t).Current.Leaf.NotAfter
		live(t, g.bench, time.Until(end)-9*day-7*time.Hour, func(time.Time) {})
		if g.signedBy(t) != "X3" {
			t.Fatal("live before the last tenth")
		}
		live(t, g.bench, 14*time.Hour, func(time.Time) {})
		if g.signedBy(t) != "R3" {
			t.Error("still waiting in the last tenth")
		}
	})
}

// TestNoticeGoesOn: a renewal that was forced during a notice for the same chain does not begin it anew.
func TestNoticeGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 90*day)
		g.spec.Notice = 72 * time.Hour
		g.swap()
		g.run(t, Options{})
		g.chain.signer = g.r3
		g.run(t, Options{Force: true})
		first := *g.load(t).State.Held
		time.Sleep(day)
		g.run(t, Options{Force: true})
		if second := g.load(t).State.Held; second == nil || second.Version == first.Version || !second.Until.Equal(first.Until) {
			t.Errorf("first %+v, then %+v", first, second)
		}
		if r := g.run(t, Options{Activate: true}); r.Err == nil {
			t.Error("activated before the notice is over, without being told to")
		}
	})
}

func TestReminder(t *testing.T) {
	for left, want := range map[time.Duration]int{40 * day: 0, 30 * day: 30, 8 * day: 10, day: 1, -day: 1} {
		if got := plan.Reminder(left); got != want {
			t.Errorf("plan.Reminder(%s) = %d, want %d", left, got, want)
		}
	}
}

func TestReleaseTime(t *testing.T) {
	now := time.Now()
	b := bundleOf(t, now, 100*day, "example.com")
	have := &store.Lineage{Current: b}
	end := b.Leaf.NotAfter
	for name, c := range map[string]struct {
		held store.Held
		want time.Time
	}{
		"held":                  {store.Held{Clients: []string{"x"}}, end.Add(-day)},
		"held, goes live early": {store.Held{Clients: []string{"x"}, Until: end.Add(-2 * day)}, end.Add(-2 * day)},
		"taken back":            {store.Held{}, end.Add(-day)},
		"announced":             {store.Held{Until: now.Add(day)}, now.Add(day)},
		"announced too late":    {store.Held{Until: end}, end.Add(-10*day - time.Second/10)},
	} {
		if got := plan.ReleaseTime(have, &c.held); got.Sub(c.want).Abs() > time.Second {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestHoldAsksAgain: a CA that issues from several intermediates in turn is asked again while its last answer waits, and
// the first certificate that the clients accept goes live. An outage of the CA in between, or at the end, costs nothing.
func TestHoldAsksAgain(t *testing.T) {
	for _, life := range []time.Duration{90 * day, 6 * day, 12 * time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGated(t, life)
				g.trust(pinning("firmware", g.x3))
				liveShort(t, g.bench, life/4, life/40, func(time.Time) {})
				first := g.load(t)
				g.chain.signer = g.r3
				liveShort(t, g.bench, life*53/100, life/40, func(now time.Time) {
					if l := g.load(t); l.Version != first.Version {
						t.Fatalf("%s: a version that the firmware refuses is live", now)
					}
				})
				before := g.ca.count()
				if before < 2 {
					t.Fatalf("%d orders", before)
				}
				g.chain.signer = g.x3
				liveShort(t, g.bench, life/10, life/40, func(time.Time) {})
				l := g.load(t)
				if l.Version == first.Version || g.signedBy(t) != "X3" || l.State.Held != nil {
					t.Errorf("signed by %s, held %+v, %d orders", g.signedBy(t), l.State.Held, g.ca.count())
				}
				if n := g.count(notify.Held); n == 0 || n > 9 {
					t.Errorf("told %d times", n)
				}
			})
		})
	}
}

// TestNoticeOutlivesRefused: a forced renewal that the clients would refuse does not displace the version whose notice runs.
func TestNoticeOutlivesRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t, 90*day)
		g.spec.Notice = 7 * day
		g.trust(pinning("firmware", g.x3, g.r3))
		live(t, g.bench, day, func(time.Time) {})
		g.chain.signer = g.r3
		g.run(t, Options{Force: true})
		announced := g.load(t).State.Held
		g.chain.signer = newPKI(t, "E9", g.root)
		if r := g.engine.Run(t.Context(), "www", Options{Force: true}, nil); r.Err == nil || r.Obtained {
			t.Errorf("%+v", r)
		}
		if h := g.load(t).State.Held; announced == nil || h == nil || h.Version != announced.Version {
			t.Errorf("held %+v, before %+v", h, announced)
		}
		live(t, g.bench, 8*day, func(time.Time) {})
		if g.signedBy(t) != "R3" {
			t.Errorf("signed by %s after the notice", g.signedBy(t))
		}
	})
}
