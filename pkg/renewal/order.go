package renewal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// obtain orders a new version and stores it.
func (j *job) obtain(ctx context.Context, p plan.Plan, f *plan.Fleet) error {
	r := j.record
	if j.opts.NewKey && r.Current != nil { // nothing may stay live for the sake of the old key
		j.engine.markCompromised(r, r.Current)
		st := r.edit()
		st.Held, st.Pinned = nil, ""
	}
	ok, err := j.begin(ctx, p, f)
	if !ok || err != nil {
		return err
	}
	bundle, accepted, err := j.orderHeld(ctx)
	if err != nil {
		return j.failOrder(err)
	}
	if h := r.State.Held; !accepted && h != nil && plan.Announced(h) {
		return j.discard(h)
	}
	return j.obtained(bundle, f)
}

// obtained stores a new version, and gives it to the fleet.
func (j *job) obtained(bundle *certs.Bundle, f *plan.Fleet) error {
	r := j.record
	j.step(certs.PhaseStore, "")
	version, err := j.engine.store.AddVersion(j.Spec.Name, bundle, j.engine.clock())
	if err != nil {
		return fmt.Errorf("store the new certificate: %w", err)
	}
	j.result.Obtained, j.result.Changed = true, true
	e := notify.Event{Kind: notify.Obtained, Version: version, NotAfter: bundle.Leaf.NotAfter, Message: "a new certificate was issued by " + bundle.Issuer}
	if !r.State.FailingSince.IsZero() {
		e.Kind, e.Recovers = notify.Recovered, notify.Failed
		e.Message += " after failures"
	}
	r.issued(bundle, j.Hooks.Post != nil, j.opts.NewKey)
	r.edit().Ignored = j.Spec.Ignored(bundle)
	r.noteChains(bundle)
	if f != nil {
		st := r.share()
		st.Unshared, st.Base, st.Spec = version, f.Head.N, j.Spec.Hash()
	}
	j.event(e)
	if err := r.save(); err != nil {
		return err
	}
	if j.held != nil {
		if err := j.commit(bundle, version, f.Head.N+1, j.Spec.Hash()); err != nil {
			return err
		}
	}
	return r.reread()
}

// begin notes that an order begins, and takes the claim for it in a fleet. False means that another node was faster, which is
// no attempt.
func (j *job) begin(ctx context.Context, p plan.Plan, f *plan.Fleet) (bool, error) {
	r := j.record
	attempts, retryAt := r.State.Attempts, r.State.RetryAt
	if err := r.beginOrder(); err != nil {
		return false, err
	}
	if f != nil && f.Away == "" {
		if ok, err := j.claim(ctx, f.Head, string(p.Reason)); !ok || err != nil {
			st := r.edit()
			st.Attempts, st.RetryAt = attempts, retryAt
			return false, err
		}
	}
	j.ordered = true
	return true, nil
}

// discard drops a new certificate that clients would refuse, because one that they accept waits for the end of its notice.
func (j *job) discard(h *store.Held) error {
	j.result.Err = errors.Join(j.result.Err, fmt.Errorf("clients would refuse the new certificate, so version %s, whose notice runs, is kept instead", h.Version))
	j.record.cancelOrder()
	j.record.countIssued()
	j.shareFailure()
	return j.record.save()
}

// orderHeld orders as long as the claim lasts, if there is one.
func (j *job) orderHeld(ctx context.Context) (b *certs.Bundle, accepted bool, err error) {
	if j.held == nil {
		return j.order(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	claim := j.held.Context()
	defer context.AfterFunc(claim, func() { cancel(context.Cause(claim)) })()
	if j.opts.NewKey {
		if err := j.condemn(ctx); err != nil {
			return nil, false, err
		}
	}
	return j.order(ctx)
}

// failOrder records an order that failed. Its error becomes part of the result; only that it could not be stored is
// returned.
func (j *job) failOrder(err error) error {
	j.result.Err = errors.Join(j.result.Err, err)
	r := j.record
	defer j.shareFailure()
	switch {
	case j.engine.base.Err() != nil:
		r.cancelOrder()
	case j.held != nil && j.fleet.Nodes > 1 && unable(err):
		j.leaveTurn(err)
	case r.failOrder(err, j.Asked):
		st := &r.State
		j.event(notify.Event{Kind: notify.Failed, RetryAt: st.RetryAt, Message: "no new certificate could be obtained", Error: st.LastError, Code: st.LastCode})
	}
	return r.save()
}

// order asks the issuers in turn. The next one is asked when the CA itself is the problem, see failover, or when none of
// its chains verifies for all clients. If that is so for all CAs, the first one's certificate is the answer, not accepted:
// it will wait.
func (j *job) order(ctx context.Context) (b *certs.Bundle, accepted bool, err error) {
	if err := j.runPre(ctx); err != nil {
		return nil, false, err
	}
	var errs []error
	var refused *certs.Bundle
	for _, name := range j.Spec.Issuers {
		bundle, err := j.orderFrom(ctx, name)
		if err == nil {
			o := j.judge(bundle)
			if len(o.failing) == 0 {
				return o.bundle, true, nil
			}
			if refused == nil {
				refused = o.bundle
			}
			continue
		}
		errs = append(errs, err)
		if !errors.Is(err, errNotConfigured) && !j.record.failover(&j.Spec, name, err) {
			break
		}
	}
	if refused != nil {
		j.engine.log.Warn("no chain of any issuer verifies for all clients", zap.String("certificate", j.Spec.Name))
		return refused, false, nil
	}
	return nil, false, errors.Join(errs...)
}

func (j *job) orderFrom(ctx context.Context, name string) (*certs.Bundle, error) {
	issuer, ok := j.set.Issuers[name]
	if !ok {
		return nil, fmt.Errorf("issuer %q: %w", name, errNotConfigured)
	}
	r := j.record
	bundle, err := issuer.Obtain(ctx, certs.Request{
		Spec: j.Spec, Replaces: r.Current, Solved: r.State.Solved, NewKey: j.opts.NewKey, Next: j.next, Asked: j.opts.Again || j.opts.Force, Progress: j.progress.add, Invalid: r.State.Invalid,
		Failed: func(v *certs.ValidationError) {
			if err := r.invalid(v.Identifier.Value); err != nil {
				j.engine.log.Warn("a failed validation could not be stored", zap.String("certificate", j.Spec.Name), zap.Error(err))
			}
		},
	})
	if err == nil {
		delete(r.edit().Down, name)
	}
	return bundle, err
}

// failover reports whether the next issuer shall be asked after err. It remembers in the state since when the issuer is
// away. Only a CA that is unavailable is left; a name's own failure would fail everywhere. One that refuses the account is
// left only where there is nothing to serve soon, because somebody has to put that right. With the last third of the
// renewal time gone, or without any certificate to serve, there is nothing to wait for. A limit on this account passes by
// itself and says nothing about the CA, so it is waited out even without a certificate: mass issuance spreads over time
// and not over CAs. It is left only near expiry.
func (r *record) failover(want *certs.Spec, issuer string, err error) bool {
	st, now := r.edit(), r.now()
	near := r.Current != nil && plan.NearExpiry(now, want, r.Current.Leaf)
	var limit *certs.RateLimitError
	var down *certs.UnavailableError
	var refused *certs.AccountError
	limited := errors.As(err, &limit)
	switch {
	case errors.As(err, &refused):
		return r.Current == nil || near
	case errors.As(err, &down), limited && limit.Unavailable:
	case limited:
		return near
	default:
		delete(st.Down, issuer)
		return false
	}
	if _, known := st.Down[issuer]; !known {
		if st.Down == nil {
			st.Down = map[string]time.Time{}
		}
		st.Down[issuer] = now
	}
	return r.Current == nil || near || now.Sub(st.Down[issuer]) >= plan.FailoverAfter(r.Lineage)
}

// ariPatience is how long a CA may take to answer for its renewal window, which is only ever a hint.
const ariPatience = 15 * time.Second

// askARI fetches the CA's renewal window, and looks for what would stand in the way of the renewal.
func (j *job) askARI(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ariPatience)
	defer cancel()
	if j.set.Forewarn != nil {
		j.record.edit().Warnings = j.set.Forewarn(ctx, &j.Spec)
	}
	window, err := j.renewalInfo(ctx, j.record.Current)
	if err != nil {
		j.engine.log.Debug("no renewal window", zap.String("certificate", j.Spec.Name), zap.Error(err))
	}
	j.record.window(window, err)
	j.note(ctx, func(*certs.Head) {})
}

func (j *job) renewalInfo(ctx context.Context, b *certs.Bundle) (certs.Window, error) {
	i, ok := j.set.Issuers[b.Issuer]
	if !ok {
		return certs.Window{}, fmt.Errorf("issuer %q: %w", b.Issuer, errNotConfigured)
	}
	return i.RenewalInfo(ctx, b.Leaf)
}
