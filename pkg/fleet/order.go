package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// orderValue is the value of a pending order: the URL in clear, all of it sealed.
type orderValue struct {
	URL    string `json:"url"`
	Sealed []byte `json:"sealed"`
}

// sealedOrder is a store.Order with its key in clear.
type sealedOrder struct {
	URL         string             `json:"url"`
	Directory   string             `json:"directory"`
	Account     string             `json:"account,omitempty"`
	Key         string             `json:"key,omitempty"`
	Identifiers []certs.Identifier `json:"identifiers"`
	Profile     string             `json:"profile,omitempty"`
	Created     time.Time          `json:"created,omitzero"`
	Finalized   bool               `json:"finalized,omitempty"`
}

// Order returns the pending order of a slot, or nil and no error when there is none. One that does not open is none.
func (c *Claim) Order(ctx context.Context, slot string) (*store.Order, error) {
	key := c.ledger.keys.order(c.name, slot)
	kv, err := c.ledger.get(ctx, key)
	if err != nil || kv == nil {
		return nil, err
	}
	var outer orderValue
	var inner sealedOrder
	if json.Unmarshal(kv.Value, &outer) != nil {
		return nil, nil
	}
	text, err := c.ledger.config.Sealer.Open(key, outer.Sealed)
	if err != nil || json.Unmarshal(text, &inner) != nil {
		return nil, nil
	}
	if _, err := certs.ParseKey([]byte(inner.Key)); inner.Key != "" && err != nil {
		return nil, nil
	}
	return &store.Order{
		URL: inner.URL, Directory: inner.Directory, Account: inner.Account, KeyPEM: certs.Secret(inner.Key),
		Identifiers: inner.Identifiers, Profile: inner.Profile, Created: inner.Created, Finalized: inner.Finalized,
	}, nil
}

// SaveOrder shares the pending order of a slot, so that another node can continue it. The caller finalizes only after it
// returned nil.
func (c *Claim) SaveOrder(ctx context.Context, slot string, o *store.Order) error {
	if c.ledger.config.Sealer == nil {
		return errors.New("there is no seal key")
	}
	text, err := json.Marshal(sealedOrder{
		URL: o.URL, Directory: o.Directory, Account: o.Account, Key: string([]byte(o.KeyPEM)),
		Identifiers: o.Identifiers, Profile: o.Profile, Created: o.Created, Finalized: o.Finalized,
	})
	if err != nil {
		return err
	}
	key := c.ledger.keys.order(c.name, slot)
	value, err := json.Marshal(orderValue{URL: o.URL, Sealed: c.ledger.config.Sealer.Seal(key, text)})
	if err != nil {
		return err
	}
	return c.fenced(ctx, []Op{{Key: key, Value: value}}, nil)
}

// DropOrder forgets the pending order of a slot.
func (c *Claim) DropOrder(ctx context.Context, slot string) error {
	return c.fenced(ctx, []Op{{Key: c.ledger.keys.order(c.name, slot)}}, nil)
}
