package renewal

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
)

// MarkCompromised records that others may know a private key of a bundle of one certificate. Every stored version that has
// one of its keys is never made live again, is removed when it is not the active one, and makes the certificate due for a
// new key when it is. It waits for a running job, which might take the key for one more version. Marking again changes
// nothing.
func (e *Engine) MarkCompromised(ctx context.Context, name string, b *certs.Bundle) error {
	return e.update(ctx, name, func(r *record) { e.markCompromised(r, b) })
}

// markCompromised marks every stored version that has a key of b, or cannot be read to tell: none of them is ever used
// again, and with the next active version they are removed. A pin or hold of such a version is void.
func (e *Engine) markCompromised(r *record, b *certs.Bundle) {
	st := r.edit()
	for _, v := range r.Versions {
		if slices.Contains(st.Compromised, v.ID) {
			continue
		}
		if other, err := e.store.Bundle(r.Name, v.ID); err != nil || b.SharesKey(other) {
			st.Compromised = append(st.Compromised, v.ID)
		}
	}
	if err := e.dropNextKeys(r.Name, b.Pins()); err != nil {
		e.log.Warn("the next key could not be read", zap.String("certificate", r.Name), zap.Error(err))
	}
	if slices.Contains(st.Compromised, st.Pinned) {
		st.Pinned = ""
	}
	if st.Held != nil && slices.Contains(st.Compromised, st.Held.Version) {
		st.Held = nil
	}
}

// update changes what is stored about a certificate while no job works on it.
func (e *Engine) update(ctx context.Context, name string, change func(*record)) error {
	release, err := e.reserve(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	r, err := e.open(name)
	if err != nil {
		return err
	}
	change(r)
	return r.save()
}

// reserve keeps jobs for one certificate from running until release is called, once the running one has ended.
func (e *Engine) reserve(ctx context.Context, name string) (release func(), err error) {
	for {
		e.mu.Lock()
		running, closed := e.jobs[name], e.closed
		if running == nil && !closed {
			j := &job{reservation: true, done: make(chan struct{})}
			e.jobs[name] = j
			e.wg.Add(1)
			e.mu.Unlock()
			return func() { e.release(name, j) }, nil
		}
		e.mu.Unlock()
		if running == nil {
			return nil, ErrClosed
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-running.done:
		}
	}
}

func (e *Engine) release(name string, reservation *job) {
	e.mu.Lock()
	delete(e.jobs, name)
	e.mu.Unlock()
	close(reservation.done)
	e.wg.Done()
}
