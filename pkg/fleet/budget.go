package fleet

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/openjson"
)

// Budget is what the nodes together may ask of a CA with one account.
type Budget struct {
	Orders  []time.Time `json:"orders,omitempty"`  // new orders within the window
	RetryAt time.Time   `json:"retry_at,omitzero"` // the CA asked for a pause until then
	Down    bool        `json:"down,omitempty"`    // the pause is because the CA was unavailable
}

// Budget returns what the account has used, from memory.
func (l *Ledger) Budget(directory, contact string) Budget {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	var b Budget
	_ = json.Unmarshal(l.view.small[l.keys.budget(l.keys.account(directory, contact))].Value, &b)
	return b
}

// TakeOrder counts a new order against the account, or returns when there may be one: at most so many within the window,
// none during a pause. A most of 0 means without a bound. After an error the order may have been counted.
func (l *Ledger) TakeOrder(ctx context.Context, directory, contact string, most int, window time.Duration) (time.Time, error) {
	var at time.Time
	err := l.changeBudget(ctx, directory, contact, func(b *Budget) bool {
		now := time.Now()
		b.Orders = slices.DeleteFunc(b.Orders, func(t time.Time) bool { return now.Sub(t) >= window })
		slices.SortFunc(b.Orders, time.Time.Compare)
		at = time.Time{}
		switch {
		case now.Before(b.RetryAt):
			at = b.RetryAt
		case most > 0 && len(b.Orders) >= most:
			at = b.Orders[len(b.Orders)-most].Add(window)
		default:
			b.Orders = append(b.Orders, now.UTC())
			return true
		}
		return false
	})
	return at, err
}

// Pause stops all nodes from using the account before a time. It never shortens a pause.
func (l *Ledger) Pause(ctx context.Context, directory, contact string, until time.Time, down bool) error {
	return l.changeBudget(ctx, directory, contact, func(b *Budget) bool {
		if !until.After(b.RetryAt) {
			return false
		}
		b.RetryAt, b.Down = until.UTC(), down
		return true
	})
}

// changeBudget reads, changes and writes the budget until no other node came between. Change reports whether there is
// something to write.
func (l *Ledger) changeBudget(ctx context.Context, directory, contact string, change func(*Budget) bool) error {
	key := l.keys.budget(l.keys.account(directory, contact))
	kv, err := l.get(ctx, key)
	for pause := 5 * time.Millisecond; err == nil; pause = min(2*pause, time.Second) {
		var b Budget
		var old []byte
		if kv != nil {
			old = kv.Value
			_ = json.Unmarshal(old, &b) // a damaged one is replaced
		}
		if !change(&b) {
			return nil
		}
		value, err := openjson.Marshal(b, old)
		if err != nil {
			return err
		}
		r, err := l.commit(ctx, Txn{If: []Cond{{key, old}}, Then: []Op{{Key: key, Value: value}}, Else: []string{key}})
		if err != nil || r.Done {
			return err
		}
		kv = nil
		if len(r.Read) > 0 {
			kv = &r.Read[0]
		}
		if err := wait(ctx, rand.N(pause)); err != nil {
			return err
		}
	}
	return err
}
