package renewal

import (
	"context"
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/notify"
)

// trouble is what kept the last job of a certificate from its work: a disk that is full, read only or broken. It lives in
// memory, because nothing about it can be stored.
type trouble struct {
	text  string
	code  advice.Code
	retry time.Time
}

// fail notes an error of the machine itself: a disk that cannot be read or written.
func (j *job) fail(err error) {
	j.result.Err = errors.Join(j.result.Err, err)
	j.result.Next = j.engine.clock().Add(retryTable()[1])
	if errors.Is(err, context.Canceled) || j.engine.base.Err() != nil { // acmed is stopping
		return
	}
	j.trouble = &trouble{text: shorten(err), code: advice.Of(err), retry: j.result.Next}
	j.event(notify.Event{Kind: notify.Failed, RetryAt: j.trouble.retry, Message: "the state of the certificate cannot be read or written",
		Error: j.trouble.text, Code: j.trouble.code})
}

// leave takes a job off the list and keeps its trouble, until a job of the certificate ends without.
func (e *Engine) leave(j *job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.jobs, j.want.Name)
	delete(e.troubles, j.want.Name)
	if j.trouble != nil {
		e.troubles[j.want.Name] = *j.trouble
	}
}

// tell adds the trouble of the last job to what is told about a certificate.
func (e *Engine) tell(s *Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t, ok := e.troubles[s.Name]; ok {
		s.Error, s.Code, s.RetryAt = t.text, t.code, t.retry
	}
}
