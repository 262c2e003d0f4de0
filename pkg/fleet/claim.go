package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// Claim is the right to work on one certificate. It lasts until it is let go, by Commit, Fail or Release, or until the
// lease of its node ends. It is used by one job at a time.
type Claim struct {
	claimValue
	ledger *Ledger
	name   string
	value  []byte
	head   certs.Head
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Claim takes the right to work on a certificate and writes next, the head with the attempt counted. Seen is the head on
// which the decision was made, the zero Head if there is none. The error is a [*certs.ElsewhereError], a
// [*certs.ChangedError], or a [*certs.LedgerError].
func (l *Ledger) Claim(ctx context.Context, name string, seen, next certs.Head, why string) (*Claim, error) {
	text, err := encodeOver(next, seen)
	if err != nil {
		return nil, err
	}
	key := l.keys.head(name)
	c, err := l.claim(ctx, name, why, []Cond{{key, rawOf(seen)}}, []Op{{Key: key, Value: text}})
	if err != nil {
		return nil, err
	}
	c.head, err = certs.ParseHead(text)
	return c, err
}

// ClaimOther takes the right to work on something that is no certificate, such as an account. The name begins with "@".
func (l *Ledger) ClaimOther(ctx context.Context, name, why string) (*Claim, error) {
	return l.claim(ctx, name, why, nil, nil)
}

func (l *Ledger) claim(ctx context.Context, name, why string, conds []Cond, ops []Op) (*Claim, error) {
	lease, ok := l.holding()
	if !ok {
		return nil, errNotJoined()
	}
	c := &Claim{ledger: l, name: name, claimValue: claimValue{l.config.Node.ID, lease, nonce(), time.Now().UTC(), why}}
	var err error
	if c.value, err = json.Marshal(c.claimValue); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	key := l.keys.claim(name)
	l.mu.Lock()
	l.claims[c.Nonce] = c // before it is asked for, so that a beat does not let go of it
	l.mu.Unlock()
	t := Txn{
		If:   append([]Cond{{Key: key}}, conds...),
		Then: append([]Op{{Key: key, Value: c.value, Lease: lease}}, ops...),
		Else: []string{key, l.keys.head(name)},
	}
	r, err := l.commit(ctx, t)
	if unknown(err) {
		if kv, readErr := l.get(ctx, key); readErr == nil {
			r, err = Result{Done: false, Revision: 0}, nil
			if kv != nil {
				r.Read = []KV{*kv}
			}
		}
	}
	if err == nil && !r.Done {
		err = c.refused(r)
	}
	if err == nil && !l.stillHolding(lease) {
		err = errNotJoined()
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// stillHolding reports whether the lease is the one of the time before the call: a node that was paused in it may have
// another one by now.
func (l *Ledger) stillHolding(lease int64) bool {
	now, ok := l.holding()
	return ok && now == lease
}

// refused says why a claim was not made; nil if it was, and only its answer was lost.
func (c *Claim) refused(r Result) error {
	key := c.ledger.keys.claim(c.name)
	c.ledger.relearn(r)
	for _, kv := range r.Read {
		switch {
		case kv.Key != key:
		case string(kv.Value) == string(c.value):
			return nil
		default:
			var other claimValue
			if json.Unmarshal(kv.Value, &other) != nil {
				other.Node = "(unreadable)"
			}
			return &certs.ElsewhereError{Node: other.Node, Since: other.Since, Why: other.Why}
		}
	}
	return &certs.ChangedError{Name: c.name}
}

// end takes the claim off the list of running jobs. If it still exists in the store, the next beat lets go of it.
func (c *Claim) end() {
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	delete(c.ledger.claims, c.Nonce)
	c.cancel(nil)
}

// Held returns the claim that a job of this process holds on a certificate, nil if none does.
func (l *Ledger) Held(name string) *Claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.claims {
		if c.name == name {
			return c
		}
	}
	return nil
}

// Context ends with the claim, and [LeaseTTL] less 5 s after the store last answered.
func (c *Claim) Context() context.Context { return c.ctx }

// Head is the head that the claim was made with, or that Update wrote.
func (c *Claim) Head() certs.Head { return c.head.Clone() }

// Hold asks the store whether the claim still exists: before an order is requested and before it is finalized.
func (c *Claim) Hold(ctx context.Context) error {
	kv, err := c.ledger.get(ctx, c.ledger.keys.claim(c.name))
	if err != nil {
		return err
	}
	if kv == nil || string(kv.Value) != string(c.value) {
		return c.overtaken(nil)
	}
	return context.Cause(c.ctx)
}

func (c *Claim) overtaken(r []KV) error {
	h, _ := c.ledger.Head(c.name)
	for _, kv := range r {
		if kv.Key == c.ledger.keys.head(c.name) {
			h, _ = certs.ParseHead(kv.Value)
		}
	}
	return &certs.OvertakenError{N: h.N}
}

// fenced runs a transaction under the condition that the claim still exists. It is repeated while its outcome is unknown:
// doing the same twice is the same as once. Done, if given, tells from the keys in Else that an earlier try took effect.
func (c *Claim) fenced(ctx context.Context, ops []Op, done func(head certs.Head) bool) error {
	headKey := c.ledger.keys.head(c.name)
	t := Txn{If: []Cond{{c.ledger.keys.claim(c.name), c.value}}, Then: ops, Else: []string{headKey}}
	var err error
	for try := range 5 {
		var r Result
		if r, err = c.ledger.commit(ctx, t); err == nil {
			if r.Done {
				return nil
			}
			c.ledger.relearn(r)
			for _, kv := range r.Read {
				if h, err := certs.ParseHead(kv.Value); err == nil && kv.Key == headKey && done != nil && done(h) {
					return nil
				}
			}
			return c.overtaken(r.Read)
		}
		if !unknown(err) || wait(ctx, time.Duration(try+1)*200*time.Millisecond) != nil {
			break
		}
	}
	return err
}

// Commit makes b the certificate's newest version and lets the claim go. H is the head with b in it, see
// [certs.Head.SetVersion]; its N is greater than that of [Claim.Head]. The error is a [*certs.OvertakenError] if the claim
// ended before; if the store does not answer, the claim is let go all the same and the version may have been committed.
func (c *Claim) Commit(ctx context.Context, b *certs.Bundle, h certs.Head) error {
	defer c.end()
	if Condemned(b, h) {
		return fmt.Errorf("others may know the key of version %d of %s: it is not shared", h.N, c.name)
	}
	if h.N <= c.head.N || h.Fingerprint != b.Fingerprint() {
		return fmt.Errorf("commit version %d of %s after version %d: the head does not describe it", h.N, c.name, c.head.N)
	}
	h.By, h.Node, h.Committed = c.Nonce, c.Node, time.Now().UTC()
	text, err := encodeOver(h, c.head)
	if err != nil {
		return err
	}
	dataKey := c.ledger.keys.data(c.name, h.N)
	data, err := c.ledger.config.Sealer.sealBundle(dataKey, c.name, h.N, b)
	if err != nil {
		return err
	}
	old, err := c.oldData(ctx, h.N)
	if err != nil {
		return err
	}
	ops := append(old, Op{Key: dataKey, Value: data}, Op{Key: c.ledger.keys.head(c.name), Value: text}, Op{Key: c.ledger.keys.claim(c.name)})
	return c.fenced(ctx, append(ops, c.dropOrders()...), func(now certs.Head) bool { return now.By == c.Nonce })
}

// oldData deletes all versions but that of the head before.
func (c *Claim) oldData(ctx context.Context, except int64) ([]Op, error) {
	keep := c.ledger.keys.data(c.name, c.head.N)
	s, err := c.ledger.read(ctx, Prefix(keep[:len(keep)-len(lastPart(keep))]))
	var ops []Op
	for _, kv := range s.KVs {
		if kv.Key != keep && kv.Key != c.ledger.keys.data(c.name, except) {
			ops = append(ops, Op{Key: kv.Key})
		}
	}
	return ops[:min(len(ops), 100)], err
}

func (c *Claim) dropOrders() []Op {
	return []Op{{Key: c.ledger.keys.order(c.name, store.SlotEC)}, {Key: c.ledger.keys.order(c.name, store.SlotRSA)}}
}

// Fail writes the head with the failure counted and lets the claim go.
func (c *Claim) Fail(ctx context.Context, h certs.Head) error {
	defer c.end()
	text, err := encodeOver(h, c.head)
	if err != nil {
		return err
	}
	ops := []Op{{Key: c.ledger.keys.head(c.name), Value: text}, {Key: c.ledger.keys.claim(c.name)}}
	return c.letGone(c.fenced(ctx, ops, nil))
}

// Release lets the claim go. Without an answer of the store the next beat does.
func (c *Claim) Release(ctx context.Context) error {
	defer c.end()
	return c.letGone(c.fenced(ctx, []Op{{Key: c.ledger.keys.claim(c.name)}}, nil))
}

// letGone takes the loss of a claim that was to be let go for success.
func (c *Claim) letGone(err error) error {
	var overtaken *certs.OvertakenError
	if errors.As(err, &overtaken) {
		return nil
	}
	return err
}

// Update writes the head and keeps the claim. Erase deletes the stored versions and pending orders too: others may know
// their keys.
func (c *Claim) Update(ctx context.Context, h certs.Head, erase bool) error {
	text, err := encodeOver(h, c.head)
	if err != nil {
		return err
	}
	ops := []Op{{Key: c.ledger.keys.head(c.name), Value: text}}
	if erase {
		old, err := c.oldData(ctx, 0)
		if err != nil {
			return err
		}
		if c.head.N > 0 {
			old = append(old, Op{Key: c.ledger.keys.data(c.name, c.head.N)})
		}
		ops = append(append(ops, old...), c.dropOrders()...)
	}
	if err := c.fenced(ctx, ops, nil); err != nil {
		return err
	}
	c.head, err = certs.ParseHead(text)
	return err
}

// Note writes what is no version into the head: a renewal window, a request, the first node that serves it. The error is a
// [*certs.ElsewhereError] while a node works on the certificate, or a [*certs.ChangedError].
func (l *Ledger) Note(ctx context.Context, name string, seen, h certs.Head) error {
	text, err := encodeOver(h, seen)
	if err != nil {
		return err
	}
	key, claim := l.keys.head(name), l.keys.claim(name)
	t := Txn{If: []Cond{{Key: claim}, {key, rawOf(seen)}}, Then: []Op{{Key: key, Value: text}}, Else: []string{claim, key}}
	r, err := l.commit(ctx, t)
	if unknown(err) {
		kv, readErr := l.get(ctx, key)
		if readErr == nil && kv != nil && string(kv.Value) == string(text) {
			return nil
		}
	}
	if err != nil || r.Done {
		return err
	}
	return (&Claim{ledger: l, name: name}).refused(r)
}

// Forget removes a certificate from the fleet: its head, versions and pending orders. Nodes keep what they have.
func (l *Ledger) Forget(ctx context.Context, name string) error {
	c, err := l.ClaimOther(ctx, name, "forget")
	if err != nil {
		return err
	}
	defer c.end()
	old, err := c.oldData(ctx, -1)
	if err != nil {
		return errors.Join(err, c.Release(ctx))
	}
	ops := append(old, Op{Key: l.keys.head(name)}, Op{Key: l.keys.data(name, 0)}, Op{Key: l.keys.claim(name)})
	return c.fenced(ctx, append(ops, c.dropOrders()...), nil)
}

// encodeOver encodes h with the unknown fields of the head that it replaces.
func encodeOver(h, seen certs.Head) ([]byte, error) {
	h.Follow(seen)
	return h.Encode()
}

// rawOf is the value that a head has in the store, nil if it has none.
func rawOf(h certs.Head) []byte {
	if h.Raw() == "" {
		return nil
	}
	return []byte(h.Raw())
}
