package file

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
)

// minPassword is what Java's keytool insists on.
const minPassword = 6

// maxPassword bounds what is read from the password file.
const maxPassword = 4096

// encode returns the content of one file, and whether the private key is in it. The same bundle and password always give
// the same bytes, so that nothing is written when nothing has changed.
func (p *Installer) encode(field string, b *certs.Bundle, password certs.Secret) (content []byte, secret bool, err error) {
	switch field {
	case "cert":
		return b.CertPEM, false, nil
	case "chain":
		return b.ChainPEM, false, nil
	case "fullchain":
		return b.FullChainPEM(), false, nil
	case "der":
		return b.Leaf.Raw, false, nil
	}
	if len(b.KeyPEM) == 0 {
		return nil, true, fmt.Errorf("%s needs the private key, which acmed does not have for a certificate from a CSR", field)
	}
	switch field {
	case "key":
		content = b.KeyPEM
	case "combined":
		content = append(b.FullChainPEM(), b.KeyPEM...)
	case "der_key":
		content, err = keyDER(b)
	case "pkcs12":
		content, err = encodePKCS12(b, password)
	case "jks":
		content, err = encodeJKS(b, password, p.config.alias())
	default:
		err = fmt.Errorf("unknown format %q", field)
	}
	return content, true, err
}

func (c *Config) alias() string {
	if c.Alias != "" {
		return c.Alias
	}
	return defaultAlias
}

func keyDER(b *certs.Bundle) ([]byte, error) {
	key, err := certs.ParseKey(b.KeyPEM)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func issuers(b *certs.Bundle) ([]*x509.Certificate, error) {
	if len(b.ChainPEM) == 0 {
		return nil, nil
	}
	return certs.ParseChain(b.ChainPEM)
}

func encodePKCS12(b *certs.Bundle, password certs.Secret) ([]byte, error) {
	key, err := certs.ParseKey(b.KeyPEM)
	if err != nil {
		return nil, err
	}
	chain, err := issuers(b)
	if err != nil {
		return nil, err
	}
	return pkcs12.Modern2023.WithRand(salts("pkcs12", b, password)).Encode(key, b.Leaf, chain, string(password))
}

func encodeJKS(b *certs.Bundle, password certs.Secret, alias string) ([]byte, error) {
	key, err := keyDER(b)
	if err != nil {
		return nil, err
	}
	chain, err := issuers(b)
	if err != nil {
		return nil, err
	}
	entry := keystore.PrivateKeyEntry{CreationTime: b.Leaf.NotBefore, PrivateKey: key}
	for _, c := range append([]*x509.Certificate{b.Leaf}, chain...) {
		entry.CertificateChain = append(entry.CertificateChain, keystore.Certificate{Type: "X509", Content: c.Raw})
	}
	store := keystore.New(keystore.WithCustomRandomNumberGenerator(salts("jks", b, password)))
	if err := store.SetPrivateKeyEntry(alias, entry, password); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := store.Store(&text, password); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// salts is the source of salts and initialisation vectors of an encrypted store. It is derived from everything that the
// store holds, with the private key as the secret: nobody can predict it, it is never used for two different contents,
// and the same content encrypts to the same bytes.
func salts(purpose string, b *certs.Bundle, password certs.Secret) io.Reader {
	mac := hmac.New(sha256.New, b.KeyPEM)
	for _, part := range [][]byte{[]byte(purpose), password, b.FullChainPEM()} {
		sum := sha256.Sum256(part)
		mac.Write(sum[:])
	}
	return rand.NewChaCha8([32]byte(mac.Sum(nil)))
}

// password reads the first line of the password file, if there is one. A file that others can read is refused.
func (c *Config) password() (password certs.Secret, err error) {
	if c.PasswordFile == "" {
		return nil, nil
	}
	text, err := vetted.ReadFile(c.PasswordFile, 0o007, maxPassword)
	if err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) < minPassword {
		return nil, fmt.Errorf("password_file: the password in %s has fewer than %d characters", c.PasswordFile, minPassword)
	}
	return line, nil
}
