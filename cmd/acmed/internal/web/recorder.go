package web

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// Recorder counts what happens between two looks. The counts begin with the process; a monitoring system knows how to go
// on after a restart. The zero Recorder is ready for use, by many at once.
type Recorder struct {
	mu sync.Mutex
	counts
}

type counts struct {
	renewals map[plan.Reason]int
	failures map[string]int
	codes    map[advice.Code]int
	requests map[request]*latency
	notified map[notified]int
}

// notified is a kind of outcome of notifications.
type notified struct {
	notifier string
	outcome  notify.Outcome
}

// read returns a copy, so that nobody who counts ever waits for somebody who reads.
func (r *Recorder) read() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := counts{maps.Clone(r.renewals), maps.Clone(r.failures), maps.Clone(r.codes), map[request]*latency{}, maps.Clone(r.notified)}
	for k, l := range r.requests {
		twin := *l
		twin.within = slices.Clone(l.within)
		c.requests[k] = &twin
	}
	return c
}

// request is a kind of request to a CA.
type request struct{ issuer, endpoint string }

// latency is how long requests of one kind took.
type latency struct {
	within []int // by bucket, not cumulative
	count  int
	sum    time.Duration
	failed int
}

// buckets are the upper bounds in seconds. A private CA answers in milliseconds, a public one in tenths of a second, and
// one in trouble in tens of seconds.
func buckets() []float64 { return []float64{0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30} }

// Job counts a job that has ended.
func (r *Recorder) Job(result renewal.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if result.Obtained {
		if r.renewals == nil {
			r.renewals = map[plan.Reason]int{}
		}
		r.renewals[result.Reason]++
	}
	if result.Err != nil && !result.Refused && !errors.Is(result.Err, renewal.ErrClosed) {
		if r.failures == nil {
			r.failures, r.codes = map[string]int{}, map[advice.Code]int{}
		}
		r.failures[failure(&result)]++
		if code := advice.Of(result.Err); code != "" {
			r.codes[code]++
		}
	}
}

// failures lists the reasons of failures. They are stable.
func failures() []string {
	return []string{
		"rate-limited", "ca-unavailable", "validation", "preflight", "vetting", "refused", "budget", "install", "hook", "other",
	}
}

// failure says in one word why a job failed. Of several errors the first in this order counts.
func failure(r *renewal.Result) string {
	var limited *certs.RateLimitError
	var down *certs.UnavailableError
	var invalid *certs.ValidationError
	var preflight *certs.PreflightError
	var vet *certs.VetError
	var permanent *certs.PermanentError
	var budget *certs.BudgetError
	switch {
	case errors.As(r.Err, &limited) && !limited.Unavailable:
		return "rate-limited"
	case limited != nil, errors.As(r.Err, &down):
		return "ca-unavailable"
	case errors.As(r.Err, &invalid):
		return "validation"
	case errors.As(r.Err, &preflight):
		return "preflight"
	case errors.As(r.Err, &vet):
		return "vetting"
	case errors.As(r.Err, &permanent):
		return "refused"
	case errors.As(r.Err, &budget):
		return "budget"
	}
	switch r.Reason {
	case plan.ReasonHook:
		return "hook"
	case plan.ReasonNotInstalled, plan.ReasonDrift, plan.ReasonActivate:
		return "install"
	}
	if r.Obtained {
		return "install"
	}
	return "other"
}

// Notification counts what became of a notification.
func (r *Recorder) Notification(notifier string, outcome notify.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notified == nil {
		r.notified = map[notified]int{}
	}
	r.notified[notified{notifier, outcome}]++
}

// Request counts a request to a CA.
func (r *Recorder) Request(issuer, endpoint string, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requests == nil {
		r.requests = map[request]*latency{}
	}
	l := r.requests[request{issuer, endpoint}]
	if l == nil {
		l = &latency{within: make([]int, len(buckets()))}
		r.requests[request{issuer, endpoint}] = l
	}
	l.count++
	l.sum += took
	if err != nil {
		l.failed++
	}
	for i, bound := range buckets() {
		if took.Seconds() <= bound {
			l.within[i]++
			break
		}
	}
}
