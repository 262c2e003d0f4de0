package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// The slots of pending orders: a certificate has at most one pending order of each key family.
const (
	SlotEC  = "ec"
	SlotRSA = "rsa"
)

const maxOrder = 1 << 20 // bytes; 100 identifiers and an RSA key need 12,000

// Order is an order that was placed and whose certificate is not stored yet. It holds the private key, which exists
// before the certificate, so that a crash after finalize downloads instead of ordering again.
type Order struct {
	URL         string             // of the order at the CA; never ""
	Directory   string             // URL of the CA's directory
	Account     string             // URL of the account that placed it
	KeyPEM      certs.Secret       // PKCS#8; empty when the operator supplied the CSR
	Identifiers []certs.Identifier // as ordered
	Profile     string
	Created     time.Time
	Finalized   bool // the finalize request was sent, perhaps without an answer
}

// orderJSON is the file form of an Order. It is the one place where the key is written in clear.
type orderJSON struct {
	Version     int                `json:"version"`
	URL         string             `json:"url"`
	Directory   string             `json:"directory"`
	Account     string             `json:"account,omitempty"`
	Key         string             `json:"key,omitempty"`
	Identifiers []certs.Identifier `json:"identifiers"`
	Profile     string             `json:"profile,omitempty"`
	Created     time.Time          `json:"created,omitzero"`
	Finalized   bool               `json:"finalized,omitempty"`
}

// Order returns the pending order of a slot, or nil and no error when there is none: never saved, dropped, made void by a
// version, or damaged; a damaged file is set aside and noted for the next Load.
func (s *Store) Order(name, slot string) (o *Order, err error) {
	if err := checkSlot(slot); err != nil {
		return nil, err
	}
	err = s.in(name, "read the pending order", func(d *atomicfile.Dir, e *entry) error {
		o, err = e.order(d, slot)
		return err
	})
	if errors.Is(err, errNoLineage) {
		return nil, nil
	}
	return o, err
}

func (e *entry) order(d *atomicfile.Dir, slot string) (*Order, error) {
	o, err := readOrder(d, slot)
	var bad *damageError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.As(err, &bad):
		e.setAside(d, orderFile(slot), bad)
		return nil, nil
	case err != nil:
		return nil, err
	}
	void, err := voidURLs(d)
	if err != nil || slices.Contains(void, o.URL) {
		return nil, err
	}
	return o, nil
}

// SaveOrder stores the pending order of a slot, in place of an earlier one.
func (s *Store) SaveOrder(name, slot string, o *Order) error {
	if err := checkSlot(slot); err != nil {
		return err
	}
	return s.inMade(name, "save the pending order", func(d *atomicfile.Dir, _ *entry) error {
		if o.URL == "" {
			return errors.New("it has no URL")
		}
		if err := replaceable(d, orderFile(slot), maxOrder); err != nil {
			return err
		}
		text, err := json.MarshalIndent(orderJSON{
			Version: StateVersion, URL: o.URL, Directory: o.Directory, Account: o.Account, Key: string([]byte(o.KeyPEM)),
			Identifiers: o.Identifiers, Profile: o.Profile, Created: o.Created, Finalized: o.Finalized,
		}, "", "  ")
		if err != nil {
			return err
		}
		return d.Write(orderFile(slot), append(text, '\n'), secretFile)
	})
}

// DropOrder forgets the pending order of a slot. It is no error when there is none.
func (s *Store) DropOrder(name, slot string) error {
	if err := checkSlot(slot); err != nil {
		return err
	}
	err := s.in(name, "drop the pending order", func(d *atomicfile.Dir, _ *entry) error { return d.Remove(orderFile(slot)) })
	if errors.Is(err, errNoLineage) {
		return nil
	}
	return err
}

func slots() []string { return []string{SlotEC, SlotRSA} }

func checkSlot(slot string) error {
	if !slices.Contains(slots(), slot) {
		return fmt.Errorf("%q is no slot of pending orders", text.Cut(slot, text.Value))
	}
	return nil
}

func orderFile(slot string) string { return "order-" + slot + ".json" }

func readOrder(d *atomicfile.Dir, slot string) (*Order, error) {
	var f orderJSON
	if err := readJSON(d, orderFile(slot), maxOrder, &f, &f.Version); err != nil {
		return nil, err
	}
	if f.URL == "" {
		return nil, damaged("%s has no URL", orderFile(slot))
	}
	if f.Key != "" {
		if _, err := certs.ParseKey([]byte(f.Key)); err != nil {
			return nil, damaged("%s: %w", orderFile(slot), err)
		}
	}
	return &Order{
		URL: f.URL, Directory: f.Directory, Account: f.Account, KeyPEM: certs.Secret(f.Key),
		Identifiers: f.Identifiers, Profile: f.Profile, Created: f.Created, Finalized: f.Finalized,
	}, nil
}

// pendingURLs lists the orders in the slots, as far as they can be read. The error is about those that may be sound.
func pendingURLs(d *atomicfile.Dir) (map[string]string, error) {
	urls := map[string]string{}
	var errs []error
	for _, slot := range slots() {
		o, err := readOrder(d, slot)
		var bad *damageError
		switch {
		case err == nil:
			urls[slot] = o.URL
		case !errors.As(err, &bad):
			errs = append(errs, err)
		}
	}
	return urls, errors.Join(errs...)
}

// voidURLs lists the orders that the stored versions made void.
func voidURLs(d *atomicfile.Dir) ([]string, error) {
	entries, err := d.ReadDir(versionsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var urls []string
	for _, entry := range entries {
		if _, ok := parseID(entry.Name()); !ok || !entry.IsDir() {
			continue
		}
		m, _, err := readMeta(d, path.Join(versionsDir, entry.Name()))
		if err != nil {
			return nil, err
		}
		urls = append(urls, m.Orders...)
	}
	return urls, nil
}

// dropVoid removes the order files that a crash left behind after their version was stored.
func dropVoid(d *atomicfile.Dir) error {
	pending, err := pendingURLs(d)
	if len(pending) == 0 {
		return err
	}
	void, voidErr := voidURLs(d)
	errs := []error{err, voidErr}
	for slot, url := range pending {
		if slices.Contains(void, url) {
			errs = append(errs, d.Remove(orderFile(slot)))
		}
	}
	return errors.Join(errs...)
}

func dropOrders(d *atomicfile.Dir) error {
	var errs []error
	for _, slot := range slots() {
		errs = append(errs, d.Remove(orderFile(slot)))
	}
	return errors.Join(errs...)
}
