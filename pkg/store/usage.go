package store

import (
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
)

// usageJSON is usage.json.
type usageJSON struct {
	Version int         `json:"version"`
	RetryAt time.Time   `json:"retry_at,omitzero"`
	Down    bool        `json:"down,omitempty"`
	Orders  []time.Time `json:"orders,omitempty"`
	SavedAt time.Time   `json:"saved_at,omitzero"`
}

// Usage returns what is known of an account's use, nothing when there is no account. What releases before kept in
// account.json is part of it.
func (s *Store) Usage(directory, contact string) (Usage, error) {
	var u Usage
	err := s.inAccount(directory, contact, "read the use of the account", func(d *atomicfile.Dir) (err error) {
		u, err = loadUsage(d)
		return err
	})
	return u, err
}

// SaveUsage stores the use of an account. It writes no key. Without a stored account there is nothing to do.
func (s *Store) SaveUsage(directory, contact string, u Usage) error {
	return s.inAccount(directory, contact, "save the use of the account", func(d *atomicfile.Dir) error { return saveUsage(d, u) })
}

func loadUsage(d *atomicfile.Dir) (Usage, error) {
	var f usageJSON
	err := readJSON(d, usageFile, maxAccount, &f, &f.Version)
	var bad *damageError
	if err != nil && !errors.As(err, &bad) {
		return Usage{}, err
	}
	if err != nil { // missing or damaged: the CA tells its limits again
		f = usageJSON{}
	}
	r := repairer{}
	r.time("retry_at", &f.RetryAt)
	r.times("orders", &f.Orders)
	u := Usage{RetryAt: f.RetryAt, Down: f.Down, Orders: f.Orders, SavedAt: f.SavedAt}
	before, err := readAccountJSON(d)
	if err != nil || before == nil {
		return u, err
	}
	if before.RetryAt.After(u.RetryAt) {
		u.RetryAt, u.Down = before.RetryAt, before.Down
	}
	u.Orders = slices.CompactFunc(slices.SortedFunc(slices.Values(append(u.Orders, before.Orders...)), time.Time.Compare), time.Time.Equal)
	return u, nil
}

func saveUsage(d *atomicfile.Dir, u Usage) error {
	if err := replaceable(d, usageFile, maxAccount); err != nil {
		return err
	}
	text, err := json.MarshalIndent(usageJSON{Version: StateVersion, RetryAt: u.RetryAt, Down: u.Down, Orders: u.Orders, SavedAt: u.SavedAt}, "", "  ")
	if err != nil {
		return err
	}
	return d.Write(usageFile, append(text, '\n'), secretFile)
}

// moveUsage takes what releases before kept in account.json to usage.json, before account.json is written without it.
func moveUsage(d *atomicfile.Dir) error {
	f, err := readAccountJSON(d)
	if err != nil || f == nil || f.RetryAt.IsZero() && len(f.Orders) == 0 {
		return err
	}
	u, err := loadUsage(d)
	if err != nil {
		return err
	}
	return saveUsage(d, u)
}

// Shared returns the one value that all users of this state directory have under a name, made by the first of them. It is
// for what must not exist twice while the directory is locked, such as the state of an account.
func Shared[T any](s *Store, name string, create func() T) T {
	v, _ := s.shared.LoadOrStore(name, sync.OnceValue(create))
	return v.(func() T)() //nolint:forcetypeassert // one name has one type
}
