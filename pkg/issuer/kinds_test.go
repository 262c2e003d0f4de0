package issuer_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

func TestKeyTypes(t *testing.T) {
	w := newWorld(t)
	for _, keyType := range certs.KeyTypes() {
		req := w.named(string(keyType), "example.com")
		req.Spec.KeyTypes = []certs.KeyType{keyType}
		b := w.mustObtain(req)
		if got := certs.KeyTypeOf(b.Leaf.PublicKey); got != keyType {
			t.Errorf("got %s, want %s", got, keyType)
		}
		if block, _ := pem.Decode(b.KeyPEM); block == nil || block.Type != "PRIVATE KEY" {
			t.Errorf("%s: the key is not PKCS#8", keyType)
		}
	}
	for _, types := range [][]certs.KeyType{{"ed25519"}, {"ec256", "ec384"}, {"ec256", "rsa2048", "rsa4096"}} {
		req := w.request("example.com")
		req.Spec.KeyTypes = types
		if _, err := w.Obtain(t.Context(), req); kind(err) != "permanent" {
			t.Errorf("%q: got %v", types, err)
		}
	}
}

func TestDual(t *testing.T) {
	w := newWorld(t)
	req := w.request("example.com", "www.example.com")
	req.Spec.KeyTypes = []certs.KeyType{certs.RSA2048, certs.EC256}
	w.ca.Use(func(e acmetest.Endpoint, next http.Handler) http.Handler {
		if e == acmetest.Certificate && w.ca.Requests(acmetest.NewOrder) == 2 {
			return acmetest.Answer(500, nil, "")(next) // the second half fails
		}
		return next
	})
	if b, err := w.Obtain(t.Context(), req); !isUnavailable(err) || b != nil {
		t.Fatalf("half a unit: %v", err)
	}
	w.ca.Use()
	b := w.mustObtain(req) // both halves are resumed
	if b.RSA == nil || certs.KeyTypeOf(b.Leaf.PublicKey) != certs.EC256 || certs.KeyTypeOf(b.RSA.Leaf.PublicKey) != certs.RSA2048 {
		t.Errorf("not a unit: %+v", b)
	}
	w.verify(b.RSA)
	if n := w.ca.Requests(acmetest.NewOrder); n != 2 {
		t.Errorf("%d orders", n)
	}
	if order, err := w.store.Order("www", store.SlotRSA); order != nil || err != nil {
		t.Errorf("the order is still stored: %v", err)
	}
	req.Replaces, req.Spec.ReuseKey = b, true
	renewed := w.mustObtain(req)
	if !certs.SameKey(renewed.RSA.Leaf.PublicKey, b.RSA.Leaf.PublicKey) || !certs.SameKey(renewed.Leaf.PublicKey, b.Leaf.PublicKey) {
		t.Error("a key was not kept")
	}
}

func TestReuseKey(t *testing.T) {
	w := newWorld(t)
	req := w.request("example.com")
	first := w.mustObtain(req)
	req.Replaces = first
	second := w.mustObtain(req)
	if certs.SameKey(second.Leaf.PublicKey, first.Leaf.PublicKey) {
		t.Error("the key was kept without being asked for")
	}
	req.Replaces, req.Spec.ReuseKey = second, true
	third := w.mustObtain(req)
	if !certs.SameKey(third.Leaf.PublicKey, second.Leaf.PublicKey) {
		t.Error("the key was not kept")
	}
	req.Replaces, req.NewKey = third, true
	fourth := w.mustObtain(req)
	if certs.SameKey(fourth.Leaf.PublicKey, third.Leaf.PublicKey) {
		t.Error("a compromised key was kept")
	}
	req.Replaces, req.NewKey, req.Spec.KeyTypes = fourth, false, []certs.KeyType{certs.EC384}
	if fifth := w.mustObtain(req); certs.KeyTypeOf(fifth.Leaf.PublicKey) != certs.EC384 {
		t.Error("the new key type was ignored")
	}
}

func TestCSR(t *testing.T) {
	w := newWorld(t)
	key, err := certs.NewKey(certs.EC384)
	if err != nil {
		t.Fatal(err)
	}
	csr := func(template *x509.CertificateRequest) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	req := w.request("example.com", "www.example.com")
	req.Spec.CSR = csr(&x509.CertificateRequest{DNSNames: []string{"WWW.example.com", "example.com"}})
	w.ca.Use(acmetest.At(acmetest.Answer(500, nil, ""), acmetest.Certificate))
	if _, err := w.Obtain(t.Context(), req); !isUnavailable(err) {
		t.Fatalf("got %v", err)
	}
	w.ca.Use()
	b := w.mustObtain(req)
	if !certs.SameKey(b.Leaf.PublicKey, key.Public()) || len(b.KeyPEM) != 0 || w.ca.Requests(acmetest.NewOrder) != 1 {
		t.Errorf("not for the key of the CSR, or ordered twice")
	}
	damaged := csr(&x509.CertificateRequest{DNSNames: []string{"example.com", "www.example.com"}})
	damaged[len(damaged)-1] ^= 1
	for name, der := range map[string][]byte{
		"garbage": []byte("x"), "signature": damaged,
		"fewer": csr(&x509.CertificateRequest{DNSNames: []string{"example.com"}}),
		"more":  csr(&x509.CertificateRequest{DNSNames: []string{"example.com", "www.example.com", "x.example.com"}}),
		"common name": csr(&x509.CertificateRequest{Subject: pkix.Name{CommonName: "bank.example"},
			DNSNames: []string{"example.com", "www.example.com"}}),
		"mail": csr(&x509.CertificateRequest{DNSNames: []string{"example.com", "www.example.com"}, EmailAddresses: []string{"a@example.com"}}),
	} {
		req.Spec.CSR = der
		if _, err := w.Obtain(t.Context(), req); kind(err) != "permanent" {
			t.Errorf("%s: got %v", name, err)
		}
	}
	forger, err := acmetest.NewForger()
	if err != nil {
		t.Fatal(err)
	}
	w.ca.Use(acmetest.At(forger.Forge(acmetest.WrongKey), acmetest.Certificate))
	req.Spec.CSR = csr(&x509.CertificateRequest{DNSNames: []string{"example.com", "www.example.com"}})
	if _, err := w.Obtain(t.Context(), req); kind(err) != "vet" {
		t.Errorf("a certificate for another key: got %v", err)
	}
}

func TestMustStaple(t *testing.T) {
	w := newWorld(t)
	seen := make(chan []byte, 1)
	w.ca.Use(onPayload(acmetest.Finalize, func(payload map[string]any) {
		text, _ := payload["csr"].(string)
		seen <- []byte(text)
	}))
	req := w.request("example.com")
	req.Spec.MustStaple = true
	w.mustObtain(req)
	csr, err := x509.ParseCertificateRequest(decode(t, string(<-seen)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(csr.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "1.3.6.1.5.5.7.1.24" }) {
		t.Error("no must-staple in the CSR")
	}
	if csr.Subject.String() != "" {
		t.Errorf("the CSR has the subject %s", csr.Subject)
	}
}

func TestProfiles(t *testing.T) {
	w := newWorld(t)
	req := w.request("example.com")
	req.Spec.Profile = "shortlived"
	if b := w.mustObtain(req); b.Leaf.NotAfter.Sub(b.Leaf.NotBefore) > 8*24*time.Hour || b.Profile != "shortlived" {
		t.Errorf("lives until %s", b.Leaf.NotAfter)
	}
	w.ca.ResetRequests()
	req.Spec.Profile = "forever"
	_, err := w.Obtain(t.Context(), req)
	if kind(err) != "permanent" || !strings.Contains(err.Error(), "default, shortlived") {
		t.Errorf("got %v", err)
	}
	if n := w.ca.Requests(acmetest.NewOrder); n != 0 {
		t.Errorf("%d orders", n)
	}
	w.remake(nil)
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { delete(doc, "meta") }), acmetest.Directory))
	if _, err = w.Obtain(t.Context(), req); kind(err) != "permanent" || !strings.Contains(err.Error(), "no profiles") {
		t.Errorf("got %v", err)
	}
}

func TestLifetime(t *testing.T) {
	w := newWorld(t)
	req := w.request("example.com")
	req.Spec.Lifetime = 48 * time.Hour
	b := w.mustObtain(req)
	if time.Until(b.Leaf.NotAfter) > 49*time.Hour || time.Since(b.Leaf.NotBefore) > time.Hour {
		t.Errorf("lives from %s until %s", b.Leaf.NotBefore, b.Leaf.NotAfter)
	}
	order := w.ca.Received(acmetest.NewOrder)[0].Payload
	if !strings.Contains(string(order), `"notBefore"`) || !strings.Contains(string(order), `"notAfter"`) {
		t.Errorf("the order was %s", order)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	var many []string
	for n := range 101 {
		many = append(many, fmt.Sprintf("n%d.example.com", n))
	}
	_, err := w.obtain(many...)
	if kind(err) != "permanent" || !strings.Contains(err.Error(), "101 names") {
		t.Errorf("got %v", err)
	}
	for _, names := range [][]string{{}, {"a.example.com", "a.example.com"}} {
		if _, err := w.obtain(names...); kind(err) != "permanent" {
			t.Errorf("%q: got %v", names, err)
		}
	}
	if n := len(w.ca.AllRequests()); n != 0 {
		t.Errorf("requests to %d endpoints", n)
	}
	w.mustObtain(w.request(many[:100]...))
	w.mustObtain(w.named("addresses", "127.0.0.1", "example.com"))
}

func TestPreferredChain(t *testing.T) {
	w := newWorld(t, acmetest.WithAlternateRoots(2), acmetest.WithChainLength(2))
	for n := range 3 {
		root := parse(t, w.ca.IssuingRootPEM(n))
		req := w.named("root", "example.com")
		req.Spec.PreferredChain = root.Subject.CommonName
		b := w.mustObtain(req)
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root)
		intermediates.AppendCertsFromPEM(b.ChainPEM)
		if _, err := b.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil || len(b.Alternates) != 2 {
			t.Errorf("%s: %v, %d alternates", root.Subject.CommonName, err, len(b.Alternates))
		}
		req = w.named("intermediate", "example.com")
		req.Spec.PreferredChain = parse(t, w.ca.IntermediatePEM(n)).Subject.CommonName
		chain, err := certs.ParseChain(w.mustObtain(req).ChainPEM)
		if err != nil || !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return c.Subject.CommonName == req.Spec.PreferredChain }) {
			t.Errorf("no %s in the chain: %v", req.Spec.PreferredChain, err)
		}
	}
	req := w.request("example.com")
	req.Spec.PreferredChain = "nobody"
	w.mustObtain(req)
}

func TestRevoke(t *testing.T) {
	w := newWorld(t)
	check := func(b *certs.Bundle, want issuer.Reason) {
		t.Helper()
		revoked, reason, err := w.ca.Revoked(b.Leaf.SerialNumber)
		if err != nil || !revoked || reason != int(want) {
			t.Errorf("revoked %v, reason %d, %v", revoked, reason, err)
		}
	}
	b := w.mustObtain(w.request("example.com"))
	for range 2 { // the second time changes nothing
		if err := w.Revoke(t.Context(), b.Leaf, issuer.Superseded, nil); err != nil {
			t.Fatal(err)
		}
	}
	check(b, issuer.Superseded)
	b = w.mustObtain(w.request("example.com"))
	key, err := certs.ParseKey(b.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	w.remake(func(c *issuer.Config) { c.Contact = "stranger@example.com" })
	if err := w.Revoke(t.Context(), b.Leaf, issuer.KeyCompromise, nil); err == nil {
		t.Error("a strange account revoked the certificate")
	}
	other, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Revoke(t.Context(), b.Leaf, issuer.KeyCompromise, other); kind(err) != "permanent" {
		t.Errorf("another key: got %v", err)
	}
	if err := w.Revoke(t.Context(), b.Leaf, issuer.KeyCompromise, key); err != nil {
		t.Fatal(err)
	}
	check(b, issuer.KeyCompromise)
}

func TestParseReason(t *testing.T) {
	for text, want := range map[string]issuer.Reason{"unspecified": 0, "keyCompromise": 1, "affiliationChanged": 3, "superseded": 4, "cessationOfOperation": 5} {
		if got, err := issuer.ParseReason(text); got != want || err != nil {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "keycompromise", "6"} {
		if _, err := issuer.ParseReason(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	chain, err := certs.ParseChain(text)
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}
