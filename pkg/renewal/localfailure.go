package renewal

import (
	"context"
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// localFailure is what kept the last job of a certificate from its work: a disk that is full, read only or broken. It lives
// in memory, because nothing about it can be stored.
type localFailure struct {
	text  string
	code  advice.Code
	retry time.Time
}

// fail notes an error of the machine itself: a disk that cannot be read or written.
func (j *job) fail(err error) {
	j.result.Err = errors.Join(j.result.Err, err)
	j.result.Next = j.engine.clock().Add(plan.Retries()[1])
	if errors.Is(err, context.Canceled) || j.engine.base.Err() != nil { // acmed is stopping
		return
	}
	j.localFailure = &localFailure{text: shorten(err), code: advice.Of(err), retry: j.result.Next}
	j.event(notify.Event{Kind: notify.Failed, RetryAt: j.result.Next, Message: "the state of the certificate cannot be read or written",
		Error: j.localFailure.text, Code: j.localFailure.code})
}

// removeJob takes a job off the list and keeps its failure, until a job of the certificate ends without.
func (e *Engine) removeJob(j *job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.jobs, j.Spec.Name)
	delete(e.localFailures, j.Spec.Name)
	if j.localFailure != nil {
		e.localFailures[j.Spec.Name] = *j.localFailure
	}
}

// applyFailure adds the failure of the last job to the status of a certificate.
func (e *Engine) applyFailure(s *Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f, ok := e.localFailures[s.Name]; ok {
		s.Error, s.Code, s.RetryAt = f.text, f.code, f.retry
	}
}
