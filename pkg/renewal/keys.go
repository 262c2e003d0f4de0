package renewal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// prepareKeys makes the next key where there is none, and brings the TLSA records up to date with it.
func (j *job) prepareKeys(ctx context.Context) error {
	if !j.Spec.NextKey {
		return nil
	}
	if err := j.makeNextKeys(); err != nil {
		return err
	}
	return j.publishKeys(ctx)
}

// makeNextKeys makes a key for each type whose last one is the active one by now, or is missing.
func (j *job) makeNextKeys() error {
	r := j.record
	have, err := j.engine.store.NextKeys(r.Name)
	if err != nil {
		return err
	}
	var used []string
	if r.Current != nil {
		used = r.Current.Pins()
	}
	j.next = nil
	made := false
	for _, k := range j.Spec.KeyTypes {
		next, ok := certs.PickKey(have, k)
		if !ok || slices.Contains(used, next.Pin) {
			if next, err = newNextKey(k, r.now()); err != nil {
				return err
			}
			made = true
		}
		j.next = append(j.next, next)
	}
	if !made {
		return nil
	}
	if err := j.engine.store.SaveNextKeys(r.Name, j.next); err != nil {
		return err
	}
	if r.Current != nil {
		j.event(notify.Event{
			Kind: notify.PinsChanged, Version: r.Version, NotAfter: r.Current.Leaf.NotAfter, Pins: append(used, pinsOf(j.next)...),
			Message: "the next key was made; clients that pin keys must know it before the renewal, 'acmed chain " + r.Name + " --pins' lists all",
		})
	}
	return nil
}

func newNextKey(k certs.KeyType, now time.Time) (certs.NextKey, error) {
	key, err := certs.NewKey(k)
	if err != nil {
		return certs.NextKey{}, fmt.Errorf("make the next key: %w", err)
	}
	text, err := certs.EncodeKey(key)
	return certs.NextKey{Type: k, KeyPEM: text, Pin: certs.Pin(key.Public()), Created: now}, err
}

func pinsOf(keys []certs.NextKey) []string {
	var pins []string
	for _, k := range keys {
		pins = append(pins, k.Pin)
	}
	return pins
}

// dropNextKeys forgets keys that others may know, before anything is ordered with them.
func (e *Engine) dropNextKeys(name string, pins []string) error {
	keys, err := e.store.NextKeys(name)
	if err != nil || !slices.ContainsFunc(keys, func(k certs.NextKey) bool { return slices.Contains(pins, k.Pin) }) {
		return err
	}
	return e.store.SaveNextKeys(name, slices.DeleteFunc(keys, func(k certs.NextKey) bool { return slices.Contains(pins, k.Pin) }))
}

// holdForKeys holds a version whose key clients cannot know yet: its TLSA records were not visible for long enough, or the
// key was not announced for as long as the configuration wants. After a compromise only the records count, without which no
// client would connect.
func (j *job) holdForKeys(id string, b *certs.Bundle) *store.Held {
	if !j.Spec.NextKey {
		return nil
	}
	h := &store.Held{Version: id, Keys: true, Since: j.engine.clock()}
	until, lacking := j.unseen(b)
	if lacking == nil && !j.opts.NewKey {
		until = clock.Later(until, j.announcedUntil(id, b))
	}
	switch {
	case lacking != nil:
		h.Reason = "the TLSA records of its key are not visible: " + shorten(lacking)
	case until.After(h.Since):
		h.Reason, h.Until = "clients may not know its key yet", until
	default:
		return nil
	}
	if before := j.record.State.Held; before != nil && before.Keys && before.Version == id {
		h.Since = before.Since
	} else {
		e := j.heldEvent(h)
		if lacking == nil {
			e.Kind, e.Pins = notify.PinsChanged, b.Pins()
		}
		j.event(e)
	}
	return h
}

// announcedUntil is when the notice about the keys of a version is over.
func (j *job) announcedUntil(id string, b *certs.Bundle) (until time.Time) {
	if j.Spec.Notice == 0 {
		return until
	}
	known := j.record.Current.Pins()
	for _, pin := range b.Pins() {
		if slices.Contains(known, pin) {
			continue
		}
		at := j.record.now()
		if v := plan.Find(j.record.Lineage, id); v != nil {
			at = v.Created
		}
		if i := slices.IndexFunc(j.next, func(k certs.NextKey) bool { return k.Pin == pin }); i >= 0 {
			at = j.next[i].Created
		}
		until = clock.Later(until, at.Add(j.Spec.Notice))
	}
	return until
}

// KeyPin is a public key that a certificate has or will have.
type KeyPin struct {
	Pin   string `json:"pin"`
	State string `json:"state"` // active, waiting or next
}

// Pins lists the keys that clients must know, and the TLSA records for them. It changes nothing.
func (e *Engine) Pins(name string) (pins []KeyPin, records []certs.TLSA, err error) {
	c, _ := e.Certificate(name)
	have, _, err := e.load(name)
	if err != nil {
		return nil, nil, err
	}
	next, err := e.store.NextKeys(name)
	if err != nil {
		return nil, nil, err
	}
	add := func(state string, list ...string) {
		for _, pin := range list {
			if !slices.ContainsFunc(pins, func(k KeyPin) bool { return k.Pin == pin }) {
				pins = append(pins, KeyPin{pin, state})
			}
		}
	}
	bundles, err := e.keyed(have)
	if err != nil {
		return nil, nil, err
	}
	for i, b := range bundles {
		state := "waiting"
		if i == 0 && b == have.Current {
			state = "active"
		}
		add(state, b.Pins()...)
	}
	if c.Spec.NextKey {
		add("next", pinsOf(next)...)
	}
	if c.TLSA != nil {
		records, err = c.TLSA.records(bundles, next)
	}
	return pins, records, err
}

// keyed are the bundles whose keys are or will be served: the active one first, then one that is to be.
func (e *Engine) keyed(have *store.Lineage) ([]*certs.Bundle, error) {
	var list []*certs.Bundle
	if have.Current != nil {
		list = append(list, have.Current)
	}
	ids := []string{have.State.Pinned}
	if v := plan.Newest(have); v != nil {
		ids = append(ids, v.ID)
	}
	for _, id := range ids {
		if id == "" || id == have.Version {
			continue
		}
		b, err := e.store.Bundle(have.Name, id)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}
