package fleet_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

func rank(p *part, name string) int {
	r, _ := p.Rank(name)
	return r
}

func TestRanks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		var parts []*part
		var names []string
		for i := range 300 {
			names = append(names, fmt.Sprintf("n%d", i))
		}
		for _, id := range []string{"a", "b", "c"} {
			p := start(t, m, id, names...)
			defer p.stop()
			parts = append(parts, p)
		}
		narrow := start(t, m, "narrow", "n0")
		defer narrow.stop()
		time.Sleep(time.Second)
		first := map[int]int{}
		before := map[string]int{}
		for _, name := range names {
			ranks := []int{rank(parts[0], name), rank(parts[1], name), rank(parts[2], name)}
			want := []int{0, 1, 2}
			if name == "n0" {
				ranks, want = append(ranks, rank(narrow, name)), append(want, 3)
			}
			first[slices.Index(ranks, 0)]++
			before[name] = slices.Index(ranks[:3], 0)
			slices.Sort(ranks)
			if !slices.Equal(ranks, want) {
				t.Fatalf("%s: ranks %v", name, ranks)
			}
		}
		for i := range 3 {
			if first[i] < 60 {
				t.Errorf("node %d comes first for %d of 300 names", i, first[i])
			}
		}
		if r := rank(narrow, "n1"); r != 3 {
			t.Errorf("a node without the certificate has rank %d", r)
		}
		parts[2].stop()
		time.Sleep(time.Second)
		for _, name := range names {
			if was := before[name]; was < 2 && name != "n0" && rank(parts[was], name) != 0 {
				t.Errorf("%s changed its first node although that one is alive", name)
			}
		}
	})
}

func TestDelays(t *testing.T) {
	for rank, want := range []time.Duration{0, 30 * time.Second, time.Minute} {
		if got := fleet.TurnDelay(rank); got != want {
			t.Errorf("rank %d: %s", rank, got)
		}
	}
	if got := fleet.TurnDelay(500); got != 5*time.Minute {
		t.Errorf("rank 500: %s", got)
	}
	end := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, test := range []struct {
		life    time.Duration
		rank, n int
		want    time.Duration // before the end
	}{
		{90 * day, 0, 3, 9 * day},
		{90 * day, 2, 3, 9*day - 144*time.Hour},
		{90 * day, 2, 50, 9*day - 84*time.Hour},
		{47 * day, 1, 3, 4*day + 16*time.Hour + 48*time.Minute - 42*time.Hour},
		{6 * day, 2, 3, 14*time.Hour + 24*time.Minute - 2*(4*time.Hour+48*time.Minute)},
		{6 * day, 0, 0, 14*time.Hour + 24*time.Minute},
	} {
		if got := end.Sub(fleet.AloneAt(end.Add(-test.life), end, test.rank, test.n)); got != test.want {
			t.Errorf("%+v: %s before the end", test, got)
		}
	}
}

func TestJudge(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	at := func(n int64, fingerprint string, age, left time.Duration) certs.Head {
		return certs.Head{N: n, Fingerprint: fingerprint, NotBefore: now.Add(-age), NotAfter: now.Add(left)}
	}
	with := func(h certs.Head, spec string, old ...string) certs.Head {
		h.Spec, h.Old = spec, old
		return h
	}
	ab, abc := []string{"a", "b"}, []string{"a", "b", "c"}
	for name, test := range map[string]struct {
		facts fleet.Facts
		want  fleet.Verdict
	}{
		"nothing anywhere": {fleet.Facts{Spec: "new", Names: ab}, fleet.Verdict{}},
		"empty node, head fits": {
			fleet.Facts{Spec: "s", Names: ab, HeadNames: ab, Head: with(at(1, "x", day, 80*day), "s")}, fleet.Verdict{Adopt: true}},
		"newer head": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Active: at(1, "x", 60*day, 30*day), Head: with(at(2, "y", day, 89*day), "s")},
			fleet.Verdict{Adopt: true}},
		"newer head with a shorter life": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Active: at(1, "x", 60*day, 30*day), Head: with(at(2, "y", 0, 6*day), "s")},
			fleet.Verdict{Adopt: true}},
		"head with a smaller number and a later end": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Active: at(3, "x", 60*day, 30*day), Head: with(at(2, "y", day, 89*day), "s")},
			fleet.Verdict{}},
		"same number after a restore, later beginning": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Active: at(3, "x", 2*day, 30*day), Head: with(at(3, "y", day, 30*day), "s")},
			fleet.Verdict{Adopt: true}},
		"the very same version": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Active: at(0, "x", 2*day, 30*day), Head: with(at(1, "x", 2*day, 30*day), "s")},
			fleet.Verdict{}},
		"head that expired": {
			fleet.Facts{Spec: "s", Names: ab, HeadNames: ab, Head: with(at(1, "x", 90*day, -time.Hour), "s")}, fleet.Verdict{}},
		"first of a rolling change": {
			fleet.Facts{Spec: "new", ActiveSpec: "old", Names: abc, HeadNames: ab, Active: at(1, "x", day, 80*day), Head: with(at(1, "x", day, 80*day), "old")},
			fleet.Verdict{Reorder: true}},
		"second of a rolling change": {
			fleet.Facts{Spec: "new", ActiveSpec: "old", Names: abc, HeadNames: abc, Active: at(1, "x", day, 80*day), Head: with(at(2, "y", 0, 89*day), "new", "old")},
			fleet.Verdict{Adopt: true, Record: true}},
		"adopted before its configuration changed": {
			fleet.Facts{Spec: "new", ActiveSpec: "old", ActiveFits: true, Names: abc, HeadNames: abc, Active: at(2, "y", 0, 89*day), Head: with(at(2, "y", 0, 89*day), "new", "old")},
			fleet.Verdict{Record: true}},
		"straggler takes a wider certificate and does not order": {
			fleet.Facts{Spec: "old", ActiveSpec: "old", ActiveFits: true, Names: ab, HeadNames: abc, Active: at(1, "x", day, 80*day), Head: with(at(2, "y", 0, 89*day), "new", "old")},
			fleet.Verdict{Adopt: true, Superseded: true}},
		"straggler keeps what has a name that the new one lacks": {
			fleet.Facts{Spec: "old", ActiveSpec: "old", ActiveFits: true, Names: abc, HeadNames: ab, Active: at(1, "x", day, 80*day), Head: with(at(2, "y", 0, 89*day), "new", "old")},
			fleet.Verdict{Superseded: true, Missing: []string{"c"}}},
		"straggler near its end takes fewer names": {
			fleet.Facts{Spec: "old", ActiveSpec: "old", ActiveFits: true, Names: abc, HeadNames: ab, Active: at(1, "x", 85*day, 5*day), Head: with(at(2, "y", 0, 89*day), "new", "old")},
			fleet.Verdict{Adopt: true, Superseded: true, Missing: []string{"c"}}},
		"straggler that is empty": {
			fleet.Facts{Spec: "old", Names: abc, HeadNames: ab, Head: with(at(2, "y", 0, 89*day), "new", "old")},
			fleet.Verdict{Adopt: true, Superseded: true, Missing: []string{"c"}}},
		"straggler when the head is about to end": {
			fleet.Facts{Spec: "old", ActiveSpec: "old", ActiveFits: true, Names: ab, HeadNames: ab, Active: at(2, "y", 85*day, 5*day), Head: with(at(2, "y", 85*day, 5*day), "new", "old")},
			fleet.Verdict{}},
		"withdrawal on purpose": {
			fleet.Facts{Spec: "old", ActiveSpec: "new", Names: ab, HeadNames: abc, Active: at(2, "y", day, 80*day), Head: with(at(2, "y", day, 80*day), "new", "old")},
			fleet.Verdict{Reorder: true}},
		"unshared, head fits and is newer than its base": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Unshared: true, Active: at(4, "x", 0, 90*day), Head: with(at(5, "y", day, 89*day), "s")},
			fleet.Verdict{Adopt: true}},
		"unshared, head is its base": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Unshared: true, Active: at(4, "x", 0, 90*day), Head: with(at(4, "y", 85*day, 5*day), "s")},
			fleet.Verdict{}},
		"unshared, head is newer and due": {
			fleet.Facts{Spec: "s", ActiveSpec: "s", ActiveFits: true, Names: ab, HeadNames: ab, Unshared: true, HeadDue: true, Active: at(4, "x", 0, 90*day), Head: with(at(5, "y", 80*day, 10*day), "s")},
			fleet.Verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			test.facts.Now = now
			got := fleet.Judge(test.facts)
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Fatalf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestSeal(t *testing.T) {
	key := func() certs.Secret {
		k, err := fleet.ParseSealKey(fleet.NewSealKey())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sealer := func(keys ...certs.Secret) *fleet.Sealer {
		s, err := fleet.NewSealer(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := key(), key()
	sealed := sealer(one).Seal("/a", []byte("text"))
	if got, err := sealer(two, one).Open("/a", sealed); err != nil || string(got) != "text" {
		t.Fatalf("the second key does not open: %q, %v", got, err)
	}
	if bytes.Equal(sealed, sealer(one).Seal("/a", []byte("text"))) {
		t.Error("the same text twice gives the same")
	}
	for name, open := range map[string]func() ([]byte, error){
		"another key":   func() ([]byte, error) { return sealer(two).Open("/a", sealed) },
		"another place": func() ([]byte, error) { return sealer(one).Open("/b", sealed) },
		"cut off":       func() ([]byte, error) { return sealer(one).Open("/a", sealed[:12]) },
		"nothing":       func() ([]byte, error) { return sealer(one).Open("/a", nil) },
	} {
		var refused *fleet.SealError
		if _, err := open(); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := sealer(one).Open("/a", changed); err == nil {
			t.Fatalf("byte %d changed, and it opens", i)
		}
	}
	secret := "c2hvcnQga2V5"
	if _, err := fleet.ParseSealKey([]byte(secret)); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a short key: %v", err)
	}
	if _, err := fleet.NewSealer(); err == nil {
		t.Error("a sealer without a key")
	}
}

// TestCodes: what keeps a node out of its fleet has advice of its own.
func TestCodes(t *testing.T) {
	for want, err := range map[advice.Code]error{
		advice.FleetMissing: &fleet.NoFleetError{Fleet: "web"}, advice.SealKeyWrong: &fleet.SealKeyError{Fleet: "web"},
		advice.StoreUntrusted: &fleet.SealError{Path: "/acmed/web/v1/meta"},
	} {
		if got := advice.Of(fmt.Errorf("join: %w", err)); got != want {
			t.Errorf("%v has the code %q, want %q", err, got, want)
		}
		if _, ok := advice.Lookup(want); !ok {
			t.Errorf("%s has no advice", want)
		}
	}
}
