package renewal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// fragile is an endpoint that does not answer any more after some certificates were installed, until one that it can use is.
type fragile struct {
	fakeServer
	bad func(*certs.Bundle) bool
	err error // of a failed installation; nil: no handshake
}

func (s *fragile) Install(ctx context.Context, b *certs.Bundle) error {
	if s.bad(b) {
		s.set(nil, "nothing: no handshake")
		return cmp.Or(s.err, errors.New("no handshake"))
	}
	return s.fakeServer.Install(ctx, b)
}

// fragileBench has two targets, the second of which breaks by bad.
func fragileBench(t testing.TB, bad func(*certs.Bundle) bool) (*bench, *fragile) {
	b := newBench(t, 90*day)
	f := &fragile{bad: bad}
	b.spec.Targets = []string{"web", "mail"}
	set := b.set()
	set.Certificates["www"].Targets["mail"] = f
	b.engine.Swap(set)
	return b, f
}

// TestTakenBack: an endpoint that a new version breaks works again with the earlier one, which stays. Sweeps leave it so.
func TestTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var good string
		b, f := fragileBench(t, func(b *certs.Bundle) bool { return good != "" && b.Fingerprint() != good })
		if r := b.run(t, Options{}); r.Err != nil {
			t.Fatal(r.Err)
		}
		first := b.load(t)
		good = first.Current.Fingerprint()
		r := b.run(t, Options{Force: true})
		if r.Err == nil || !strings.Contains(r.Err.Error(), "rolled back: mail stopped working") || r.Version != first.Version {
			t.Errorf("%+v", r)
		}
		now := b.load(t)
		if now.Version != first.Version || now.State.Held == nil || f.serves != good || b.server.served() != good {
			t.Errorf("version %s, held %+v, mail serves %s, web %s", now.Version, now.State.Held, f.serves, b.server.served())
		}
		if b.count(notify.RolledBack) != 1 {
			t.Errorf("events %v", b.events.kinds())
		}
		orders := b.ca.count()
		live(t, b, 20*day, func(time.Time) {
			if b.load(t).Version != first.Version || f.serves != good {
				t.Fatal("a sweep undid it")
			}
		})
		if b.ca.count() != orders {
			t.Error("sweeps ordered again")
		}
		good = "" // the operator repaired the server
		if r := b.run(t, Options{Activate: true}); r.Err != nil || r.Version == first.Version {
			t.Errorf("%+v", r)
		}
	})
}

// TestUnreadableFile: a file that cannot be read here says nothing about the endpoint, so nothing is taken back.
func TestUnreadableFile(t *testing.T) {
	good := ""
	b, f := fragileBench(t, func(n *certs.Bundle) bool { return good != "" && n.Fingerprint() != good })
	f.err = fmt.Errorf("the active key: %w", &fs.PathError{Op: "open", Path: "privkey.pem", Err: syscall.EIO})
	b.run(t, Options{})
	good = b.load(t).Current.Fingerprint()
	r := b.run(t, Options{Force: true})
	if l := b.load(t); r.Err == nil || l.Version != l.Versions[0].ID || l.State.Held != nil || b.count(notify.RolledBack) > 0 {
		t.Errorf("%v; active %s of %v, held %+v", r.Err, l.Version, l.Versions, l.State.Held)
	}
}

// TestNotTheCertificate: when the earlier version does not help, or the server is merely stopped, the new one stays.
func TestNotTheCertificate(t *testing.T) {
	down := false
	b, f := fragileBench(t, func(*certs.Bundle) bool { return down })
	b.run(t, Options{})
	down = true
	r := b.run(t, Options{Force: true})
	l := b.load(t)
	if r.Err == nil || l.Version != l.Versions[0].ID || l.State.Held != nil || b.count(notify.RolledBack) > 0 {
		t.Errorf("active %s, held %+v, %v", l.Version, l.State.Held, b.events.kinds())
	}
	down = false
	if r := b.run(t, Options{Retry: true}); r.Err != nil || f.serves != l.Current.Fingerprint() {
		t.Errorf("%+v", r)
	}
	b.server.set(&installers.NotRunningError{Server: "web"}, "")
	b.run(t, Options{Force: true})
	if n := b.load(t); n.Version != n.Versions[0].ID {
		t.Error("a stopped server made the new version go")
	}
}

// TestStillServing: a failed installation that leaves the endpoint as it was takes nothing back.
func TestStillServing(t *testing.T) {
	b := newBench(t, 90*day)
	b.run(t, Options{})
	b.server.set(errors.New("reload failed"), b.server.served())
	b.run(t, Options{Force: true})
	if l := b.load(t); l.Version != l.Versions[0].ID || l.State.Held != nil {
		t.Errorf("active %s of %v", l.Version, l.Versions)
	}
}

// TestPin: a rollback by hand holds against sweeps, to the end of the pinned version, whose successor is there in time.
func TestPin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.run(t, Options{})
		first := b.load(t)
		time.Sleep(day)
		b.run(t, Options{Force: true})
		if v := plan.Previous(b.load(t), time.Now()); v == nil || v.ID != first.Version {
			t.Fatalf("previous is %v", v)
		}
		if r := b.run(t, Options{Pin: first.Version}); r.Err != nil || r.Version != first.Version || b.server.served() != first.Current.Fingerprint() {
			t.Fatalf("%+v", r)
		}
		end := first.Current.Leaf.NotAfter
		live(t, b, time.Until(end)-7*time.Hour, func(now time.Time) {
			if b.load(t).Version != first.Version {
				t.Fatalf("the pin was undone at %s", now)
			}
		})
		if n := b.ca.count(); n != 2 {
			t.Errorf("%d orders: the second version is a successor", n)
		}
		if s, err := b.engine.Status("www"); err != nil || s.Pinned != first.Version || s.Reason != plan.ReasonPinned {
			t.Errorf("%+v, %v", s, err)
		}
		if b.count(notify.Expiring) == 0 {
			t.Error("nobody was warned that the pin ends")
		}
		live(t, b, day, func(now time.Time) {
			if l := b.load(t); !now.Before(l.Current.Leaf.NotAfter.Add(time.Hour)) {
				t.Fatalf("expired at %s", now)
			}
		})
		if l := b.load(t); l.Version == first.Version || l.State.Pinned != "" {
			t.Errorf("active %s, pinned %q after the end", l.Version, l.State.Pinned)
		}
	})
}

// TestPinSuccessor: with nothing to follow the pinned version, a new one is ordered in its last tenth.
func TestPinSuccessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.run(t, Options{})
		first := b.load(t)
		if r := b.run(t, Options{Pin: first.Version}); r.Err != nil {
			t.Fatal(r.Err)
		}
		live(t, b, 80*day, func(time.Time) {})
		if n := b.ca.count(); n != 1 {
			t.Errorf("%d orders while pinned", n)
		}
		live(t, b, 9*day, func(time.Time) {})
		if l := b.load(t); b.ca.count() != 2 || l.Version != first.Version {
			t.Errorf("%d orders, active %s", b.ca.count(), l.Version)
		}
		live(t, b, 2*day, func(time.Time) {})
		if l := b.load(t); l.Version == first.Version || b.ca.count() != 2 {
			t.Errorf("active %s after %d orders", l.Version, b.ca.count())
		}
	})
}

func TestPinRefused(t *testing.T) {
	b := newBench(t, time.Hour)
	if r := b.run(t, Options{Activate: true}); r.Err == nil {
		t.Error("activated nothing")
	}
	b.run(t, Options{})
	if r := b.run(t, Options{Pin: "20200101T000000Z-00000000"}); r.Err == nil || !strings.Contains(r.Err.Error(), "acmed history www") {
		t.Errorf("%v", r.Err)
	}
	if slices.Contains(b.events.kinds(), notify.RolledBack) {
		t.Error("a refused rollback was told")
	}
}
