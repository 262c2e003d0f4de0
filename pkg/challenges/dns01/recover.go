package dns01

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Recover removes the records that an earlier process set through this solver and did not remove. It leaves alone what
// this process is using, so it can run at any time; the daemon runs it at its start. A record that cannot be removed stays
// in the journal and is part of the error.
//
// Some providers cannot remove a record that another process made, because they only know it by an identifier they had in
// memory. A worker removes its records itself when the daemon dies, so Recover then looks whether the record is still
// there, once the propagation timeout has passed since it was set.
func (s *Solver) Recover(ctx context.Context) error {
	entries, err := s.journal.Entries()
	errs := []error{err}
	for _, e := range entries {
		if e.Solver != s.name || s.isPending(e.Record) {
			continue
		}
		if err := s.recoverEntry(ctx, e); err != nil {
			errs = append(errs, fmt.Errorf("left from %s: %w", e.Created.UTC().Format(time.RFC3339), err))
		}
	}
	return errors.Join(errs...)
}

func (s *Solver) recoverEntry(ctx context.Context, e Entry) error {
	failed := s.remove(ctx, e.Record)
	if failed == nil {
		return nil
	}
	net, err := s.network()
	if err != nil {
		return errors.Join(failed, err)
	}
	select {
	case <-time.After(min(net.timeout, e.Created.Add(net.timeout).Sub(s.now()))):
	case <-ctx.Done():
		return errors.Join(failed, context.Cause(ctx))
	}
	gone, err := net.absent(ctx, e.Record)
	switch {
	case err != nil:
		return errors.Join(failed, err)
	case gone:
		return s.journal.remove(s.name, e.Record)
	}
	return fmt.Errorf("%w; it is still in the DNS: remove it by hand", failed)
}
