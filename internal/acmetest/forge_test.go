package acmetest_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

func TestForgedChains(t *testing.T) {
	ca := acmetest.Start(t)
	forger, err := acmetest.NewForger()
	if err != nil {
		t.Fatal(err)
	}
	bare, err := acmetest.NewBare(ca.Server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bare.Close() })
	const name = "a.example.com"
	type forged struct {
		leaf *x509.Certificate
		rest []*x509.Certificate
		ours bool // the leaf has our key
	}
	cases := map[string]struct {
		changes []func(*acmetest.Forgery)
		check   func(forged) bool
		invalid bool
	}{
		"sound":       {check: func(f forged) bool { return f.ours && len(f.rest) == 1 }},
		"wrong key":   {changes: []func(*acmetest.Forgery){acmetest.WrongKey}, check: func(f forged) bool { return !f.ours }},
		"weak key":    {[]func(*acmetest.Forgery){acmetest.WeakKey}, func(f forged) bool { return f.leaf.PublicKey.(*rsa.PublicKey).N.BitLen() == 1024 }, false},
		"wrong names": {[]func(*acmetest.Forgery){acmetest.Names("b.example.com")}, func(f forged) bool { return f.leaf.DNSNames[0] == "b.example.com" }, true},
		"common name": {[]func(*acmetest.Forgery){acmetest.OnlyCommonName}, func(f forged) bool { return f.leaf.Subject.CommonName == name && len(f.leaf.DNSNames) == 0 }, true},
		"expired":     {[]func(*acmetest.Forgery){acmetest.Validity(-2*time.Hour, -time.Hour)}, func(f forged) bool { return f.leaf.NotAfter.Before(time.Now()) }, true},
		"future":      {[]func(*acmetest.Forgery){acmetest.Validity(2*time.Hour, 3*time.Hour)}, func(f forged) bool { return f.leaf.NotBefore.After(time.Now()) }, true},
		"ten years":   {[]func(*acmetest.Forgery){acmetest.Validity(0, 3650*24*time.Hour)}, func(f forged) bool { return time.Until(f.leaf.NotAfter) > 3600*24*time.Hour }, false},
		"authority":   {[]func(*acmetest.Forgery){acmetest.Authority}, func(f forged) bool { return f.leaf.IsCA }, false},
		"sha-1":       {[]func(*acmetest.Forgery){acmetest.SHA1}, func(f forged) bool { return f.leaf.SignatureAlgorithm == x509.ECDSAWithSHA1 }, true},
		"client only": {[]func(*acmetest.Forgery){acmetest.ClientOnly}, func(f forged) bool {
			return slices.Equal(f.leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
		}, true},
		"critical":   {[]func(*acmetest.Forgery){acmetest.CriticalExtension}, func(f forged) bool { return len(f.leaf.UnhandledCriticalExtensions) == 1 }, true},
		"leaf only":  {[]func(*acmetest.Forgery){acmetest.LeafOnly}, func(f forged) bool { return len(f.rest) == 0 }, true},
		"with root":  {[]func(*acmetest.Forgery){acmetest.WithRoot}, func(f forged) bool { return len(f.rest) == 2 && f.rest[1].Subject.CommonName == "Forged root" }, false},
		"root first": {[]func(*acmetest.Forgery){acmetest.RootFirst}, func(f forged) bool { return len(f.rest) == 2 && f.rest[0].Subject.CommonName == "Forged root" }, false},
		"long":       {[]func(*acmetest.Forgery){acmetest.LongChain(1000)}, func(f forged) bool { return len(f.rest) == 1000 }, false},
		"foreign":    {[]func(*acmetest.Forgery){acmetest.ForeignIntermediate}, func(f forged) bool { return f.rest[0].Subject.CommonName == "Somebody else" }, true},
	}
	for title, c := range cases {
		t.Run(title, func(t *testing.T) {
			ca.Use(acmetest.At(forger.Forge(c.changes...), acmetest.Certificate))
			pem, key, err := bare.Order(t.Context(), "default", name)
			if err != nil {
				t.Fatal(err)
			}
			chain := parse(t, pem)
			f := forged{leaf: chain[0], rest: chain[1:]}
			if public, ok := f.leaf.PublicKey.(*ecdsa.PublicKey); ok {
				f.ours = public.Equal(key.Public())
			}
			if !c.check(f) {
				t.Errorf("the fault is not in the chain of %d: leaf %v", len(chain), f.leaf)
			}
			between := x509.NewCertPool()
			for _, i := range f.rest {
				between.AddCert(i)
			}
			_, err = f.leaf.Verify(x509.VerifyOptions{Roots: forger.Roots(), Intermediates: between, DNSName: name})
			if (err != nil) != c.invalid {
				t.Errorf("verification: %v, want an error: %t", err, c.invalid)
			}
		})
	}
}

func TestAppendedPrivateKeyBlock(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithMiddleware(
		acmetest.At(acmetest.AppendBody(acmetest.PrivateKeyBlock()), acmetest.Certificate)))
	chain, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(chain), "PRIVATE KEY") {
		t.Errorf("no key block in %s", chain)
	}
}
