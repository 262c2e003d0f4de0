package renewal

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// shortLives are lifetimes that private CAs give.
func shortLives() []time.Duration {
	return []time.Duration{6 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour}
}

// liveShort runs the scheduler for d and looks every step.
func liveShort(t *testing.T, b *bench, d, step time.Duration, check func(time.Time)) {
	t.Helper()
	_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly", Splay: 30 * time.Minute})
	defer stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(step)
		synctest.Wait()
		check(time.Now())
	}
}

// TestShortLives: certificates of minutes and hours are never expired while the CA answers, nor ordered more often than
// their lifetime calls for, whatever the CA says about renewal windows.
func TestShortLives(t *testing.T) {
	for _, life := range shortLives() {
		for name, window := range map[string]func(time.Time) certs.Window{
			"no window": func(time.Time) certs.Window { return certs.Window{} },
			"a late window": func(now time.Time) certs.Window {
				return certs.Window{Start: now.Add(1000 * day), End: now.Add(1001 * day)}
			},
			"asks again in a day": func(now time.Time) certs.Window {
				return certs.Window{Start: now.Add(1000 * day), End: now.Add(1001 * day), RetryAfter: day}
			},
		} {
			t.Run(life.String()+" "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, life)
					b.ca.setWindow(window(time.Now()))
					liveShort(t, b, shortRuns*life, life/60, func(now time.Time) {
						if l := b.load(t); l.Current == nil || !now.Before(l.Current.Leaf.NotAfter) || b.server.served() != l.Current.Fingerprint() {
							t.Fatalf("%s: expired or not served, %d orders", now, b.ca.count())
						}
					})
					if n := b.ca.count(); n > 2*shortRuns+2 {
						t.Errorf("%d orders in %d lifetimes", n, shortRuns)
					}
				})
			})
		}
	}
}

// TestShortLivesAfterAnOutage: a CA that was away for longer than the certificate lives is used again as soon as it
// answers, by the measure of the lifetime, and people hear that the certificate ends.
func TestShortLivesAfterAnOutage(t *testing.T) {
	for _, life := range shortLives() {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, life)
				liveShort(t, b, 3*life, life/60, func(time.Time) {})
				b.ca.fail(&certs.UnavailableError{Directory: "https://ca.example", Err: errors.New("connection refused")})
				liveShort(t, b, 3*life, life/60, func(time.Time) {})
				if l := b.load(t); time.Now().Before(l.Current.Leaf.NotAfter) || b.count(notify.Expiring) != 1 {
					t.Fatalf("ends %s, told %d times", l.Current.Leaf.NotAfter, b.count(notify.Expiring))
				}
				b.ca.fail(nil)
				liveShort(t, b, max(life/4, 2*time.Minute), life/60, func(time.Time) {})
				if l := b.load(t); !time.Now().Before(l.Current.Leaf.NotAfter) {
					t.Errorf("still expired, next try %s, failures %d", l.State.RetryAt, l.State.Failures)
				}
				liveShort(t, b, 3*life, life/60, func(now time.Time) {
					if l := b.load(t); !now.Before(l.Current.Leaf.NotAfter) {
						t.Fatalf("%s: expired again", now)
					}
				})
			})
		})
	}
}

// TestShortLoop: a CA that always answers "renew now" is kept to the limit by the measure of the lifetime.
func TestShortLoop(t *testing.T) {
	for _, life := range shortLives() {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, life)
			past := time.Now().Add(-time.Hour)
			b.ca.setWindow(certs.Window{Start: past, End: past.Add(time.Minute), RetryAfter: time.Minute})
			liveShort(t, b, 5*life, life/60, func(time.Time) {})
			if n := b.ca.count(); n > 5*4*2+2 {
				t.Errorf("%s: %d orders in five lifetimes", life, n)
			}
		})
	}
}

// TestShortFailover: the next CA is asked before a short life ends.
func TestShortFailover(t *testing.T) {
	for _, life := range shortLives() {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, life)
			backup := &fakeCA{t: t, life: life}
			b.spec.Issuers = []string{"ca", "backup"}
			set := b.set()
			set.Issuers["backup"] = &namedCA{backup, "backup"}
			b.engine.Swap(set)
			liveShort(t, b, life/4, life/60, func(time.Time) {})
			b.ca.fail(&certs.UnavailableError{Directory: "https://ca.example", Err: errors.New("connection refused")})
			liveShort(t, b, 3*life, life/60, func(now time.Time) {
				if l := b.load(t); !now.Before(l.Current.Leaf.NotAfter) {
					t.Fatalf("%s: expired at %s although the backup answers", life, now)
				}
			})
			if backup.count() == 0 {
				t.Errorf("%s: the backup was not asked", life)
			}
		})
	}
}

// TestScale: nothing in a plan waits for longer than the lifetime of a certificate leaves.
func TestScale(t *testing.T) {
	for _, life := range append(shortLives(), 6*day, 45*day, 90*day) {
		for failures := range 10 {
			if wait := plan.Backoff(failures, life/10, life, 0.999); wait > max(life/10, 54*time.Second) && life < day {
				t.Errorf("%s: waits %s after %d failures in the last tenth", life, wait, failures)
			}
		}
		if every := plan.ARIEvery(life); every > life/4 {
			t.Errorf("%s: asks for a window every %s", life, every)
		}
	}
}
