package plan

import (
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/store"
)

// TestFleetRows: what a node of a fleet does where a single machine would order.
func TestFleetRows(t *testing.T) {
	now := time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	const life = 90 * day
	have := func(left time.Duration) *store.Lineage {
		b := bundleOf(t, now.Add(left-life), life, "example.com")
		v := store.Version{ID: "20270101T000000Z-00000000", NotBefore: b.Leaf.NotBefore, NotAfter: b.Leaf.NotAfter, Fingerprint: b.Fingerprint()}
		l := &store.Lineage{Name: "www", Current: b, Version: v.ID, Versions: []store.Version{v}}
		l.State.ARI = store.ARI{For: certs.Fingerprint(b.Leaf), CheckAt: now.Add(day)}
		l.State.Fleet = &store.Fleet{N: 3, Version: v.ID}
		return l
	}
	due, late, fresh := 30*day-10*time.Second, 8*day, 80*day
	newer := certs.Head{N: 4, NotBefore: now, NotAfter: now.Add(90 * day)}
	for name, test := range map[string]struct {
		left   time.Duration // of the active version; 0: there is none
		opts   Options
		fleet  Fleet
		reason Reason
		obtain bool
		change func(*store.Lineage)
	}{
		"first in line":                        {due, Options{}, Fleet{Rank: 0, Nodes: 3}, ReasonRenewBefore, true, nil},
		"second in line":                       {due, Options{}, Fleet{Rank: 1, Nodes: 3}, ReasonTurn, false, nil},
		"second in line, forced":               {due, Options{Force: true}, Fleet{Rank: 1, Nodes: 3}, ReasonRenewBefore, true, nil},
		"last in line, last tenth":             {late, Options{}, Fleet{Rank: 9, Nodes: 10}, ReasonLastTenth, true, nil},
		"nothing there, last in line":          {0, Options{}, Fleet{Rank: 9, Nodes: 10}, ReasonNeverIssued, true, nil},
		"another node is at it":                {late, Options{}, Fleet{Elsewhere: "node b is working on it"}, ReasonElsewhere, false, nil},
		"another node is at it, forced":        {fresh, Options{Force: true}, Fleet{Elsewhere: "node b is working on it"}, ReasonElsewhere, false, nil},
		"role install":                         {late, Options{Force: true}, Fleet{Install: true}, ReasonTurn, false, nil},
		"older configuration":                  {due, Options{}, Fleet{Verdict: fleet.Verdict{Superseded: true}, Head: newer}, ReasonSuperseded, false, nil},
		"older configuration, forced":          {fresh, Options{Force: true}, Fleet{Verdict: fleet.Verdict{Superseded: true}, Head: newer}, ReasonSuperseded, false, nil},
		"older configuration, nothing there":   {0, Options{}, Fleet{Verdict: fleet.Verdict{Superseded: true}, Head: newer}, ReasonSuperseded, false, nil},
		"newer version":                        {late, Options{}, Fleet{Verdict: fleet.Verdict{Adopt: true}}, ReasonAdopt, false, nil},
		"newer version, store away":            {fresh, Options{}, Fleet{Verdict: fleet.Verdict{Adopt: true}, Away: "no quorum"}, ReasonNothing, false, nil},
		"damaged, the fleet has it":            {fresh, Options{}, Fleet{Head: certs.Head{N: 3, NotAfter: now.Add(fresh)}}, ReasonAdopt, false, func(l *store.Lineage) { l.Current, l.Damage = nil, errDamaged }},
		"damaged, the fleet's is void":         {fresh, Options{}, Fleet{Head: certs.Head{N: 3, NotAfter: now.Add(fresh), Void: true}}, ReasonDamaged, true, func(l *store.Lineage) { l.Current, l.Damage = nil, errDamaged }},
		"could not be taken a moment ago":      {fresh, Options{}, Fleet{Verdict: fleet.Verdict{Adopt: true}}, ReasonNothing, false, func(l *store.Lineage) { l.State.Fleet.RetryAt = now.Add(time.Minute) }},
		"store away, due":                      {due, Options{}, Fleet{Away: "no quorum", Nodes: 3}, ReasonStoreAway, false, nil},
		"store away, forced":                   {due, Options{Force: true}, Fleet{Away: "no quorum", Nodes: 3}, ReasonStoreAway, false, nil},
		"store away, an operator wants it":     {due, Options{Force: true}, Fleet{Away: "no quorum", Nodes: 3, Alone: true}, ReasonRenewBefore, true, nil},
		"store away, last tenth, first":        {late, Options{}, Fleet{Away: "no quorum", Nodes: 3}, ReasonLastTenth, true, nil},
		"store away, last tenth, third":        {late, Options{}, Fleet{Away: "no quorum", Nodes: 3, Rank: 2}, ReasonStoreAway, false, nil},
		"store away, nothing there":            {0, Options{}, Fleet{Away: "no quorum", Nodes: 3}, ReasonStoreAway, false, nil},
		"the fleet lacks what is here":         {fresh, Options{}, Fleet{Publish: true}, ReasonPublish, false, nil},
		"pending order of a node that is gone": {fresh, Options{}, Fleet{Abandoned: true}, ReasonResume, true, nil},
		"the same, second in line":             {fresh, Options{}, Fleet{Abandoned: true, Rank: 1}, ReasonNothing, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := &store.Lineage{Name: "www"}
			if test.left > 0 {
				l = have(test.left)
			}
			if test.change != nil {
				test.change(l)
			}
			test.opts.Fleet = &test.fleet
			want := &certs.Spec{Name: "www", Identifiers: identifiers(t, "example.com"), KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"ca"}}
			p := Decide(now, want, l, test.opts)
			if p.Reason != test.reason || p.Obtain != test.obtain || p.Message == "" || p.Next.IsZero() {
				t.Fatalf("%+v", p)
			}
			if strings.Contains(name, "store away") && !p.Obtain && test.reason == ReasonStoreAway && !strings.Contains(p.Message, "no quorum") {
				t.Fatalf("%+v", p)
			}
		})
	}
}

var errDamaged = &store.NewerStateError{Path: "cert.pem"}
