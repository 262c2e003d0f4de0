package fleet

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// sealKeySize is the size of a seal key in bytes: AES-256.
const sealKeySize = 32

// keyIDSize is the size of the key ID that a sealed value begins with, in bytes.
const keyIDSize = 8

// Sealer encrypts what nobody but the nodes may read or make, with AES-256-GCM under a random nonce. The key path is the
// associated data, so a sealed value opens only at its own place. A value is key ID, nonce and ciphertext.
type Sealer struct{ keys []sealKey } // the first seals

type sealKey struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

// SealError says that a sealed value does not open: it was sealed with a key that this node does not have, it was changed,
// or it belongs elsewhere.
type SealError struct {
	Path string
	Why  string
}

// Error names the key path.
func (e *SealError) Error() string { return fmt.Sprintf("%s cannot be opened: %s", e.Path, e.Why) }

// Advice is the code of the failure.
func (e *SealError) Advice() advice.Code { return advice.StoreUntrusted }

// NewSealKey makes a seal key in the form that [ParseSealKey] reads.
func NewSealKey() certs.Secret {
	key := make([]byte, sealKeySize)
	_, _ = rand.Read(key) // it never fails
	return base64.StdEncoding.AppendEncode(nil, key)
}

// ParseSealKey reads a seal key: 32 bytes in base64. The error contains nothing of the text.
func ParseSealKey(text []byte) (certs.Secret, error) {
	key, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(text))
	if err != nil || len(key) != sealKeySize {
		return nil, fmt.Errorf("the seal key must be %d bytes in base64; make one with: acmed fleet init", sealKeySize)
	}
	return key, nil
}

// NewSealer makes a sealer of keys that [ParseSealKey] returned. The first key seals, all of them open.
func NewSealer(list ...certs.Secret) (*Sealer, error) {
	s := &Sealer{}
	for _, key := range list {
		block, err := aes.NewCipher(key)
		if err != nil || len(key) != sealKeySize {
			return nil, fmt.Errorf("a seal key has %d bytes, want %d", len(key), sealKeySize)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, errors.New("the seal key cannot be used")
		}
		sum := sha256.Sum256(append([]byte("acmed seal key id\n"), key...))
		s.keys = append(s.keys, sealKey{[keyIDSize]byte(sum[:keyIDSize]), aead})
	}
	if len(s.keys) == 0 {
		return nil, errors.New("there is no seal key")
	}
	return s, nil
}

// ID identifies the key that seals. It tells nothing about the key.
func (s *Sealer) ID() string { return hex.EncodeToString(s.keys[0].id[:]) }

// Seal encrypts a value for its place.
func (s *Sealer) Seal(path string, plain []byte) []byte {
	k := s.keys[0]
	out := make([]byte, keyIDSize+k.aead.NonceSize(), keyIDSize+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	copy(out, k.id[:])
	nonce := out[keyIDSize:]
	_, _ = rand.Read(nonce)
	return k.aead.Seal(out, nonce, plain, []byte(path))
}

// current reports whether the key that seals sealed a value.
func (s *Sealer) current(sealed []byte) bool { return bytes.HasPrefix(sealed, s.keys[0].id[:]) }

// Open decrypts a value of a place, or returns a [*SealError].
func (s *Sealer) Open(path string, sealed []byte) ([]byte, error) {
	for _, k := range s.keys {
		if !bytes.HasPrefix(sealed, k.id[:]) {
			continue
		}
		rest := sealed[keyIDSize:]
		if len(rest) < k.aead.NonceSize() {
			return nil, &SealError{path, "it is too short"}
		}
		plain, err := k.aead.Open(nil, rest[:k.aead.NonceSize()], rest[k.aead.NonceSize():], []byte(path))
		if err != nil {
			return nil, &SealError{path, "it was changed, or belongs to another place"}
		}
		return plain, nil
	}
	id := hex.EncodeToString(sealed[:min(len(sealed), keyIDSize)])
	return nil, &SealError{path, "it was sealed with key " + id + ", which none of seal_files has"}
}
