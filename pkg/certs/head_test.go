package certs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

func testBundle(t *testing.T, names ...string) *certs.Bundle {
	return fleettest.Bundle(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), names...)
}

func TestHeadKeepsTheLastConfigurations(t *testing.T) {
	var h certs.Head
	b := testBundle(t, "example.com")
	for i, spec := range strings.Split("abcdefghijk", "") {
		h.SetVersion(int64(i+1), b, spec)
	}
	if got := strings.Join(h.Old, ""); got != "cdefghij" {
		t.Fatalf("kept are %q", got)
	}
}

func TestHeadSetVersion(t *testing.T) {
	b := testBundle(t, "a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example", "h.example", "i.example", "j.example", "k.example")
	h, err := certs.ParseHead([]byte(`{"n":4,"spec":"one","old":["zero","two"],"renew_at":"2027-01-01T00:00:00Z","served":"x","later":[1]}`))
	if err != nil {
		t.Fatal(err)
	}
	h.SetVersion(5, b, "two")
	if h.N != 5 || h.Spec != "two" || strings.Join(h.Old, " ") != "zero one" || !h.RenewAt.IsZero() || h.Served != "" || len(h.Names) != 10 || h.NamesTotal != 11 ||
		h.Fingerprint != b.Fingerprint() || !h.NotAfter.Equal(b.Leaf.NotAfter) {
		t.Fatalf("%+v", h)
	}
	h.SetVersion(6, b, "two")
	if strings.Join(h.Old, " ") != "zero one" {
		t.Errorf("the same configuration again: %q", h.Old)
	}
	text, err := h.Encode()
	if err != nil || !strings.Contains(string(text), `"later":[1]`) {
		t.Fatalf("%s, %v", text, err)
	}
}

func TestBadHeads(t *testing.T) {
	for _, text := range []string{``, `[]`, `{"n":"x"}`, `{"n":-1}`, `{"not_after":"soon"}`} {
		h, err := certs.ParseHead([]byte(text))
		if err == nil || h.N != 0 || h.Raw() != text {
			t.Errorf("%q: %+v, %v", text, h, err)
		}
	}
}

func TestHeadNewer(t *testing.T) {
	now := time.Now()
	head := func(n int64, at time.Time, fingerprint string) *certs.Head {
		return &certs.Head{N: n, NotBefore: at, NotAfter: at.Add(time.Hour), Fingerprint: fingerprint}
	}
	for name, pair := range map[string][2]*certs.Head{
		"number":      {head(2, now, "a"), head(1, now.Add(time.Hour), "b")},
		"beginning":   {head(1, now.Add(time.Hour), "a"), head(1, now, "b")},
		"fingerprint": {head(1, now, "b"), head(1, now, "a")},
	} {
		if !pair[0].Newer(pair[1]) || pair[1].Newer(pair[0]) {
			t.Error(name)
		}
	}
	if head(1, now, "a").Newer(head(1, now, "a")) {
		t.Error("a head is newer than itself")
	}
}

func TestSpecHash(t *testing.T) {
	spec := func(change func(*certs.Spec)) string {
		s := &certs.Spec{
			Name: "www", Identifiers: []certs.Identifier{{Type: certs.DNS, Value: "a.example"}, {Type: certs.DNS, Value: "b.example"}},
			KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"le"},
		}
		change(s)
		return s.Hash()
	}
	base := spec(func(*certs.Spec) {})
	if base != "1-896baafa14e99e3f" {
		t.Errorf("the hash is %s: another release would think that every configuration changed", base)
	}
	for name, change := range map[string]func(*certs.Spec){
		"order of names": func(s *certs.Spec) { s.Identifiers[0], s.Identifiers[1] = s.Identifiers[1], s.Identifiers[0] },
		"name":           func(s *certs.Spec) { s.Name = "other" },
		"targets":        func(s *certs.Spec) { s.Targets = []string{"nginx"} },
		"solvers":        func(s *certs.Spec) { s.Solvers = []string{"x"} },
		"empty lists":    func(s *certs.Spec) { s.Trust, s.CSR = []string{}, nil },
	} {
		if spec(change) != base {
			t.Errorf("%s changes the hash", name)
		}
	}
	seen := map[string]string{base: "the base"}
	for name, change := range map[string]func(*certs.Spec){
		"fewer names": func(s *certs.Spec) { s.Identifiers = s.Identifiers[:1] },
		"key":         func(s *certs.Spec) { s.KeyTypes = []certs.KeyType{certs.EC384} },
		"dual":        func(s *certs.Spec) { s.KeyTypes = []certs.KeyType{certs.EC256, certs.RSA2048} },
		"profile":     func(s *certs.Spec) { s.Profile = "shortlived" },
		"issuers":     func(s *certs.Spec) { s.Issuers = []string{"le", "zerossl"} },
		"lifetime":    func(s *certs.Spec) { s.Lifetime = time.Hour },
		"must staple": func(s *certs.Spec) { s.MustStaple = true },
		"a CSR":       func(s *certs.Spec) { s.CSR = []byte{1} },
	} {
		hash := spec(change)
		if other := seen[hash]; other != "" {
			t.Errorf("%s has the hash of %s", name, other)
		}
		seen[hash] = name
	}
}
