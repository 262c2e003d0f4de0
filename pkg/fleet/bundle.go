package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// blob is the value of a version. The names in clear are for people; nodes believe the sealed part.
type blob struct {
	Names  []string `json:"names"`
	Sealed []byte   `json:"sealed"`
}

// sealedBundle is what the sealed part of a blob says.
type sealedBundle struct {
	Name string `json:"name"`
	N    int64  `json:"n"`
	unit
	RSA *unit `json:"rsa,omitempty"`
}

type unit struct {
	Cert        string             `json:"cert"`
	Chain       string             `json:"chain,omitempty"`
	Key         string             `json:"key,omitempty"`
	Alternates  []string           `json:"alternates,omitempty"`
	Missing     *certs.Missing     `json:"missing,omitempty"`
	Issuer      string             `json:"issuer,omitempty"`
	Directory   string             `json:"directory,omitempty"`
	Profile     string             `json:"profile,omitempty"`
	Validations []certs.Validation `json:"validations,omitempty"`
}

func unitOf(b *certs.Bundle) unit {
	u := unit{
		Cert: string(b.CertPEM), Chain: string(b.ChainPEM), Key: string([]byte(b.KeyPEM)), Missing: b.Missing,
		Issuer: b.Issuer, Directory: b.Directory, Profile: b.Profile, Validations: b.Validations,
	}
	for _, chain := range b.Alternates {
		u.Alternates = append(u.Alternates, string(chain))
	}
	return u
}

func (u *unit) bundle() (*certs.Bundle, error) {
	b, err := certs.NewBundle([]byte(u.Cert+u.Chain), []byte(u.Key))
	if err != nil {
		return nil, err
	}
	for _, chain := range u.Alternates {
		if _, err := certs.ParseChain([]byte(chain)); err != nil {
			return nil, fmt.Errorf("alternate chain: %w", err)
		}
		b.Alternates = append(b.Alternates, []byte(chain))
	}
	b.Issuer, b.Directory, b.Profile, b.Validations, b.Missing = u.Issuer, u.Directory, u.Profile, u.Validations, u.Missing
	return b, nil
}

func (s *Sealer) sealBundle(path, name string, n int64, b *certs.Bundle) ([]byte, error) {
	if s == nil {
		return nil, errors.New("there is no seal key")
	}
	inner := sealedBundle{Name: name, N: n, unit: unitOf(b)}
	if b.RSA != nil {
		twin := unitOf(b.RSA)
		inner.RSA = &twin
	}
	text, err := json.Marshal(inner)
	if err != nil {
		return nil, err
	}
	return json.Marshal(blob{Names: certs.LeafNames(b.Leaf), Sealed: s.Seal(path, text)})
}

func (s *Sealer) openBundle(path string, value []byte) (*sealedBundle, *certs.Bundle, error) {
	if s == nil {
		return nil, nil, errors.New("there is no seal key")
	}
	var outer blob
	if err := json.Unmarshal(value, &outer); err != nil {
		return nil, nil, &SealError{path, "it is no version of a certificate"}
	}
	text, err := s.Open(path, outer.Sealed)
	if err != nil {
		return nil, nil, err
	}
	var inner sealedBundle
	if err := json.Unmarshal(text, &inner); err != nil {
		return nil, nil, &SealError{path, "it is no version of a certificate"} // the cause might quote the key
	}
	b, err := inner.bundle()
	if err == nil && inner.RSA != nil {
		b.RSA, err = inner.RSA.bundle()
	}
	if err != nil {
		return nil, nil, &SealError{path, err.Error()}
	}
	return &inner, b, nil
}

// Fetch reads the version that a head names, opens it and checks that it is the one: its name, number, fingerprint, key and
// dates. Nothing else that somebody with access to the store could put there passes: the error is a [*SealError] then.
func (l *Ledger) Fetch(ctx context.Context, name string, h certs.Head) (*certs.Bundle, error) {
	key := l.keys.data(name, h.N)
	kv, err := l.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if kv == nil {
		return nil, &SealError{key, "it does not exist"}
	}
	inner, b, err := l.config.Sealer.openBundle(key, kv.Value)
	if err != nil {
		return nil, err
	}
	if why := mismatch(inner, b, name, h, time.Now()); why != "" {
		return nil, &SealError{key, why}
	}
	return b, nil
}

// mismatch says why a bundle is not what the head promises, "" if it is.
func mismatch(inner *sealedBundle, b *certs.Bundle, name string, h certs.Head, now time.Time) string {
	switch {
	case inner.Name != name:
		return fmt.Sprintf("it is a version of %q", inner.Name)
	case inner.N != h.N:
		return fmt.Sprintf("it is version %d", inner.N)
	case b.Fingerprint() != h.Fingerprint:
		return "its fingerprint is not the one in the head"
	case !now.Before(b.Leaf.NotAfter):
		return "it expired at " + b.Leaf.NotAfter.UTC().Format(time.RFC3339)
	case Condemned(b, h):
		return "its key is known to others"
	}
	return ""
}
