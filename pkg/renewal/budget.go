package renewal

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// invalidWindow is for how long a failed validation counts; public CAs count them by the hour.
const invalidWindow = time.Hour

// countInvalid stores each failed validation before the next order is placed, so that neither a crash nor a solver that
// works in the end makes a name's budget whole again.
func (j *job) countInvalid(st *store.State) func(*certs.ValidationError) {
	return func(v *certs.ValidationError) {
		if st.Invalid == nil {
			st.Invalid = map[string][]time.Time{}
		}
		id := v.Identifier.Value
		st.Invalid[id] = append(st.Invalid[id], j.engine.clock())
		if err := j.engine.store.SaveState(j.want.Name, st); err != nil {
			j.engine.log.Warn("a failed validation could not be stored", zap.String("certificate", j.want.Name), zap.Error(err))
		}
	}
}

// forgetInvalid drops what does not count any more.
func forgetInvalid(st *store.State, now time.Time) {
	for id, times := range st.Invalid {
		if st.Invalid[id] = since(times, now.Add(-invalidWindow)); len(st.Invalid[id]) == 0 {
			delete(st.Invalid, id)
		}
	}
}

// OverBudget is the error of a run in which nothing was tried, because a name failed too often before; else nil.
func OverBudget(err error) *certs.BudgetError {
	var budget *certs.BudgetError
	if len(certs.Validations(err)) > 0 || !errors.As(err, &budget) {
		return nil
	}
	return budget
}

// remember notes which solver proved each name. What an earlier order had proved keeps its solver.
func remember(st *store.State, validations []certs.Validation) {
	solved := map[string]string{}
	for _, v := range validations {
		if v.Solver == "" {
			v.Solver = st.Solved[v.Identifier]
		}
		if v.Solver != "" {
			solved[v.Identifier] = v.Solver
		}
	}
	st.Solved = solved
}
