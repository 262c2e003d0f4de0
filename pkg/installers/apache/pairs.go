package apache

import (
	"crypto"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// checkPairs looks at the certificates of all virtual hosts with TLS other than those that are about to be changed. Apache
// passes its own test with a key that does not belong to its certificate, and goes down at the reload.
func (m *model) checkPairs(picks []*pick) error {
	var errs []error
	for _, v := range m.vhosts {
		if v.d == nil || !m.tls(v) || slices.ContainsFunc(picks, func(k *pick) bool { return k.Site == v && k.TLS }) {
			continue
		}
		chains, keys := v.own("SSLCertificateFile"), v.own("SSLCertificateKeyFile")
		for i, d := range chains {
			key := m.path(d)
			if i < len(keys) {
				key = m.path(keys[i])
			}
			if reason := brokenPair(m.path(d), key); reason != "" {
				errs = append(errs, d.errorf("%s: Apache passes its own test with it and goes down at the next reload", reason))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &installers.BrokenServerError{Err: err}
	}
	return nil
}

// brokenPair says what is surely wrong with a certificate and its key, or "". What cannot be read, an encrypted key or a
// key on a token, is for Apache to judge.
func brokenPair(cert, key string) string {
	text, err := installers.ReadRegular(cert)
	if err != nil {
		return ""
	}
	leaf := webserver.ParseLeaf(text)
	if leaf == nil {
		return "the file has no certificate that can be read"
	}
	text, err = installers.ReadRegular(key)
	if err != nil {
		return ""
	}
	public, found := publicKey(text)
	switch {
	case !found:
		return "the key file has no private key"
	case public == nil:
		return ""
	}
	if equal, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && !equal.Equal(public) {
		return "the key does not belong to the certificate"
	}
	return ""
}

// publicKey is the public half of the first private key of a file: nil when the key is of a kind that cannot be read
// here, not found when there is none.
func publicKey(text []byte) (public crypto.PublicKey, found bool) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := certs.ParseKey(pem.EncodeToMemory(block))
		if err != nil {
			return nil, true
		}
		return key.Public(), true
	}
	return nil, false
}
