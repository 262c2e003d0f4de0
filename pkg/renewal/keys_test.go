package renewal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/trust"
)

func (b *bench) pins(t testing.TB) (active, next string) {
	t.Helper()
	pins, _, err := b.engine.Pins("www")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		switch p.State {
		case "active":
			active = p.Pin
		case "next":
			next = p.Pin
		}
	}
	return active, next
}

// run runs the certificate, and fails the test when that fails.
func (b *bench) must(t testing.TB, opts Options) Result {
	t.Helper()
	result := b.engine.Run(t.Context(), "www", opts, nil)
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	return result
}

// live runs the job whenever it asks for it until the held version is live, which must be at a certain time.
func (b *bench) live(t testing.TB, at time.Time) {
	t.Helper()
	for {
		held := b.load(t).State.Held
		result := b.must(t, Options{})
		if result.Held == "" {
			break
		}
		if !held.Until.Equal(at) || result.Next.After(at) || result.Next.IsZero() {
			t.Fatalf("held until %s, looked at next at %s, want %s", held.Until, result.Next, at)
		}
		time.Sleep(time.Until(result.Next))
	}
	if now := time.Now(); now.Before(at) || now.After(at.Add(time.Second)) {
		t.Errorf("live at %s, want %s", now, at)
	}
}

// newKeyed has a certificate whose next key is made ahead, and live after the notice.
func newKeyed(t testing.TB, notice time.Duration) *bench {
	t.Helper()
	b := newBench(t, 90*24*time.Hour)
	b.spec.NextKey, b.spec.Notice = true, notice
	b.engine.Swap(b.set())
	b.must(t, Options{})
	return b
}

// TestNextKey: every renewal goes to the key that was announced, a restart changes nothing about it, and a compromise goes
// to it as well.
func TestNextKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeyed(t, 0)
		for n, opts := range []Options{{Force: true}, {Force: true}, {Force: true, NewKey: true}} {
			active, next := b.pins(t)
			if active == "" || next == "" || active == next {
				t.Fatalf("active %q, next %q", active, next)
			}
			b.restart(t)
			time.Sleep(25 * time.Hour)
			b.must(t, opts)
			now, then := b.pins(t)
			if now != next || then == next || then == active {
				t.Errorf("renewal %d: the key is %s, announced was %s; the next is %s", n, now, next, then)
			}
			if e := b.events.last(notify.PinsChanged); !slices.Equal(e.Pins, []string{now, then}) || e.Version != b.load(t).Version {
				t.Errorf("renewal %d: told of %+v", n, e)
			}
		}
		if n := count(b.events.kinds(), notify.PinsChanged); n != 4 {
			t.Errorf("%d events about keys, want one for each version", n)
		}
	})
}

// TestNextKeyKept: a failed order, and one that clients refuse, use the next key up no more than its first try does. One
// that others may know is never used.
func TestNextKeyKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeyed(t, 0)
		_, next := b.pins(t)
		b.ca.fail(&certs.UnavailableError{Directory: "https://ca.example", Err: errors.New("away")})
		if result := b.engine.Run(t.Context(), "www", Options{Force: true}, nil); result.Err == nil {
			t.Fatal("the CA is not away")
		}
		b.ca.fail(nil)
		if _, after := b.pins(t); after != next {
			t.Error("a failed order changed the next key")
		}
		keys, err := b.store.NextKeys("www")
		if err != nil {
			t.Fatal(err)
		}
		key, err := certs.ParseKey(keys[0].KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		stolen := bundleWith(t, key, time.Now(), time.Hour, "example.com")
		if err := b.engine.MarkCompromised(t.Context(), "www", stolen); err != nil {
			t.Fatal(err)
		}
		b.must(t, Options{Force: true})
		if active, _ := b.pins(t); active == next {
			t.Error("a key that others know went live")
		}
	})
}

// TestNextKeyNotice: a key goes live no earlier than the notice after it was made; after a compromise at once.
func TestNextKeyNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeyed(t, 72*time.Hour)
		made := time.Now()
		active, next := b.pins(t)
		time.Sleep(time.Hour)
		result := b.must(t, Options{Force: true})
		if now, _ := b.pins(t); now != active || result.Held == "" {
			t.Fatalf("a key that was made an hour ago: live %t, %+v", now == next, result)
		}
		if e := b.events.last(notify.PinsChanged); !e.ActiveAt.Equal(made.Add(72*time.Hour)) || !slices.Equal(e.Pins, []string{next}) {
			t.Errorf("announced as %+v", e)
		}
		b.live(t, made.Add(72*time.Hour))
		if now, _ := b.pins(t); now != next {
			t.Error("the notice is over and the key is not live")
		}
		_, next = b.pins(t)
		b.must(t, Options{Force: true, NewKey: true})
		if now, _ := b.pins(t); now != next {
			t.Error("after a compromise the key is not live")
		}
	})
}

// TestPinsAreClients: a certificate with another key than the pinned ones is held.
func TestPinsAreClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeyed(t, 0)
		active, next := b.pins(t)
		swap := func(pins ...string) {
			set := b.set()
			c := set.Certificates["www"]
			c.Clients.Stores = func() []*trust.Store { return []*trust.Store{trust.New("app", nil).Pinned(pins)} }
			set.Certificates["www"] = c
			b.engine.Swap(set)
		}
		swap(active)
		if result := b.must(t, Options{Force: true}); !strings.Contains(result.Held, "app would not trust it: its key "+next+" is not pinned") {
			t.Errorf("held: %q", result.Held)
		}
		swap(active, next)
		b.must(t, Options{})
		if now, _ := b.pins(t); now != next {
			t.Error("the key is pinned and not live")
		}
	})
}

// fakeZone is a DNS with TLSA records, whose second server may lag behind.
type fakeZone struct {
	mu      sync.Mutex
	records map[certs.TLSA]bool
	lag     map[certs.TLSA]bool // added and not visible yet
	lags    bool
	looks   int
	err     error
}

func (z *fakeZone) LookTLSA(_ context.Context, name string) (list []certs.TLSA, ttl time.Duration, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.looks++
	for rr := range z.records {
		if rr.Name == name {
			list = append(list, rr)
		}
	}
	return list, time.Hour, z.err
}

func (z *fakeZone) AddTLSA(_ context.Context, rr certs.TLSA, _ time.Duration) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.lags {
		z.lag[rr] = true
		return nil
	}
	z.records[rr] = true
	return nil
}

func (z *fakeZone) RemoveTLSA(_ context.Context, rr certs.TLSA) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.records, rr)
	return nil
}

func (z *fakeZone) set(change func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	change()
}

// has reports whether the zone has exactly these keys.
func (z *fakeZone) has(t testing.TB, names []string, bundles []*certs.Bundle, next []certs.NextKey) {
	t.Helper()
	want, err := (&TLSA{Names: names, Usages: []uint8{3}}).records(bundles, next)
	if err != nil {
		t.Fatal(err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, rr := range want {
		if !z.records[rr] {
			t.Errorf("the zone lacks %s", rr)
		}
	}
	if len(z.records) != len(want) {
		t.Errorf("the zone has %d records, want %d: %v", len(z.records), len(want), z.records)
	}
}

// daned is a bench with TLSA records in a fake zone.
type daned struct {
	*bench
	zone  *fakeZone
	names []string
}

func newDaned(t testing.TB) *daned {
	d := &daned{bench: newBench(t, 90*24*time.Hour), zone: &fakeZone{records: map[certs.TLSA]bool{}, lag: map[certs.TLSA]bool{}}}
	d.names = []string{"_25._tcp.example.com.", "_443._tcp.example.com."}
	d.spec.NextKey = true
	d.swap()
	return d
}

func (d *daned) swap() {
	set := d.set()
	c := set.Certificates["www"]
	c.TLSA = &TLSA{Names: d.names, Usages: []uint8{3}, TTL: time.Minute, DNS: d.zone}
	set.Certificates["www"] = c
	d.engine.Swap(set)
}

func (d *daned) next(t testing.TB) []certs.NextKey {
	t.Helper()
	keys, err := d.store.NextKeys("www")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestTLSA: the records of the active and the next key are there, a key goes live when its record was visible for twice
// the time to live that resolvers see, and the old record goes as long after that.
func TestTLSA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaned(t)
		made := time.Now()
		first := d.must(t, Options{})
		d.zone.has(t, d.names, []*certs.Bundle{d.load(t).Current}, d.next(t))
		old := d.load(t).Current
		result := d.must(t, Options{Force: true}) // its record is a moment old
		if result.Held == "" || d.load(t).Version != first.Version || result.Next.After(time.Now().Add(2*time.Hour)) {
			t.Fatalf("live before resolvers know its record: %+v", result)
		}
		if result.Reason == "" || d.load(t).State.Held.Keys != true {
			t.Errorf("%+v", d.load(t).State.Held)
		}
		d.live(t, made.Add(2*time.Hour))
		now, next := d.load(t), d.next(t)
		d.zone.has(t, d.names, []*certs.Bundle{now.Current, old}, next)
		for end := time.Now().Add(2 * time.Hour); time.Now().Before(end); {
			d.zone.has(t, d.names, []*certs.Bundle{now.Current, old}, next)
			result := d.must(t, Options{})
			if result.Next.After(end) {
				t.Fatalf("nobody looks for the old record before %s", result.Next)
			}
			time.Sleep(time.Until(result.Next))
		}
		d.must(t, Options{})
		d.zone.has(t, d.names, []*certs.Bundle{now.Current}, next)
		pin := next[0].Pin
		d.must(t, Options{Force: true, NewKey: true}) // the record is old enough by now
		if active, _ := d.pins(t); active != pin {
			t.Error("after a compromise the next key is not live at once, although its record is known")
		}
	})
}

// TestTLSANotVisible: a record that not all name servers have, or a zone that is not signed, keeps a new key from going
// live, also after a compromise, and only until a day before the end; an operator may go on.
func TestTLSANotVisible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaned(t)
		d.must(t, Options{})
		first := d.load(t).Version
		d.zone.set(func() { d.zone.err = errors.New("the zone is not signed") })
		d.must(t, Options{Force: true})
		time.Sleep(24 * time.Hour)
		result := d.must(t, Options{})
		if d.load(t).Version != first || result.Reason != plan.ReasonHeld || !strings.Contains(result.Held, "not signed") {
			t.Fatalf("%+v", result)
		}
		if s, err := d.engine.Status("www"); err != nil || s.Health != HealthHeld || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "not signed") {
			t.Errorf("status %+v, %v", s, err)
		}
		orders := d.ca.count()
		d.must(t, Options{})
		if d.ca.count() != orders {
			t.Error("another certificate was ordered, which helps nobody")
		}
		d.zone.set(func() { d.zone.err = nil })
		result = d.must(t, Options{})
		if result.Next.IsZero() || d.load(t).Version == first {
			t.Fatalf("the record has been visible since the beginning: %+v", result)
		}
		d.zone.set(func() { d.zone.lags = true }) // the record of the next key does not get through
		d.must(t, Options{Retry: true})
		before := d.load(t).Version
		if result := d.engine.Run(t.Context(), "www", Options{Pin: first}, nil); result.Err != nil {
			t.Fatal(result.Err) // the record of the old key is still there
		}
		if result := d.must(t, Options{Activate: true}); result.Version != before {
			t.Errorf("%+v", result)
		}
	})
}

// TestTLSACompromise: the key that others know stays until the record of the next one can be known, and not longer.
func TestTLSACompromise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaned(t)
		d.zone.set(func() { d.zone.lags = true })
		d.must(t, Options{})
		first := d.load(t).Version
		d.must(t, Options{Force: true, NewKey: true})
		result := d.must(t, Options{})
		if d.load(t).Version != first || d.ca.count() != 2 {
			t.Fatalf("live without a record, or %d orders: %+v", d.ca.count(), result)
		}
		result = d.engine.Run(t.Context(), "www", Options{Activate: true}, nil)
		var held *HeldError
		if !errors.As(result.Err, &held) {
			t.Errorf("made live without being told so twice: %+v", result)
		}
		d.zone.set(func() {
			d.zone.lags = false
			for rr := range d.zone.lag {
				d.zone.records[rr] = true
			}
		})
		d.must(t, Options{})
		d.live(t, time.Now().Add(2*time.Hour))
		if have := d.load(t); have.Version == first || d.ca.count() != 2 {
			t.Errorf("live %s after %d orders", have.Version, d.ca.count())
		}
		time.Sleep(2 * time.Hour)
		d.must(t, Options{})
		d.zone.has(t, d.names, []*certs.Bundle{d.load(t).Current}, d.next(t))
	})
}

// TestIgnored: what the CA ignored is in status until the next certificate, or until the setting is gone.
func TestIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*24*time.Hour)
		b.spec.Lifetime, b.spec.MustStaple, b.spec.PreferredChain = 7*24*time.Hour, true, "Elsewhere Root"
		b.engine.Swap(b.set())
		b.must(t, Options{})
		warnings := func() string {
			t.Helper()
			s, err := b.engine.Status("www")
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(s.Warnings, "\n")
		}
		for _, want := range []string{"lifetime: the CA issued for 2160h0m0s although 168h0m0s was asked for", "must_staple: ", `preferred_chain: the CA offers no chain with the name "Elsewhere Root"`} {
			if got := warnings(); !strings.Contains(got, want) {
				t.Errorf("status says %q, want %q", got, want)
			}
		}
		b.spec.MustStaple, b.spec.PreferredChain = false, "test"
		b.engine.Swap(b.set())
		if got := warnings(); strings.Contains(got, "must_staple") {
			t.Errorf("the setting is gone, and status says %q", got)
		}
		b.ca.life = 7*24*time.Hour + time.Hour
		b.must(t, Options{Force: true})
		if got := warnings(); got != "" {
			t.Errorf("nothing was ignored, and status says %q", got)
		}
	})
}
