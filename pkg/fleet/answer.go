package fleet

import (
	"context"
	"fmt"
	"time"
)

// AnswerTLSALPN is the kind of answers that every node's TLS responder gives.
const AnswerTLSALPN = "tls-alpn-01"

// answerPoll is how often a node looks whether another order's answer for the same identifier is gone.
const answerPoll = time.Second

// PutAnswer shares the answer to a challenge for an identifier. Another order's answer for the same identifier is waited
// for, until ctx ends. The answer ends with this node's lease.
func (l *Ledger) PutAnswer(ctx context.Context, kind, identifier, answer string) error {
	key := l.keys.answer(kind, identifier)
	for {
		lease, ok := l.holding()
		if !ok {
			return errNotJoined()
		}
		r, err := l.commit(ctx, Txn{
			If: []Cond{{Key: key}}, Then: []Op{{Key: key, Value: []byte(answer), Lease: lease}}, Else: []string{key},
		})
		if err != nil || r.Done {
			return err
		}
		if len(r.Read) > 0 && string(r.Read[0].Value) == answer && r.Read[0].Lease == lease {
			return nil // an earlier try of the same, whose answer was lost
		}
		if err := wait(ctx, answerPoll); err != nil {
			return fmt.Errorf("another order's challenge for %s is still pending: %w", identifier, err)
		}
	}
}

// DropAnswer removes the answer, if it is still this one.
func (l *Ledger) DropAnswer(ctx context.Context, kind, identifier, answer string) error {
	key := l.keys.answer(kind, identifier)
	_, err := l.commit(ctx, Txn{If: []Cond{{key, []byte(answer)}}, Then: []Op{{Key: key}}})
	return err
}

// Answer asks the store for the answer for an identifier, "" if there is none.
func (l *Ledger) Answer(ctx context.Context, kind, identifier string) (string, error) {
	kv, err := l.get(ctx, l.keys.answer(kind, identifier))
	if err != nil || kv == nil {
		return "", err
	}
	return string(kv.Value), nil
}
