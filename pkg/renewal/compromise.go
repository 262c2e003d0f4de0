package renewal

import (
	"context"
	"fmt"
	"slices"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

func isCompromised(have *store.Lineage) bool {
	return have.Version != "" && slices.Contains(have.State.Compromised, have.Version)
}

// compromised makes a certificate due whose replacement could not be had at once.
func compromised(in *input) (verdict, bool) {
	return verdict{ReasonCompromised, "others may know the private key"}, isCompromised(in.have)
}

// Condemn records that others may know a private key of a bundle of one certificate. Every stored version that has one of
// its keys is never made live again, is removed when it is not the active one, and makes the certificate due for a new key
// when it is. It waits for a running job, which might take the key for one more version. Condemning again changes nothing.
func (e *Engine) Condemn(ctx context.Context, name string, b *certs.Bundle) error {
	release, err := e.reserve(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	lineage, err := e.store.Load(name)
	if err != nil {
		return err
	}
	e.condemn(lineage, b)
	if err := e.store.SaveState(name, &lineage.State); err != nil {
		return fmt.Errorf("record that the key is compromised: %w", err)
	}
	return nil
}

// reserve keeps jobs for one certificate from running until release is called, once the running one has ended.
func (e *Engine) reserve(ctx context.Context, name string) (release func(), err error) {
	for {
		e.mu.Lock()
		running, closed := e.jobs[name], e.closed
		if running == nil && !closed {
			errand := &job{errand: true, done: make(chan struct{})}
			e.jobs[name] = errand
			e.wg.Add(1)
			e.mu.Unlock()
			return func() { e.release(name, errand) }, nil
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

func (e *Engine) release(name string, errand *job) {
	e.mu.Lock()
	delete(e.jobs, name)
	e.mu.Unlock()
	close(errand.done)
	e.wg.Done()
}

// condemn notes every stored version that has a key of b, or cannot be read to tell: none of them is ever used again, and
// with the next active version they are removed. What an operator or a client wants of such a version is void.
func (e *Engine) condemn(lineage *store.Lineage, b *certs.Bundle) {
	st := &lineage.State
	for _, v := range lineage.Versions {
		if slices.Contains(st.Compromised, v.ID) {
			continue
		}
		if other, err := e.store.Bundle(lineage.Name, v.ID); err != nil || b.SharesKey(other) {
			st.Compromised = append(st.Compromised, v.ID)
		}
	}
	if slices.Contains(st.Compromised, st.Pinned) {
		st.Pinned = ""
	}
	if st.Held != nil && slices.Contains(st.Compromised, st.Held.Version) {
		st.Held = nil
	}
}

// condemn does so, when a new key is wanted, with those of the active version. Nothing else may stay live for its sake.
func (j *job) condemn(lineage *store.Lineage) {
	if !j.opts.NewKey || lineage.Current == nil {
		return
	}
	j.engine.condemn(lineage, lineage.Current)
	lineage.State.Held, lineage.State.Pinned = nil, ""
}
