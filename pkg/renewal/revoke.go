package renewal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/store"
)

// BeginRevocation records that an operator revokes a stored version, before the CA hears of it: whatever happens then, the
// CA is asked again until it does so. Unless keep is set the certificate is due for a new version when it is the active one.
// A version that the CA has revoked stays revoked.
func (e *Engine) BeginRevocation(ctx context.Context, name, version, reason string, keep bool) error {
	return e.update(ctx, name, func(r *record) {
		rev := r.State.Revoked[version]
		if rev.At.IsZero() {
			rev.At = e.clock()
		}
		rev.Reason, rev.Keep = reason, keep
		r.setRevoked(version, rev)
	})
}

// EndRevocation records what the CA answered.
func (e *Engine) EndRevocation(ctx context.Context, name, version string, err error) error {
	return e.update(ctx, name, func(r *record) { r.revoked(version, err) })
}

func (r *record) setRevoked(version string, rev store.Revocation) {
	st := r.edit()
	if st.Revoked == nil {
		st.Revoked = map[string]store.Revocation{}
	}
	st.Revoked[version] = rev
}

// revoked notes the outcome of a request to revoke.
func (r *record) revoked(version string, err error) {
	rev := r.State.Revoked[version]
	if err == nil {
		rev.DoneAt, rev.Failures, rev.LastError, rev.LastCode, rev.RetryAt = r.now(), 0, "", "", time.Time{}
		r.edit().Remember(store.LogEntry{At: r.now(), Event: "revoked", Version: version, Detail: rev.Reason})
	} else {
		rev.Failures = min(rev.Failures+1, maxFailures)
		rev.LastError, rev.LastCode, rev.RetryAt = shorten(err), advice.Of(err), r.backoff(rev.Failures)
		r.edit().Remember(store.LogEntry{At: r.now(), Event: "revocation_failed", Version: version, Code: rev.LastCode, Detail: rev.LastError})
	}
	r.setRevoked(version, rev)
}

// revoke asks the CA once more for what it did not do when the operator asked.
func (j *job) revoke(ctx context.Context, version string) error {
	r := j.record
	b, err := j.engine.store.Bundle(r.Name, version)
	switch {
	case err != nil:
	case j.set.Revoke == nil:
		err = errors.New("no issuer can be asked")
	default:
		err = j.set.Revoke(ctx, b, r.State.Revoked[version].Reason)
	}
	if stopped := j.stopped(); stopped != nil {
		return stopped
	}
	r.revoked(version, err)
	if err != nil {
		j.result.Err = errors.Join(j.result.Err, fmt.Errorf("revoke version %s: %w", version, err))
	}
	return nil
}
