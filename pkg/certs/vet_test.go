package certs_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// link is a certificate with its key.
type link struct {
	*x509.Certificate
	key crypto.Signer
}

// sign makes a certificate, by default a good leaf for example.com, self-signed without a parent.
func sign(t testing.TB, parent *link, change func(*x509.Certificate)) link {
	t.Helper()
	key, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	return signKey(t, parent, key, key.Public(), change)
}

func signKey(t testing.TB, parent *link, key crypto.Signer, public crypto.PublicKey, change func(*x509.Certificate)) link {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: serial.String()}, DNSNames: []string{"example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	by, signer := template, key
	if parent != nil {
		by, signer = parent.Certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := certs.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return link{c, key}
}

func asCA(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.DNSNames, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil, nil
}

func pemOf(list ...link) []byte {
	var text []byte
	for _, c := range list {
		text = append(text, certs.EncodeCert(c.Certificate)...)
	}
	return text
}

func ids(t testing.TB, names ...string) (list []certs.Identifier) {
	t.Helper()
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, id)
	}
	return list
}

// vetted is what Vet says about a chain for these names.
func vetted(t testing.TB, names []string, chain ...link) error {
	t.Helper()
	b, err := certs.NewBundle(pemOf(chain...), nil)
	if err != nil {
		return err
	}
	err = certs.Vet(b, &certs.Spec{Identifiers: ids(t, names...)}, certs.DefaultPolicy(), time.Now())
	var refused *certs.VetError
	if err != nil && !errors.As(err, &refused) {
		t.Errorf("%v is no VetError", err)
	}
	return err
}

// says checks that an error contains a text; "" wants none.
func says(t testing.TB, what string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// TestVetNames: exactly the names that were asked for, in any order and case; the common name is no name.
func TestVetNames(t *testing.T) {
	for what, c := range map[string]struct {
		asked string
		has   string
		want  string
	}{
		"the same":                     {"example.com www.example.com", "www.example.com example.com", ""},
		"one twice":                    {"example.com", "example.com example.com", ""},
		"upper case":                   {"example.com", "EXAMPLE.com", ""},
		"covers less":                  {"example.com www.example.com", "example.com", `missing ["www.example.com"], not asked for none`},
		"covers more":                  {"example.com", "example.com evil.example.com", `missing none, not asked for ["evil.example.com"]`},
		"only in the common name":      {"example.com", "", `missing ["example.com"]`},
		"a wildcard":                   {"*.example.com", "*.example.com", ""},
		"a wildcard for a name":        {"www.example.com", "*.example.com", "wrong names"},
		"a name for a wildcard":        {"*.example.com", "www.example.com", "wrong names"},
		"a wildcard without its base":  {"example.com *.example.com", "*.example.com", `missing ["example.com"]`},
		"an IPv4 address":              {"192.0.2.1", "192.0.2.1", ""},
		"an IPv6 address":              {"2001:DB8:0::1", "2001:db8::1", ""},
		"another address":              {"192.0.2.1", "192.0.2.2", "wrong names"},
		"an address and a name":        {"192.0.2.1 example.com", "example.com 192.0.2.1", ""},
		"an address of the other kind": {"192.0.2.1", "2001:db8::c000:201", "wrong names"},
		"an address instead of a name": {"example.com", "192.0.2.1", "wrong names"},
		"an internationalised name":    {"bücher.example", "xn--bcher-kva.example", ""},
		"another one that looks alike": {"bücher.example", "xn--bcher-lva.example", "wrong names"},
		"ten of them":                  {"example.com", "a.b c.b d.b e.b f.b g.b h.b i.b j.b k.b", "and 5 more"},
	} {
		leaf := sign(t, nil, func(c2 *x509.Certificate) {
			c2.Subject.CommonName, c2.DNSNames = "example.com", nil
			for _, name := range strings.Fields(c.has) {
				if ip := net.ParseIP(name); ip != nil {
					c2.IPAddresses = append(c2.IPAddresses, ip)
				} else {
					c2.DNSNames = append(c2.DNSNames, name)
				}
			}
		})
		says(t, what, vetted(t, strings.Fields(c.asked), leaf), c.want)
		if same := certs.SameNames(leaf.Certificate, ids(t, strings.Fields(c.asked)...)); same != (c.want == "") {
			t.Errorf("%s: the same names: %v", what, same)
		}
	}
}

// TestVetLeaf: what is no certificate for a TLS server, or is weak, is refused.
func TestVetLeaf(t *testing.T) {
	weak := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	signer, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	says(t, "a short RSA key", vetted(t, []string{"example.com"}, signKey(t, nil, signer, weak, nil)), "RSA key of 1024 bits")
	for what, c := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"good":        {nil, ""},
		"a CA":        {func(c *x509.Certificate) { c.IsCA = true }, "is a CA certificate"},
		"for clients": {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "no serverAuth"},
		"for something unknown": {func(c *x509.Certificate) {
			c.ExtKeyUsage, c.UnknownExtKeyUsage = nil, []asn1.ObjectIdentifier{{1, 2, 3}}
		}, "no serverAuth"},
		"for anything": {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, ""},
		"for both": {func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		}, ""},
		"without usages": {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, ""},
		"an unknown critical extension": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}, "critical extension 1.2.3.4"},
		"an unknown extension": {func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}}
		}, ""},
		"a mail address": {func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }, "mail addresses or URIs"},
		"a URI":          {func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }, "mail addresses or URIs"},
	} {
		says(t, what, vetted(t, []string{"example.com"}, sign(t, nil, c.change)), c.want)
	}
	for algorithm, want := range map[x509.SignatureAlgorithm]string{
		x509.SHA1WithRSA: "SHA1", x509.ECDSAWithSHA1: "SHA1", x509.MD5WithRSA: "MD5", x509.UnknownSignatureAlgorithm: "signature by", x509.SHA256WithRSA: "", x509.PureEd25519: "",
	} {
		leaf := sign(t, nil, nil)
		leaf.SignatureAlgorithm = algorithm // as another issuer's parser saw it
		err := certs.Vet(&certs.Bundle{Leaf: leaf.Certificate}, &certs.Spec{Identifiers: ids(t, "example.com")}, certs.DefaultPolicy(), time.Now())
		says(t, algorithm.String(), err, want)
	}
}

// TestVetValidity: around each bound.
func TestVetValidity(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	const day = 24 * time.Hour
	for _, c := range []struct {
		from, life time.Duration
		want       string
	}{
		{-time.Hour, 90 * day, ""},
		{-90 * day, 90 * day, "expired"},
		{-90 * day, 90*day + time.Second, ""},
		{-200 * day, 90 * day, "expired"},
		{time.Hour, 90 * day, ""},
		{time.Hour + time.Second, 90 * day, "not valid before"},
		{0, time.Hour, ""},
		{0, time.Hour - time.Second, "less than 1h0m0s"},
		{0, 3649 * day, ""},
		{0, 3649*day + time.Second, "more than 3649"},
		{0, -day, "expired"},
	} {
		leaf := sign(t, nil, func(cert *x509.Certificate) { cert.NotBefore, cert.NotAfter = now.Add(c.from), now.Add(c.from+c.life) })
		err := certs.Vet(&certs.Bundle{Leaf: leaf.Certificate}, &certs.Spec{Identifiers: ids(t, "example.com")}, certs.DefaultPolicy(), now)
		says(t, fmt.Sprint(c.from, c.life), err, c.want)
	}
	leaf := sign(t, nil, func(cert *x509.Certificate) { cert.NotAfter = cert.NotBefore.Add(2 * time.Hour) })
	short := certs.Policy{MinLifetime: 3 * time.Hour, MaxLifetime: 9 * time.Hour}
	says(t, "the issuer's own bound", certs.Vet(&certs.Bundle{Leaf: leaf.Certificate}, &certs.Spec{Identifiers: ids(t, "example.com")}, short, time.Now()), "less than 3h0m0s")
}

// TestVetChain: each certificate signed the one before it. SortChain mends an order whose meaning is clear.
func TestVetChain(t *testing.T) {
	root := sign(t, nil, asCA)
	middle := sign(t, &root, asCA)
	leaf, foreign := sign(t, &middle, nil), sign(t, nil, asCA)
	plain := sign(t, &root, nil) // no CA
	under := sign(t, &plain, nil)
	long := []link{root}
	for range certs.MaxChain - 1 {
		long = append(long, sign(t, &long[len(long)-1], asCA))
	}
	slices.Reverse(long)
	for what, c := range map[string]struct {
		chain  []link
		want   string
		sorted string // after SortChain
	}{
		"whole":               {[]link{leaf, middle, root}, "", ""},
		"without the root":    {[]link{leaf, middle}, "", ""},
		"the leaf alone":      {[]link{leaf}, "", ""},
		"a gap":               {[]link{leaf, root}, "certificate 2 of the chain did not sign", "certificate 2 of the chain did not sign"},
		"a stranger":          {[]link{leaf, middle, foreign}, "certificate 3 of the chain did not sign", "certificate 3 of the chain did not sign"},
		"doubled":             {[]link{leaf, middle, middle}, "certificate 3 of the chain did not sign", ""},
		"the leaf doubled":    {[]link{leaf, leaf, middle}, "did not sign", ""},
		"wrong order":         {[]link{leaf, root, middle}, "did not sign", ""},
		"issuers first":       {[]link{root, middle, leaf}, "CA certificate", ""},
		"an issuer is no CA":  {[]link{under, plain}, "did not sign", "did not sign"},
		"as long as may be":   {append([]link{sign(t, &long[0], nil)}, long[:certs.MaxChain-1]...), "", ""},
		"one longer than may": {append([]link{sign(t, &long[0], nil)}, long...), "more than 10", "more than 10"},
	} {
		says(t, what, vetted(t, []string{"example.com"}, c.chain...), c.want)
		list, at := make([]*x509.Certificate, 0, len(c.chain)), slices.IndexFunc(c.chain, func(l link) bool { return !l.IsCA })
		for _, l := range c.chain {
			list = append(list, l.Certificate)
		}
		var sorted []link
		for _, cert := range certs.SortChain(list, c.chain[at].PublicKey) {
			sorted = append(sorted, link{Certificate: cert})
		}
		says(t, what+", sorted", vetted(t, []string{"example.com"}, sorted...), c.sorted)
	}
	b := &certs.Bundle{Leaf: leaf.Certificate, ChainPEM: pemOf(middle), Alternates: [][]byte{pemOf(middle, root), pemOf(foreign)}}
	says(t, "an alternate", certs.Vet(b, &certs.Spec{Identifiers: ids(t, "example.com")}, certs.DefaultPolicy(), time.Now()), "alternate chain 2")
}

// TestWithChain: another of the offered chains takes the place of the present one, and nothing is lost.
func TestWithChain(t *testing.T) {
	b := &certs.Bundle{CertPEM: []byte("leaf "), ChainPEM: []byte("a"), Alternates: [][]byte{[]byte("b"), []byte("c")}}
	for i, want := range map[int]string{-1: "a b c", 0: "a b c", 1: "b a c", 2: "c b a", 3: "a b c"} {
		got := b.WithChain(i)
		text := string(bytes.Join(append([][]byte{got.ChainPEM}, got.Alternates...), []byte(" ")))
		if text != want || string(b.ChainPEM) != "a" || string(got.FullChainPEM()) != "leaf "+want[:1] {
			t.Errorf("%d: %q, want %q; it is now %q", i, text, want, b.ChainPEM)
		}
	}
}
