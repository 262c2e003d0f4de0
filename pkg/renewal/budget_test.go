package renewal

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

func TestForgetInvalid(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	r := &record{Lineage: &store.Lineage{State: store.State{Invalid: map[string][]time.Time{
		"old.example.com": {now.Add(-2 * time.Hour), now.Add(-time.Hour)},
		"new.example.com": {now.Add(-time.Hour), now.Add(-59 * time.Minute), now},
	}}}, now: func() time.Time { return now }}
	r.forgetInvalid()
	if diff := cmp.Diff(map[string][]time.Time{"new.example.com": {now.Add(-59 * time.Minute), now}}, r.State.Invalid); diff != "" {
		t.Error(diff)
	}
}

func TestRemember(t *testing.T) {
	st := &store.State{Solved: map[string]string{"a.example.com": "dns", "b.example.com": "http-01", "gone.example.com": "http-01"}}
	remember(st, []certs.Validation{
		{Identifier: "a.example.com"}, {Identifier: "b.example.com", Solver: "webroot"}, {Identifier: "c.example.com"},
	})
	if diff := cmp.Diff(map[string]string{"a.example.com": "dns", "b.example.com": "webroot"}, st.Solved); diff != "" {
		t.Error(diff)
	}
}

func TestOverBudget(t *testing.T) {
	budget := &certs.BudgetError{Failed: 3}
	if OverBudget(budget) == nil || OverBudget(errors.Join(&certs.ValidationError{Err: budget}, budget)) != nil || OverBudget(errors.New("x")) != nil {
		t.Error("only a run in which nothing was tried is one over budget")
	}
}
