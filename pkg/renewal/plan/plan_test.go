package plan

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

var errTest = errors.New("unreadable")

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	names := []string{"example.com", "www.example.com"}
	want := certs.Spec{
		Name: "www", Identifiers: identifiers(t, names...), KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"ca", "backup"},
		Targets: []string{"nginx"},
	}
	// aged returns a lineage whose active certificate has this lifetime and this much of it left, all else in order.
	aged := func(life, left time.Duration) *store.Lineage {
		b := bundleOf(t, now.Add(left-life), life, names...)
		f := b.Fingerprint()
		return &store.Lineage{
			Name: "www", Current: b, Version: "v1", Versions: []store.Version{{ID: "v1"}},
			State: store.State{
				ARI:       store.ARI{For: certs.Fingerprint(b.Leaf), CheckAt: now.Add(time.Hour)},
				Installed: map[string]store.Installed{"nginx": {Fingerprint: f, VerifiedAt: now.Add(-30 * time.Minute)}},
			},
		}
	}
	type change func(*certs.Spec, *store.Lineage)
	for _, c := range []struct {
		name   string
		have   *store.Lineage
		change change
		force  bool
		retry  bool
		reason Reason
		obtain bool
		says   string // part of the message
	}{
		{name: "nothing there", have: &store.Lineage{Name: "www"}, reason: ReasonNeverIssued, obtain: true},
		{name: "fresh", have: aged(90*day, 80*day), reason: ReasonNothing, says: "renews on 2027-01-09"},
		{name: "31 days left", have: aged(90*day, 31*day), reason: ReasonNothing},
		{name: "30 days and a second left", have: aged(90*day, 30*day+2*time.Second), reason: ReasonNothing},
		{name: "exactly 30 days left", have: aged(90*day, 30*day+time.Second), reason: ReasonRenewBefore, obtain: true},
		{name: "45 days: 16 left", have: aged(45*day, 16*day), reason: ReasonNothing},
		{name: "45 days: a third left", have: aged(45*day, 15*day), reason: ReasonRenewBefore, obtain: true},
		{name: "6 days: 4 left", have: aged(6*day, 4*day), reason: ReasonNothing},
		{name: "6 days: half left", have: aged(6*day, 3*day), reason: ReasonRenewBefore, obtain: true},
		{name: "own renew_before", have: aged(90*day, 40*day), reason: ReasonRenewBefore, obtain: true,
			change: func(s *certs.Spec, _ *store.Lineage) { s.RenewBefore = 41 * day }},
		{name: "renew_before longer than the lifetime is cut to two thirds", have: aged(45*day, 31*day), reason: ReasonNothing,
			change: func(s *certs.Spec, _ *store.Lineage) { s.RenewBefore = 60 * day }},
		{name: "expired", have: aged(90*day, -day), reason: ReasonLastTenth, obtain: true, says: "expired on 2026-11-19"},
		{name: "last tenth beats a later renew_before", have: aged(90*day, 8*day), reason: ReasonLastTenth, obtain: true,
			change: func(s *certs.Spec, _ *store.Lineage) { s.RenewBefore = day }},
		{name: "damaged", have: &store.Lineage{Name: "www", Version: "v1", Versions: []store.Version{{ID: "v1"}}, Damage: errTest},
			reason: ReasonDamaged, obtain: true, says: "unreadable"},
		{name: "a name more", have: aged(90*day, 80*day), reason: ReasonNames, obtain: true,
			change: func(s *certs.Spec, _ *store.Lineage) {
				s.Identifiers = identifiers(t, append(names, "new.example.com")...)
			}},
		{name: "names in another order", have: aged(90*day, 80*day), reason: ReasonNothing,
			change: func(s *certs.Spec, _ *store.Lineage) { s.Identifiers = identifiers(t, names[1], names[0]) }},
		{name: "issuer no longer listed", have: aged(90*day, 80*day), reason: ReasonIssuer, obtain: true,
			change: func(s *certs.Spec, _ *store.Lineage) { s.Issuers = []string{"other"} }},
		{name: "issued by the backup", have: aged(90*day, 80*day), reason: ReasonNothing,
			change: func(_ *certs.Spec, l *store.Lineage) { l.Current.Issuer = "backup" }},
		{name: "another key type", have: aged(90*day, 80*day), reason: ReasonKeyType, obtain: true,
			change: func(s *certs.Spec, _ *store.Lineage) { s.KeyTypes = []certs.KeyType{certs.RSA2048} }},
		{name: "a profile", have: aged(90*day, 80*day), reason: ReasonProfile, obtain: true,
			change: func(s *certs.Spec, _ *store.Lineage) { s.Profile = "shortlived" }},
		{name: "ARI time reached", have: aged(90*day, 80*day), reason: ReasonARI, obtain: true, says: `see "https://ca.example/why"`,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.RenewAt, l.State.RenewFor = now, certs.Fingerprint(l.Current.Leaf)
				l.State.ARI.URL = "https://ca.example/why"
			}},
		{name: "ARI time of an earlier leaf", have: aged(90*day, 80*day), reason: ReasonNothing,
			change: func(_ *certs.Spec, l *store.Lineage) { l.State.RenewAt, l.State.RenewFor = now, "0123" }},
		{name: "ARI later than the rule", have: aged(90*day, 29*day), reason: ReasonRenewBefore, obtain: true,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.RenewAt, l.State.RenewFor = now.Add(day), certs.Fingerprint(l.Current.Leaf)
			}},
		{name: "forced", have: aged(90*day, 80*day), force: true, reason: ReasonForced, obtain: true},
		{name: "backoff", have: aged(90*day, 10*day), reason: ReasonBackoff, says: "try 3 failed: no route",
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.RetryAt, l.State.Failures, l.State.LastError = now.Add(time.Minute), 3, "no route"
			}},
		{name: "backoff forced", have: aged(90*day, 10*day), force: true, reason: ReasonRenewBefore, obtain: true,
			change: func(_ *certs.Spec, l *store.Lineage) { l.State.RetryAt = now.Add(time.Minute) }},
		{name: "backoff over", have: aged(90*day, 10*day), reason: ReasonRenewBefore, obtain: true,
			change: func(_ *certs.Spec, l *store.Lineage) { l.State.RetryAt = now }},
		{name: "issued twice today", have: aged(90*day, 10*day), reason: ReasonIssueLimit, says: "--force",
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.Issued = []time.Time{now.Add(-time.Hour), now.Add(-2 * time.Hour), now.Add(-3 * day)}
			}},
		{name: "revoked, issued twice today", have: aged(90*day, 80*day), reason: ReasonRevoked, obtain: true,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.Revoked = map[string]store.Revocation{"v1": {At: now, DoneAt: now}}
				l.State.Issued = []time.Time{now.Add(-time.Hour), now.Add(-2 * time.Hour)}
			}},
		{name: "revoked, and no replacement wanted", have: aged(90*day, 80*day), reason: ReasonNothing,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.Revoked = map[string]store.Revocation{"v1": {At: now, DoneAt: now, Keep: true}}
			}},
		{name: "the CA has yet to revoke an earlier version", have: aged(90*day, 80*day), reason: ReasonRevoke, says: "version v0",
			change: func(_ *certs.Spec, l *store.Lineage) { l.State.Revoked = map[string]store.Revocation{"v0": {At: now}} }},
		{name: "the CA is asked again later", have: aged(90*day, 80*day), reason: ReasonNothing,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.Revoked = map[string]store.Revocation{"v0": {At: now, RetryAt: now.Add(time.Hour)}}
			}},
		{name: "compromised, issued twice today", have: aged(90*day, 80*day), reason: ReasonCompromised, obtain: true,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.Issued = []time.Time{now.Add(-time.Hour), now.Add(-2 * time.Hour)}
				l.State.Compromised = []string{l.Version}
			}},
		{name: "clock before the certificate", have: aged(90*day, 95*day), reason: ReasonClock, says: "clock"},
		{name: "not installed", have: aged(90*day, 80*day), reason: ReasonNotInstalled,
			change: func(_ *certs.Spec, l *store.Lineage) { l.State.Installed = nil }},
		{name: "not installed, in backoff", have: aged(90*day, 80*day), reason: ReasonNothing,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.Installed["nginx"] = store.Installed{RetryAt: now.Add(time.Hour), LastError: "nginx is broken"}
			}},
		{name: "not installed, in backoff, asked for", have: aged(90*day, 80*day), retry: true, reason: ReasonNotInstalled,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.State.Installed["nginx"] = store.Installed{RetryAt: now.Add(time.Hour), LastError: "nginx is broken"}
			}},
		{name: "daily look", have: aged(90*day, 80*day), reason: ReasonDrift,
			change: func(_ *certs.Spec, l *store.Lineage) {
				i := l.State.Installed["nginx"]
				i.VerifiedAt = now.Add(-day)
				l.State.Installed["nginx"] = i
			}},
		{name: "stored, not active", have: aged(90*day, 10*day), reason: ReasonActivate,
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.Versions = append([]store.Version{{ID: "v2", NotAfter: now.Add(80 * day)}}, l.Versions...)
			}},
		{name: "held", have: aged(90*day, 10*day), reason: ReasonHeld, says: "firmware",
			change: func(_ *certs.Spec, l *store.Lineage) {
				l.Versions = append([]store.Version{{ID: "v2", NotAfter: now.Add(80 * day)}}, l.Versions...)
				l.State.Held = &store.Held{Version: "v2", Reason: "firmware would break"}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := want
			if c.change != nil {
				c.change(&spec, c.have)
			}
			p := Decide(now, &spec, c.have, Options{Force: c.force, Retry: c.retry})
			if p.Reason != c.reason || p.Obtain != c.obtain {
				t.Errorf("got %s (obtain %v, %q), want %s (obtain %v)", p.Reason, p.Obtain, p.Message, c.reason, c.obtain)
			}
			if !strings.Contains(p.Message, c.says) {
				t.Errorf("message %q does not say %q", p.Message, c.says)
			}
			if p.Idle() && !p.Next.After(now) {
				t.Errorf("an idle plan must name a later time, got %s", p.Next)
			}
		})
	}
}

// TestDecideEnds applies plans to random lineages: a few rounds of doing what the plan says end in nothing to do.
func TestDecideEnds(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	spec := certs.Spec{
		Name: "www", Identifiers: identifiers(t, "example.com"), KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"ca"},
		Targets: []string{"a", "b"},
	}
	old, fresh := bundleOf(t, now.Add(-89*day), 90*day, "example.com"), bundleOf(t, now, 90*day, "example.com")
	other := bundleOf(t, now.Add(-day), 90*day, "example.org")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	maybe := func() bool { return r.IntN(2) == 0 }
	for range 2000 {
		have := &store.Lineage{Name: "www", State: store.State{Installed: map[string]store.Installed{}}}
		if maybe() {
			have.Current, have.Version = []*certs.Bundle{old, fresh, other}[r.IntN(3)], "v1"
			have.Versions = []store.Version{{ID: "v1"}}
		}
		if have.Current != nil && maybe() {
			have.Versions = slices.Insert(have.Versions, 0, store.Version{ID: "v2", NotAfter: now.Add(80 * day)})
		}
		if maybe() {
			have.State.RetryAt = now.Add(time.Duration(r.IntN(100)-50) * time.Minute)
		}
		if have.Current != nil && maybe() {
			have.State.Installed["a"] = store.Installed{Fingerprint: have.Current.Fingerprint(), VerifiedAt: now.Add(-time.Duration(r.IntN(48)) * time.Hour)}
		}
		opts := Options{Force: maybe(), Retry: maybe()}
		var p Plan
		for range 8 {
			if p = Decide(now, &spec, have, opts); p.Idle() {
				break
			}
			apply(now, p, have, fresh)
			opts = Options{}
		}
		if !p.Idle() {
			t.Fatalf("still wants %+v from %+v", p, have)
		}
		if !p.Next.After(now) {
			t.Fatalf("idle without a time to come back: %+v", p)
		}
	}
}

// apply does what the engine does, in memory.
func apply(now time.Time, p Plan, have *store.Lineage, fresh *certs.Bundle) {
	switch {
	case p.Obtain:
		have.Versions = slices.Insert(have.Versions, 0, store.Version{ID: "new", NotAfter: now.Add(90 * day)})
		have.Damage = nil
		have.State.Issued = append(have.State.Issued, now)
		have.State.RetryAt = time.Time{}
	case p.Activate != "":
		have.Version, have.Current = p.Activate, fresh
	case len(p.Install)+len(p.Verify) > 0:
		for _, target := range slices.Concat(p.Install, p.Verify) {
			have.State.Installed[target] = store.Installed{Fingerprint: have.Current.Fingerprint(), VerifiedAt: now}
		}
	case p.AskARI:
		have.State.ARI = store.ARI{For: certs.Fingerprint(have.Current.Leaf), CheckAt: now.Add(12 * time.Hour)}
	}
}

func TestBackoff(t *testing.T) {
	const even = 0.5 // no jitter
	for _, c := range []struct {
		failures int
		left     time.Duration
		want     time.Duration
	}{
		{0, 0, time.Minute}, {1, 0, time.Minute}, {2, 0, 10 * time.Minute}, {3, 0, 100 * time.Minute}, {4, 0, day}, {1000000, 0, day},
		{-5, 0, time.Minute},
		{4, 20 * day, day}, {4, 6 * day, 12 * time.Hour}, {4, day, 2 * time.Hour}, {4, time.Hour, time.Hour},
		{1, time.Hour, time.Minute},
		{4, -time.Hour, time.Hour}, {4, -6 * day, 12 * time.Hour}, {4, -30 * 365 * day, day},
	} {
		if got := Backoff(c.failures, c.left, 90*day, even); got != c.want {
			t.Errorf("Backoff(%d, %s) = %s, want %s", c.failures, c.left, got, c.want)
		}
	}
	for _, spread := range []float64{0, 0.999999} {
		for _, failures := range []int{-1, 1, 3, 10_000, 1 << 62} {
			for _, left := range []time.Duration{-1 << 63, -1, 0, 1, 1<<63 - 1} {
				if got := Backoff(failures, left, 90*day, spread); got < 54*time.Second || got > 26*time.Hour+24*time.Minute {
					t.Errorf("Backoff(%d, %d, %g) = %s is out of bounds", failures, left, spread, got)
				}
			}
		}
	}
}

func TestCheckSchedule(t *testing.T) {
	for _, good := range []string{"@hourly", "@daily", "@every 30m", "@every 1m", "17 3 * * *", "0 0 29 2 *", "*/5 * * * 1-5"} {
		if err := CheckSchedule(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"": "five cron fields", "hourly": "five cron fields", "* * * *": "five cron fields", "0 0 31 2 *": "never fires",
		"TZ= * * * * *": "time zone", "CRON_TZ=Europe/Berlin 0 0 * * *": "time zone", "@every 5s": "at least 1m", "@every -5s": "at least 1m",
		"@every x": "cron fields", "99 * * * *": "cron fields", "TZ=": "time zone",
	} {
		if err := CheckSchedule(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want an error that says %q", bad, err, says)
		}
	}
}

// TestOnlyEndedVersions: a version that ended before it ever went live is as good as none.
func TestOnlyEndedVersions(t *testing.T) {
	now := time.Now()
	have := &store.Lineage{Name: "www", Versions: []store.Version{{ID: "20200101T000000Z-00000000", NotAfter: now.Add(-time.Hour)}}}
	if p := Decide(now, &certs.Spec{Name: "www"}, have, Options{}); !p.Obtain || p.Reason != ReasonNeverIssued {
		t.Errorf("%+v", p)
	}
}

// TestWhatIsLeft: without an active version, the newest of those that are left is used that a CA could have given now.
func TestWhatIsLeft(t *testing.T) {
	now := time.Now()
	id, _, err := certs.ParseIdentifier("www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	want := &certs.Spec{Name: "www", Identifiers: []certs.Identifier{id}}
	good := store.Version{ID: "good", NotBefore: now.Add(-day), NotAfter: now.Add(50 * day), Names: "www.example.com"}
	for name, spoil := range map[string]func(v *store.Version, st *store.State){
		"other names":   func(v *store.Version, _ *store.State) { v.Names = "api.example.com" },
		"fewer names":   func(v *store.Version, _ *store.State) { v.Names = "example.com" },
		"ended":         func(v *store.Version, _ *store.State) { v.NotAfter = now.Add(-time.Hour) },
		"not valid yet": func(v *store.Version, _ *store.State) { v.NotBefore = now.Add(20 * day) },
		"compromised":   func(_ *store.Version, st *store.State) { st.Compromised = []string{"newest"} },
		"revoked": func(_ *store.Version, st *store.State) {
			st.Revoked = map[string]store.Revocation{"newest": {DoneAt: now}}
		},
	} {
		newest := good
		newest.ID = "newest"
		have := &store.Lineage{Name: "www", Versions: []store.Version{newest, good}}
		if p := Decide(now, want, have, Options{}); p.Activate != "newest" {
			t.Fatalf("a good one: %+v", p)
		}
		spoil(&have.Versions[0], &have.State)
		if p := Decide(now, want, have, Options{}); p.Activate != "good" {
			t.Errorf("%s: %+v", name, p)
		}
		have.Versions = have.Versions[:1]
		if p := Decide(now, want, have, Options{}); p.Activate != "" || !p.Obtain {
			t.Errorf("%s, and no other: %+v", name, p)
		}
	}
}
