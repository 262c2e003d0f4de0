package renewal

import (
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

func TestRenewalOf(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	b := bundleOf(t, now.Add(-10*day), 90*day, "example.com")
	leaf, rule := certs.Fingerprint(b.Leaf), b.Leaf.NotAfter.Add(-plan.DefaultRenewBefore)
	start, drawn, end := now.Add(20*day), now.Add(21*day), now.Add(22*day)
	if got := renewalOf(&certs.Spec{}, &store.Lineage{}); got != nil {
		t.Errorf("without a certificate: %+v", got)
	}
	for _, tt := range []struct {
		name  string
		state store.State
		want  RenewalStatus
	}{
		{"rule", store.State{}, RenewalStatus{At: rule, Reason: plan.ReasonRenewBefore, Rule: rule}},
		{
			"window", store.State{RenewAt: drawn, RenewFor: leaf, ARI: store.ARI{For: leaf, Start: start, End: end, CheckAt: now, URL: "https://ca"}},
			RenewalStatus{At: drawn, Reason: plan.ReasonARI, Rule: rule, Drawn: drawn, Start: start, End: end, AskAt: now, URL: "https://ca"},
		},
		{
			"window of an earlier leaf", store.State{RenewAt: drawn, RenewFor: "other", ARI: store.ARI{For: "other", Start: start, End: end}},
			RenewalStatus{At: rule, Reason: plan.ReasonRenewBefore, Rule: rule},
		},
		{
			"window after the rule", store.State{RenewAt: rule.Add(day), RenewFor: leaf},
			RenewalStatus{At: rule, Reason: plan.ReasonRenewBefore, Rule: rule, Drawn: rule.Add(day)},
		},
	} {
		got := renewalOf(&certs.Spec{}, &store.Lineage{Current: b, State: tt.state})
		if got == nil || *got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
