package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/acmed/acmed/pkg/certs"
)

// KeyHashes identifies the keys of a bundle, as [certs.Head] lists condemned ones.
func KeyHashes(b *certs.Bundle) []string {
	var list []string
	for _, leaf := range b.Leaves() {
		sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		list = append(list, hex.EncodeToString(sum[:16]))
	}
	return list
}

// Condemned reports whether others may know a key of the bundle.
func Condemned(b *certs.Bundle, h certs.Head) bool {
	hashes := KeyHashes(b)
	return slices.ContainsFunc(h.Condemned, func(hash string) bool { return slices.Contains(hashes, hash) })
}
