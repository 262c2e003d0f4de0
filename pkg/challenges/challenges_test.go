package challenges_test

import (
	"context"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

type solver challenges.Type

func (s solver) Type() challenges.Type                             { return challenges.Type(s) }
func (solver) Present(context.Context, challenges.Challenge) error { return nil }
func (solver) CleanUp(context.Context, challenges.Challenge) error { return nil }
func rung(name string, t challenges.Type, z ...string) challenges.Rung {
	return challenges.Rung{Name: name, Solver: solver(t), Zones: z}
}

func TestPick(t *testing.T) {
	ladder := challenges.Ladder{
		rung("alpn", challenges.TLSALPN01),
		rung("http", challenges.HTTP01),
		rung("cf-org", challenges.DNS01, "example.org", "example.net."),
		rung("cf", challenges.DNS01),
	}
	all := []challenges.Type{"dns-persist-01", challenges.DNS01, challenges.HTTP01, challenges.TLSALPN01}
	for _, tc := range []struct {
		name    string
		id      string
		offered []challenges.Type
		tried   []string
		hint    string
		want    string // "": nothing left
	}{
		{name: "first", id: "example.com", offered: all, want: "alpn"},
		{name: "hint first", id: "example.com", offered: all, hint: "http", want: "http"},
		{name: "hint tried", id: "example.com", offered: all, hint: "http", tried: []string{"http"}, want: "alpn"},
		{name: "hint gone from the configuration", id: "example.com", offered: all, hint: "webroot", want: "alpn"},
		{name: "hint not offered", id: "example.com", offered: all[:2], hint: "http", want: "cf"},
		{name: "hint of another zone", id: "example.com", offered: all, hint: "cf-org", want: "alpn"},
		{name: "next", id: "example.com", offered: all, tried: []string{"alpn"}, want: "http"},
		{name: "zone of the name", id: "example.org", offered: all, tried: []string{"alpn", "http"}, want: "cf-org"},
		{name: "zone with a dot", id: "a.b.example.net", offered: all, tried: []string{"alpn", "http"}, want: "cf-org"},
		{name: "zone ends within a label", id: "notexample.org", offered: all, tried: []string{"alpn", "http"}, want: "cf"},
		{name: "wildcard", id: "*.example.com", offered: all, want: "cf"},
		{name: "wildcard of a zone", id: "*.example.org", offered: all, hint: "http", want: "cf-org"},
		{name: "wildcard without dns", id: "*.example.com", offered: all[2:]},
		{name: "address", id: "192.0.2.1", offered: all, tried: []string{"alpn", "http"}},
		{name: "nothing known", id: "example.com", offered: []challenges.Type{"dns-persist-01"}},
		{name: "nothing offered", id: "example.com"},
		{name: "all tried", id: "example.com", offered: all, tried: []string{"alpn", "http", "cf"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, _, err := certs.ParseIdentifier(tc.id)
			if err != nil {
				t.Fatal(err)
			}
			tried := map[string]bool{}
			for _, name := range tc.tried {
				tried[name] = true
			}
			got, ok := ladder.Pick(id, tc.offered, tried, tc.hint)
			if got.Name != tc.want || ok != (tc.want != "") {
				t.Errorf("picked %q, %v; want %q", got.Name, ok, tc.want)
			}
		})
	}
}

func TestDemote(t *testing.T) {
	ladder := challenges.Ladder{
		rung("alpn", challenges.TLSALPN01), rung("webroot", challenges.HTTP01), rung("dns", challenges.DNS01), rung("http", challenges.HTTP01),
	}
	names := func(l challenges.Ladder) (list []string) {
		for _, r := range l {
			list = append(list, r.Name)
		}
		return list
	}
	for want, demoted := range map[string][]string{
		"alpn webroot dns http": nil,
		"webroot dns http alpn": {"alpn"},
		"dns alpn webroot http": {"http", "webroot", "alpn", "unknown"},
	} {
		set := map[string]bool{}
		for _, name := range demoted {
			set[name] = true
		}
		if got := strings.Join(names(ladder.Demote(set)), " "); got != want {
			t.Errorf("without %v: %s", demoted, got)
		}
	}
	if got := strings.Join(names(ladder), " "); got != "alpn webroot dns http" {
		t.Errorf("the ladder itself became %s", got)
	}
}

func TestLadderFor(t *testing.T) {
	ladder := challenges.Ladder{
		rung("alpn", challenges.TLSALPN01), rung("org", challenges.DNS01, "example.org"), rung("dns", challenges.DNS01), rung("http", challenges.HTTP01),
	}
	for name, want := range map[string]string{
		"example.com": "alpn dns http", "www.example.org": "alpn org dns http", "*.example.org": "org dns", "192.0.2.1": "alpn http",
	} {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range ladder.For(id) {
			got = append(got, r.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}

func TestCheckToken(t *testing.T) {
	for _, good := range []string{strings.Repeat("a", 22), "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", strings.Repeat("-_0Z", 32)} {
		if err := challenges.CheckToken(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	pad := strings.Repeat("a", 30)
	for _, bad := range []string{"", strings.Repeat("a", 21), strings.Repeat("a", 1<<20), pad + "/", pad + "..", pad + "\x00", pad + "=", pad + "é", pad + "\r\n", " " + pad} {
		if err := challenges.CheckToken(bad); err == nil {
			t.Errorf("%.40q was accepted", bad)
		} else if strings.Contains(err.Error(), pad) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
}
