package renewal

import (
	"slices"
	"sync"

	"github.com/acmed/acmed/pkg/certs"
)

// progress is what one job has done so far, for everybody who waits for it.
type progress struct {
	mu        sync.Mutex
	steps     []certs.Step
	listeners []*func(certs.Step)
}

// follow calls fn for every step so far and every further one. When stop has returned, fn is not called again.
func (p *progress) follow(fn func(certs.Step)) (stop func()) {
	if fn == nil {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.steps {
		fn(s)
	}
	p.listeners = append(p.listeners, &fn)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.listeners = slices.DeleteFunc(p.listeners, func(l *func(certs.Step)) bool { return l == &fn })
	}
}

func (p *progress) add(s certs.Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, s)
	p.listeners = slices.DeleteFunc(p.listeners, func(l *func(certs.Step)) bool { return !heard(*l, s) })
}

// heard reports whether a listener took the step; one that panics is not asked again, and the job goes on.
func heard(fn func(certs.Step), s certs.Step) (ok bool) {
	defer func() { _ = recover() }()
	fn(s)
	return true
}
