package store

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	metaFile = "meta.json"
	maxPEM   = 1 << 18 // bytes of one PEM file, above what certs.ParseChain takes
	maxMeta  = 1 << 20 // bytes; 100 validations need 10,000

	maxAlternates = 20 // chains; CAs offer one to three
)

// The two units that a version can hold: every version the plain one, a dual version the twin with an RSA key as well.
const (
	plain = ""
	twin  = "-rsa"
)

func pemName(what, unit string) string { return what + unit + ".pem" }

func altName(n int, unit string) string { return fmt.Sprintf("alternates/%d%s.pem", n, unit) }

// meta is meta.json: what the PEM files do not say.
type meta struct {
	Version     int                `json:"version"`
	Issuer      string             `json:"issuer,omitempty"`
	Directory   string             `json:"directory,omitempty"`
	Profile     string             `json:"profile,omitempty"`
	Validations []certs.Validation `json:"validations,omitempty"`
	Alternates  int                `json:"alternates,omitempty"` // how many alternates/N.pem there are, from 1
	ExternalKey bool               `json:"external_key,omitempty"`
	RSA         *meta              `json:"rsa,omitempty"`    // of the twin, without version and orders
	Orders      []string           `json:"orders,omitempty"` // pending orders that this version made void, by URL
}

func metaOf(b *certs.Bundle) *meta {
	if b == nil {
		return nil
	}
	return &meta{
		Issuer: b.Issuer, Directory: b.Directory, Profile: b.Profile, Validations: b.Validations,
		Alternates: len(b.Alternates), ExternalKey: len(b.KeyPEM) == 0, RSA: metaOf(b.RSA),
	}
}

// versionFiles lists the files of a version. No file is ever empty: a chain without issuers and a key that the operator
// keeps have none.
func versionFiles(b *certs.Bundle, orders []string) ([]atomicfile.File, error) {
	m := metaOf(b)
	m.Version, m.Orders = StateVersion, orders
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	files := append(unitFiles(b, plain), atomicfile.File{Name: metaFile, Data: append(text, '\n'), Mode: publicFile})
	if b.RSA != nil {
		files = append(files, unitFiles(b.RSA, twin)...)
	}
	return files, nil
}

func unitFiles(b *certs.Bundle, unit string) []atomicfile.File {
	files := []atomicfile.File{
		{Name: pemName("cert", unit), Data: b.CertPEM, Mode: publicFile},
		{Name: pemName("fullchain", unit), Data: b.FullChainPEM(), Mode: publicFile},
	}
	if len(b.ChainPEM) > 0 {
		files = append(files, atomicfile.File{Name: pemName("chain", unit), Data: b.ChainPEM, Mode: publicFile})
	}
	if len(b.KeyPEM) > 0 {
		files = append(files, atomicfile.File{Name: pemName("privkey", unit), Data: b.KeyPEM, Mode: secretFile})
	}
	for i, chain := range b.Alternates {
		files = append(files, atomicfile.File{Name: altName(i+1, unit), Data: chain, Mode: publicFile})
	}
	return files
}

// rawUnit is one unit as it lies on the disk.
type rawUnit struct {
	meta                        *meta
	cert, chain, fullchain, key []byte
	alternates                  [][]byte
}

// rawVersion is one version as it lies on the disk.
type rawVersion struct {
	plain *rawUnit
	twin  *rawUnit // nil unless dual
	notes []string
}

// readVersion reads every file of a version without understanding more than meta.json. A file that is missing is a
// *damageError; a damaged meta.json is only noted, since the certificate can be served without it.
func readVersion(d *atomicfile.Dir, id string) (*rawVersion, error) {
	raw, err := readUnits(d, path.Join(versionsDir, id))
	if errors.Is(err, errNoFolder) {
		return nil, damaged("version %s is missing", id)
	}
	if err != nil {
		return nil, fmt.Errorf("version %s: %w", id, err)
	}
	return raw, nil
}

var errNoFolder = errors.New("there is no such folder")

// readUnits is readVersion for any folder with the files of a version.
func readUnits(d *atomicfile.Dir, dir string) (*rawVersion, error) {
	v, err := d.Sub(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFolder
	}
	if err != nil {
		return nil, err
	}
	raw := &rawVersion{}
	if err = errors.Join(raw.read(v), v.Close()); err != nil {
		return nil, inPath(err, dir)
	}
	return raw, nil
}

func (raw *rawVersion) read(v *atomicfile.Dir) error {
	m, note, err := readMeta(v, ".")
	if err != nil {
		return err
	}
	if note != "" {
		raw.notes = append(raw.notes, note)
	}
	if raw.plain, err = raw.readUnit(v, plain, m); err != nil {
		return err
	}
	switch {
	case m.RSA != nil:
		raw.twin, err = raw.readUnit(v, twin, m.RSA)
	case note != "":
		raw.twin, err = raw.readUnit(v, twin, &meta{})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return err
}

func (raw *rawVersion) readUnit(v *atomicfile.Dir, unit string, m *meta) (u *rawUnit, err error) {
	u = &rawUnit{meta: m}
	if u.cert, _, err = read(v, pemName("cert", unit), maxPEM); err != nil {
		return nil, err
	}
	if u.fullchain, _, err = read(v, pemName("fullchain", unit), maxPEM); err != nil {
		return nil, err
	}
	u.chain, _, err = read(v, pemName("chain", unit), maxPEM)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if u.key, err = raw.readKey(v, pemName("privkey", unit), m.ExternalKey); err != nil {
		return nil, err
	}
	for i := range min(m.Alternates, maxAlternates) {
		text, _, err := read(v, altName(i+1, unit), maxPEM)
		if err != nil {
			return nil, err
		}
		u.alternates = append(u.alternates, text)
	}
	return u, nil
}

func (raw *rawVersion) readKey(v *atomicfile.Dir, name string, external bool) ([]byte, error) {
	key, info, err := read(v, name, maxPEM)
	switch {
	case external && errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case len(key) == 0:
		return nil, damaged("%s is empty", name)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		raw.notes = append(raw.notes,
			fmt.Sprintf("others may have read %s (mode %#o); chmod it to 0600, and renew with a new key", name, mode))
	}
	return key, nil
}

// readMeta reads the meta.json in dir. A damaged one gives an empty meta and a note.
func readMeta(d *atomicfile.Dir, dir string) (*meta, string, error) {
	m := &meta{}
	err := readJSON(d, path.Join(dir, metaFile), maxMeta, m, &m.Version)
	var bad *damageError
	if errors.As(err, &bad) {
		return &meta{}, err.Error(), nil
	}
	return m, "", err
}

// readLeaf reads the first certificate of a PEM file.
func readLeaf(d *atomicfile.Dir, name string) (*x509.Certificate, error) {
	text, _, err := read(d, name, maxPEM)
	if err != nil {
		return nil, err
	}
	return parseLeaf(text)
}

func parseLeaf(text []byte) (*x509.Certificate, error) {
	chain, err := certs.ParseChain(text)
	if err != nil {
		return nil, &damageError{err}
	}
	return chain[0], nil
}

// digest identifies the content of everything that is checked.
func (raw *rawVersion) digest() digest {
	h := sha256.New()
	raw.plain.hash(h)
	if raw.twin != nil {
		raw.twin.hash(h)
	}
	return digest(h.Sum(nil))
}

type digest [sha256.Size]byte

func (u *rawUnit) hash(h hash.Hash) {
	for _, text := range append([][]byte{u.cert, u.chain, u.fullchain, u.key}, u.alternates...) {
		_, _ = fmt.Fprintf(h, "%d\n", len(text)) // a hash never fails
		_, _ = h.Write(text)
	}
}

// bundle makes a bundle of the files, or a *damageError. It skips the costly checks when the same content has passed them.
func (raw *rawVersion) bundle(checked bool) (*certs.Bundle, error) {
	b, err := raw.plain.bundle(checked)
	if err != nil || raw.twin == nil {
		return b, err
	}
	if b.RSA, err = raw.twin.bundle(checked); err != nil {
		return nil, fmt.Errorf("RSA twin: %w", err)
	}
	return b, nil
}

func (u *rawUnit) bundle(checked bool) (*certs.Bundle, error) {
	if !checked {
		if err := u.check(); err != nil {
			return nil, &damageError{err}
		}
	}
	leaf, err := parseLeaf(u.cert)
	if err != nil {
		return nil, err
	}
	return &certs.Bundle{
		Leaf: leaf, CertPEM: u.cert, ChainPEM: u.chain, KeyPEM: u.key, Alternates: u.alternates,
		Issuer: u.meta.Issuer, Directory: u.meta.Directory, Profile: u.meta.Profile, Validations: u.meta.Validations,
	}, nil
}

// check proves that the files belong together and that the key belongs to the leaf.
func (u *rawUnit) check() error {
	if !bytes.Equal(u.fullchain, slices.Concat(u.cert, u.chain)) {
		return errors.New("fullchain.pem is not cert.pem followed by chain.pem")
	}
	if _, err := certs.NewBundle(u.fullchain, u.key); err != nil {
		return err
	}
	if _, err := certs.ParseChain(u.chain); len(u.chain) > 0 && err != nil {
		return fmt.Errorf("chain.pem: %w", err)
	}
	if leaf, err := certs.ParseChain(u.cert); err != nil || len(leaf) != 1 {
		return errors.New("cert.pem is not exactly one certificate")
	}
	if len(u.chain) > 0 {
		if _, err := certs.ParseChain(u.chain); err != nil {
			return fmt.Errorf("chain.pem: %w", err)
		}
	}
	for i, text := range u.alternates {
		if _, err := certs.ParseChain(text); err != nil {
			return fmt.Errorf("alternate chain %d: %w", i+1, err)
		}
	}
	return nil
}
