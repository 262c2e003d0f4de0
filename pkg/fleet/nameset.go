package fleet

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxNameSet is the largest packed name set that is shared, and the largest unpacked one that is read, in bytes. A node
// with a larger set counts as one that has every certificate.
const (
	maxNameSet      = 1_000_000
	maxNameSetPlain = 100_000_000
)

// nameSet is which certificates a node has. Nodes with the same configuration share one: its key is its hash.
type nameSet struct {
	hash  string
	names []string // sorted
}

func newNameSet(names []string) *nameSet {
	s := &nameSet{names: slices.Clone(names)}
	slices.Sort(s.names)
	sum := sha256.Sum256([]byte(strings.Join(s.names, "\n")))
	s.hash = hex.EncodeToString(sum[:16])
	return s
}

func (s *nameSet) has(name string) bool {
	_, ok := slices.BinarySearch(s.names, name)
	return ok
}

func (s *nameSet) pack() ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, strings.Join(s.names, "\n")); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

func parseNameSet(packed []byte) (*nameSet, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxNameSetPlain))
	if err != nil {
		return nil, fmt.Errorf("read a set of names: %w", err)
	}
	return newNameSet(strings.Split(string(text), "\n")), nil
}

func (l *Ledger) names() []string {
	if l.config.Names == nil {
		return nil
	}
	return l.config.Names()
}

// publishNames writes the set of this node's certificates, unless another node has the same, and returns its hash.
func (l *Ledger) publishNames(ctx context.Context) (string, error) {
	s := newNameSet(l.names())
	l.view.mu.RLock()
	known := l.view.sets[s.hash] != nil
	l.view.mu.RUnlock()
	if known {
		return s.hash, nil
	}
	packed, err := s.pack()
	if err != nil || len(packed) > maxNameSet {
		return s.hash, err
	}
	key := l.keys.root + "names/" + s.hash
	_, err = l.commit(ctx, Txn{If: []Cond{{Key: key}}, Then: []Op{{Key: key, Value: packed}}})
	return s.hash, err
}

// has reports whether a node has a certificate. One whose set is not known counts as having it.
func (v *view) has(n Node, name string) bool {
	s := v.sets[n.NameSet]
	return s == nil || s.has(name)
}
