package issuer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

const oneDay = 24 * time.Hour

func wrongKeys(f *acmetest.Forger) map[string]acmetest.Fault {
	return map[string]acmetest.Fault{"wrong key": f.Forge(acmetest.WrongKey)}
}

func wrongNames(f *acmetest.Forger) map[string]acmetest.Fault {
	return map[string]acmetest.Fault{
		"missing": f.Forge(acmetest.Names("a.example.com")), "extra": f.Forge(acmetest.Names("a.example.com", "b.example.com", "c.example.com")),
		"only in the common name": f.Forge(acmetest.OnlyCommonName), "none": f.Forge(acmetest.Names()),
	}
}

func wrongLifetimes(f *acmetest.Forger) map[string]acmetest.Fault {
	return map[string]acmetest.Fault{
		"expired": f.Forge(acmetest.Validity(-2*oneDay, -oneDay)), "not yet": f.Forge(acmetest.Validity(2*time.Hour, 90*oneDay)),
		"10 years": f.Forge(acmetest.Validity(0, 3660*oneDay)), "5 minutes": f.Forge(acmetest.Validity(0, 5*time.Minute)),
	}
}

func wrongChains(f *acmetest.Forger) map[string]acmetest.Fault {
	return map[string]acmetest.Fault{
		"1,000 certificates": f.Forge(acmetest.LongChain(1000)), "11 certificates": f.Forge(acmetest.LongChain(11)),
		"foreign intermediate": f.Forge(acmetest.ForeignIntermediate),
		"private key":          acmetest.AppendBody(acmetest.PrivateKeyBlock()),
		"400 kB of PEM":        acmetest.AppendBody(strings.Repeat("-----BEGIN CERTIFICATE-----\n", 15_000)),
		"not a chain":          acmetest.Answer(200, nil, "\x1b[2J"),
	}
}

func wrongKinds(f *acmetest.Forger) map[string]acmetest.Fault {
	return map[string]acmetest.Fault{
		"rsa 1024": f.Forge(acmetest.WeakKey), "sha-1": f.Forge(acmetest.SHA1), "authority": f.Forge(acmetest.Authority),
		"for clients": f.Forge(acmetest.ClientOnly), "critical extension": f.Forge(acmetest.CriticalExtension),
	}
}

// forged are certificates that must not be installed: none leaves the issuer, and the order is not resumed for ever.
func forged(faults func(*acmetest.Forger) map[string]acmetest.Fault) func(t *testing.T) {
	return func(t *testing.T) {
		forger, err := acmetest.NewForger()
		if err != nil {
			t.Fatal(err)
		}
		for name, fault := range faults(forger) {
			t.Run(name, func(t *testing.T) { refused(t, fault, "vet", 2) })
		}
	}
}

func refused(t *testing.T, fault acmetest.Fault, want string, orders int) {
	t.Helper()
	w := newWorld(t)
	w.ca.Use(acmetest.At(fault, acmetest.Certificate))
	bounded(t, func() {
		b, err := w.obtain("a.example.com", "b.example.com")
		if kind(err) != want || b != nil {
			t.Errorf("got %v", err)
		}
		checkText(t, err)
	})
	w.ca.Use()
	w.mustObtain(w.request("a.example.com", "b.example.com"))
	if n := w.ca.Requests(acmetest.NewOrder); n != orders {
		t.Errorf("%d orders", n)
	}
}

// Of a body that is too large nothing is known, so the same order is taken up.
func hugeChain(t *testing.T) {
	refused(t, acmetest.AppendBody(strings.Repeat("-----BEGIN CERTIFICATE-----\n", 180_000)), "unavailable", 1)
}

func chainWithRoot(t *testing.T) {
	forger, err := acmetest.NewForger()
	if err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]acmetest.Fault{
		"with root": forger.Forge(acmetest.WithRoot), "root first": forger.Forge(acmetest.RootFirst),
		"doubled": forger.Forge(acmetest.LongChain(2)), "text after it": acmetest.AppendBody("hello"),
	} {
		w := newWorld(t)
		w.ca.Use(acmetest.At(fault, acmetest.Certificate))
		if _, err := w.obtain("a.example.com"); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestShortLifetimeByPolicy(t *testing.T) {
	w := newWorld(t, acmetest.WithProfile("minutes", 5*time.Minute))
	req := w.request("example.com")
	req.Spec.Profile = "minutes"
	if _, err := w.Obtain(t.Context(), req); kind(err) != "vet" {
		t.Errorf("got %v", err)
	}
	w.remake(func(c *issuer.Config) { c.Policy = certs.Policy{MinLifetime: time.Minute, MaxLifetime: time.Hour} })
	w.mustObtain(req)
}
