package renewal

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

// fakeHooks counts calls and fails as it is told.
type fakeHooks struct {
	pre, post       int
	preErr, postErr error
	served          *certs.Bundle
}

func (h *fakeHooks) hooks() Hooks {
	return Hooks{
		Pre: func(context.Context) error { h.pre++; return h.preErr },
		Post: func(_ context.Context, b *certs.Bundle, _ bool) error {
			h.post, h.served = h.post+1, b
			return h.postErr
		},
	}
}

func hookBench(t *testing.T) (*bench, *fakeHooks) {
	b, h := newBench(t, 90*day), &fakeHooks{}
	b.engine.Swap(b.withHooks(h.hooks()))
	return b, h
}

func (b *bench) withHooks(hooks Hooks) *Set {
	set := b.set()
	c := set.Certificates[b.spec.Name]
	c.Hooks = hooks
	set.Certificates[b.spec.Name] = c
	return set
}

func (b *bench) run(t *testing.T, opts Options) Result {
	t.Helper()
	return b.engine.Run(t.Context(), "www", opts, nil)
}

func (b *bench) status(t *testing.T) Status {
	t.Helper()
	s, err := b.engine.Status("www")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHooksRunOnceForEachVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := hookBench(t)
		for range 3 {
			if r := b.run(t, Options{}); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		if h.pre != 1 || h.post != 1 || h.served == nil {
			t.Errorf("pre ran %d times, post %d times", h.pre, h.post)
		}
		if r := b.run(t, Options{Force: true}); r.Err != nil || h.pre != 2 || h.post != 2 {
			t.Errorf("after a renewal: %v, pre %d, post %d", r.Err, h.pre, h.post)
		}
		if s := b.status(t); s.Health != HealthOK || s.Hook != nil {
			t.Errorf("status %+v", s)
		}
	})
}

func TestPreHookStopsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := hookBench(t)
		h.preErr = errors.New("the maintenance window is closed")
		r := b.run(t, Options{})
		if r.Err == nil || !strings.Contains(r.Err.Error(), "pre hook: the maintenance window is closed") || b.ca.count() != 0 {
			t.Errorf("%v after %d orders", r.Err, b.ca.count())
		}
		if st := b.load(t).State; st.Failures != 1 || !st.RetryAt.After(time.Now()) || st.Attempts != 0 {
			t.Errorf("the failure is not in the schedule: %+v", st)
		}
		if b.run(t, Options{}); h.pre != 1 {
			t.Error("the hook ran again within its backoff")
		}
		h.preErr = nil
		time.Sleep(2 * time.Minute)
		if r := b.run(t, Options{}); r.Err != nil || !r.Obtained || h.post != 1 {
			t.Errorf("%v, post hook ran %d times", r.Err, h.post)
		}
	})
}

func TestFailedPostHookIsAStateAndNeverAnOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := hookBench(t)
		h.postErr = errors.New("exit status 1")
		r := b.run(t, Options{})
		if r.Err == nil || !r.Obtained || !strings.Contains(r.Err.Error(), "post hook: exit status 1") {
			t.Errorf("result %+v", r)
		}
		s := b.status(t)
		if s.Health != HealthHookFailed || s.Hook == nil || s.Hook.Error != "exit status 1" || !s.Targets[0].Installed {
			t.Errorf("status %+v", s)
		}
		if kinds := b.events.kinds(); kinds[len(kinds)-1] != notify.HookFailed {
			t.Errorf("events %v", kinds)
		}
		for end, next := time.Now().Add(30*day), r.Next; next.Before(end); { // the hook goes on failing
			time.Sleep(time.Until(next))
			next = b.run(t, Options{}).Next
		}
		if b.ca.count() != 1 || b.server.installs != 1 {
			t.Errorf("%d orders, %d installs, want one of each", b.ca.count(), b.server.installs)
		}
		if h.post < 20 || h.post > 40 {
			t.Errorf("the hook was tried %d times in 30 days", h.post)
		}
		h.postErr = nil
		if r := b.run(t, Options{Retry: true}); r.Err != nil {
			t.Error(r.Err)
		}
		if s := b.status(t); s.Health != HealthOK || s.Hook != nil {
			t.Errorf("status %+v", s)
		}
	})
}

func TestPostHookWaitsForEveryTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := hookBench(t)
		b.server.set(errors.New("no such server"), "")
		if b.run(t, Options{}); h.post != 0 {
			t.Error("the post hook ran although a target does not serve the certificate")
		}
		b.server.set(nil, "")
		if r := b.run(t, Options{Retry: true}); r.Err != nil || h.post != 1 {
			t.Errorf("%v, post hook ran %d times", r.Err, h.post)
		}
	})
}

// TestPostHookSurvivesARestart: a hook that was due when acmed was killed runs at the next start, one that the operator
// removed meanwhile does not.
func TestPostHookSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, h := hookBench(t)
		for _, hooks := range []Hooks{h.hooks(), {}} {
			h.post = 0
			if r := b.run(t, Options{}); r.Err != nil {
				t.Fatal(r.Err)
			}
			h.post = 0
			st := b.load(t).State
			st.Hook = &store.Hook{For: b.load(t).Current.Fingerprint()}
			if err := b.store.SaveState("www", &st); err != nil {
				t.Fatal(err)
			}
			b.engine.Swap(b.withHooks(hooks))
			want := 0
			if hooks.Post != nil {
				want = 1
			}
			if r := b.run(t, Options{}); r.Err != nil || h.post != want || b.load(t).State.Hook != nil {
				t.Errorf("%v, ran %d times, want %d; left %+v", r.Err, h.post, want, b.load(t).State.Hook)
			}
		}
	})
}

func TestPanicInAHook(t *testing.T) {
	b := newBench(t, 90*day)
	b.engine.Swap(b.withHooks(Hooks{Post: func(context.Context, *certs.Bundle, bool) error { panic("a mistake in a hook") }}))
	if r := b.run(t, Options{}); r.Err == nil || !strings.Contains(r.Err.Error(), "a mistake in a hook") || !r.Obtained {
		t.Errorf("result %+v", r)
	}
}

// TestLater: a target that asks to be called later has not failed, until it has asked often enough.
func TestLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.server.set(&installers.LaterError{After: 5 * time.Minute, Err: errors.New("the cloud is slow")}, "")
		r := b.run(t, Options{})
		if r.Err != nil || r.Waiting == nil || !strings.Contains(r.Waiting.Error(), "target web: asked to be called later: the cloud is slow") {
			t.Errorf("result %+v", r)
		}
		target := b.load(t).State.Installed["web"]
		if wait := time.Until(target.RetryAt); wait != 5*time.Minute || target.Failures != 0 || !r.Next.Equal(target.RetryAt) {
			t.Errorf("tried again in %s, failures %d, next %s", wait, target.Failures, r.Next)
		}
		if s := b.status(t); s.Health != HealthNotInstalled {
			t.Errorf("health %s", s.Health)
		}
		b.server.set(&installers.LaterError{Err: errors.New("busy")}, "")
		for i := range 5 {
			r = b.run(t, Options{Retry: true})
			if failed := i >= 3; (r.Err != nil) != failed || (r.Waiting != nil) == failed {
				t.Errorf("try %d: failed with %v, waiting for %v", i+1, r.Err, r.Waiting)
			}
		}
		if kinds := b.events.kinds(); len(kinds) != 3 || kinds[1] != notify.InstallFailed {
			t.Errorf("events %v", kinds)
		}
		b.server.set(nil, "")
		if r := b.run(t, Options{Retry: true}); r.Err != nil || r.Waiting != nil {
			t.Errorf("result %+v", r)
		}
		if e := b.events.list[len(b.events.list)-1]; e.Kind != notify.Recovered || e.Recovers != notify.InstallFailed || e.Target != "web" {
			t.Errorf("the target works again, told was %+v", e)
		}
	})
}
