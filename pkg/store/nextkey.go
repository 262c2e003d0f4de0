package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
)

const nextKeysFile = "next-keys.json"

// nextKeysJSON is the form of the file, the one place where these keys are written in clear.
type nextKeysJSON struct {
	Version int           `json:"version"`
	Keys    []nextKeyJSON `json:"keys"`
}

type nextKeyJSON struct {
	Type    certs.KeyType `json:"type"`
	Key     string        `json:"key"` // PKCS#8, PEM
	Created time.Time     `json:"created"`
}

// NextKeys returns the keys that were made ahead, none when there are none: never saved, or damaged; a damaged file is set
// aside and noted for the next Load.
func (s *Store) NextKeys(name string) (keys []certs.NextKey, err error) {
	err = s.in(name, "read the next key", func(d *atomicfile.Dir, e *entry) error {
		keys, err = readNextKeys(d)
		var bad *damageError
		if errors.As(err, &bad) {
			e.setAside(d, nextKeysFile, bad)
			return nil
		}
		return err
	})
	if errors.Is(err, errNoLineage) {
		return nil, nil
	}
	return keys, err
}

func readNextKeys(d *atomicfile.Dir) ([]certs.NextKey, error) {
	var f nextKeysJSON
	err := readJSON(d, nextKeysFile, maxOrder, &f, &f.Version)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []certs.NextKey
	for _, k := range f.Keys {
		key, err := certs.ParseKey([]byte(k.Key))
		if err != nil {
			return nil, &damageError{fmt.Errorf("%s: %w", nextKeysFile, err)}
		}
		if certs.KeyTypeOf(key.Public()) != k.Type {
			return nil, damaged("%s: a key is not of the type %q", nextKeysFile, k.Type)
		}
		keys = append(keys, certs.NextKey{Type: k.Type, KeyPEM: certs.Secret(k.Key), Pin: certs.Pin(key.Public()), Created: k.Created})
	}
	return keys, nil
}

// SaveNextKeys stores the keys that were made ahead, in place of earlier ones.
func (s *Store) SaveNextKeys(name string, keys []certs.NextKey) error {
	return s.inMade(name, "save the next key", func(d *atomicfile.Dir, _ *entry) error {
		if err := replaceable(d, nextKeysFile, maxOrder); err != nil {
			return err
		}
		f := nextKeysJSON{Version: StateVersion, Keys: []nextKeyJSON{}}
		for _, k := range keys {
			f.Keys = append(f.Keys, nextKeyJSON{Type: k.Type, Key: string([]byte(k.KeyPEM)), Created: k.Created})
		}
		text, err := json.MarshalIndent(f, "", "  ")
		if err != nil {
			return err
		}
		return d.Write(nextKeysFile, append(text, '\n'), secretFile)
	})
}
