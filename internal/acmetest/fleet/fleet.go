// Package fleet fills a state directory with certificates of which nothing is due, for tests and benchmarks of daemons that
// have many. No CA is asked: they sign themselves and share one key, because making keys takes longer than all the rest.
package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// Name is what the i-th certificate is called.
func Name(i int) string { return fmt.Sprintf("c%d", i) }

// Host is the only name in the i-th certificate.
func Host(i int) string { return Name(i) + ".example.com" }

// Fill makes certificates for 90 days that look as if they had just come from an issuer, and are in all their targets.
// The state directory dir must exist. The i-th certificate has the targets with the identifiers targets(i).
func Fill(dir string, count int, issuer string, targets func(i int) []string) error {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	var group errgroup.Group
	group.SetLimit(32) // most of the time goes into waiting for the disk
	for i := range count {
		group.Go(func() error { return add(s, key, i, issuer, targets(i)) })
	}
	return errors.Join(group.Wait(), s.Close())
}

func add(s *store.Store, key *ecdsa.PrivateKey, i int, issuer string, targets []string) error {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i + 1)), DNSNames: []string{Host(i)}, NotBefore: now, NotAfter: now.AddDate(0, 0, 90),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	pem, err := certs.EncodeKey(key)
	if err != nil {
		return err
	}
	bundle, err := certs.NewBundle(certs.EncodeCert(leaf), pem)
	if err != nil {
		return err
	}
	bundle.Issuer = issuer
	version, err := s.AddVersion(Name(i), bundle, now)
	if err != nil {
		return err
	}
	state := &store.State{
		ARI:       store.ARI{For: certs.Fingerprint(leaf), CheckAt: now.Add(24 * time.Hour)},
		Installed: map[string]store.Installed{},
	}
	for _, id := range targets {
		state.Installed[id] = store.Installed{Fingerprint: bundle.Fingerprint(), At: now, VerifiedAt: now}
	}
	return errors.Join(s.Activate(Name(i), version), s.SaveState(Name(i), state))
}

// AskAtOnce changes a state.json so that a certificate was not issued today, and the CA is asked for its renewal window with
// the next look.
func AskAtOnce(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var state map[string]any
	if err := json.Unmarshal(text, &state); err != nil {
		return err
	}
	delete(state, "issued")
	delete(state, "ari")
	if text, err = json.Marshal(state); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
