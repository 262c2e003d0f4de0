package issuer_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

// TestOddAnswers: what can mean one thing only is accepted, at the first try and from the stored order alike.
func TestOddAnswers(t *testing.T) {
	for name, odd := range map[string]acmetest.Middleware{
		"upper case":             acmetest.UpperCaseIdentifiers(),
		"empty account":          acmetest.EmptyAccount(),
		"account without status": acmetest.AccountWithoutStatus(),
		"not pending any more":   acmetest.ChallengeNotPending(),
		"no HEAD":                acmetest.NoHeadNonce(),
		"text":                   acmetest.ChangeChain(acmetest.Text),
		"reversed":               acmetest.ChangeChain(acmetest.Reversed),
		"twice":                  acmetest.ChangeChain(acmetest.Twice),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, acmetest.WithChainLength(2), acmetest.WithAlternateRoots(1))
			w.ca.Use(odd)
			b := w.mustObtain(w.request("example.com", "www.example.com"))
			list, err := certs.ParseChain(b.FullChainPEM())
			if err != nil || len(list) != 3 || len(b.Alternates) != 1 {
				t.Errorf("%d certificates, %d alternates, %v", len(list), len(b.Alternates), err)
			}
			if n := w.ca.Requests(acmetest.NewOrder); n != 1 {
				t.Errorf("%d orders", n)
			}
			if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
				t.Errorf("%d registrations", n)
			}
		})
	}
}

func TestOddWildcards(t *testing.T) {
	for name, odd := range map[string]acmetest.Middleware{
		"star": acmetest.WildcardWithStar(), "no flag": acmetest.WildcardWithoutFlag(), "upper case": acmetest.UpperCaseIdentifiers(),
	} {
		for _, names := range [][]string{{"*.example.com"}, {"example.com", "*.example.com"}} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, acmetest.WithAlwaysValid())
				withLadder(w)
				w.ca.Use(odd)
				req := w.request(names...)
				req.Spec.Solvers = []string{"dns"}
				w.mustObtain(req)
			})
		}
	}
}

// TestFailsOverAnUnknownAccount: a CA that answers 500 to an account that it has forgotten is asked for it, once.
func TestFailsOverAnUnknownAccount(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.request("example.com"))
	if err := w.ca.Forget(); err != nil {
		t.Fatal(err)
	}
	w.ca.Use(acmetest.UnknownAccountFails())
	before := w.account()
	w.mustObtain(w.request("www.example.com"))
	if w.account().URI == before.URI {
		t.Error("the account was not registered again")
	}
	w.ca.Use(acmetest.At(acmetest.Problem(http.StatusInternalServerError, "serverInternal", "no", ""), acmetest.NewOrder))
	before = w.account()
	if _, err := w.obtain("example.com"); !isUnavailable(err) {
		t.Errorf("got %v", err)
	}
	if w.account().URI != before.URI {
		t.Error("a good account was replaced")
	}
}

func TestEABKeyAsCAsShowIt(t *testing.T) {
	hmac := []byte{0xfb, 0xff, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}
	standard := base64.StdEncoding.EncodeToString(hmac)
	for _, text := range []string{standard, `"` + standard + `"`, " '" + base64.RawURLEncoding.EncodeToString(hmac) + "'\n", "\ufeff" + standard + "\r\n"} {
		w := newWorld(t, acmetest.WithEAB(map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString(hmac)}))
		w.remake(func(c *issuer.Config) { c.EAB = &issuer.EAB{KeyID: "kid-1", HMAC: certs.Secret(text)} })
		if _, err := w.Account(t.Context()); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestAlternateChainsAreOptional: the certificate is good without one that cannot be had, wherever that lies and whatever is
// wrong with it. Only the chain that the certificate must have is waited for, with the same order.
func TestAlternateChainsAreOptional(t *testing.T) {
	forger, err := acmetest.NewForger()
	if err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]acmetest.Fault{
		"404":        acmetest.Problem(http.StatusNotFound, "malformed", "no", ""),
		"403":        acmetest.Problem(http.StatusForbidden, "unauthorized", "no", ""),
		"500":        acmetest.Problem(http.StatusInternalServerError, "serverInternal", "no", ""),
		"503":        acmetest.Unavailable("3600"),
		"reset":      acmetest.Reset(),
		"other host": acmetest.Redirect(http.StatusFound, "https://elsewhere.example/chain"),
		"garbage":    acmetest.Answer(http.StatusOK, nil, "<html>"),
		"a key":      acmetest.AppendBody(acmetest.PrivateKeyBlock()),
		"other leaf": forger.Forge(),
		"nothing":    acmetest.Answer(http.StatusOK, nil, ""),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, acmetest.WithAlternateRoots(2))
			w.ca.Use(acmetest.AlternateFault(0, fault))
			for range 4 { // the failures of alternates say nothing about the CA
				if b := w.mustObtain(w.request("example.com")); len(b.Alternates) != 1 {
					t.Errorf("%d alternates", len(b.Alternates))
				}
			}
		})
	}
	t.Run("preferred", func(t *testing.T) {
		w := newWorld(t, acmetest.WithAlternateRoots(2))
		all := w.mustObtain(w.named("both", "both.example.com"))
		preferred, err := certs.ParseChain(all.Alternates[0])
		if err != nil {
			t.Fatal(err)
		}
		req := w.request("example.com")
		req.Spec.PreferredChain = preferred[0].Issuer.CommonName
		w.ca.Use(acmetest.AlternateFault(0, acmetest.Problem(http.StatusNotFound, "malformed", "no", "")))
		if _, err := w.Obtain(t.Context(), req); !isUnavailable(err) {
			t.Fatalf("got %v", err)
		}
		orders := w.ca.Requests(acmetest.NewOrder)
		w.ca.Use()
		if b := w.mustObtain(req); len(b.Alternates) != 2 || w.ca.Requests(acmetest.NewOrder) != orders {
			t.Errorf("%d alternates, %d more orders", len(b.Alternates), w.ca.Requests(acmetest.NewOrder)-orders)
		}
	})
}

// TestHugeKeyInAChain: it costs nothing, and nothing of it is installed.
func TestHugeKeyInAChain(t *testing.T) {
	huge := acmetest.HugeKey(393_216)
	for name, odd := range map[string]acmetest.Middleware{
		"leaf":         acmetest.ChangeChain(func(blocks [][]byte) [][]byte { return append([][]byte{huge}, blocks[1:]...) }),
		"intermediate": acmetest.ChangeChain(func(blocks [][]byte) [][]byte { return [][]byte{blocks[0], huge} }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ca.Use(odd)
			begun := processorTime(t)
			_, err := w.obtain("example.com")
			var vet *certs.VetError
			if !errors.As(err, &vet) {
				t.Errorf("got %v", err)
			}
			if used := processorTime(t) - begun; used > 5*time.Second {
				t.Errorf("%s of processor time", used)
			}
		})
	}
}

// processorTime is what this process has used, whatever else the machine does.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
