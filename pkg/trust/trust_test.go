package trust

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

func bundle(t testing.TB, leaf *x509.Certificate, chains ...[]*x509.Certificate) *certs.Bundle {
	t.Helper()
	b, err := certs.NewBundle(encode(leaf), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.ChainPEM = encode(chains[0]...)
	for _, chain := range chains[1:] {
		b.Alternates = append(b.Alternates, encode(chain...))
	}
	return b
}

// crossed is a CA whose intermediate is signed by an old root that ends after 60 days and by a new one.
type crossed struct {
	oldRoot, newRoot, viaOld, viaNew, leaf *x509.Certificate
}

func newCrossed(t testing.TB) crossed {
	t.Helper()
	old, fresh, middle := newAuthority(t, "old root"), newAuthority(t, "new root"), newAuthority(t, "middle")
	return crossed{
		oldRoot: old.sign(t, old, 60*day, nil), newRoot: fresh.sign(t, fresh, 3650*day, nil),
		viaOld: middle.sign(t, old, 60*day, nil), viaNew: middle.sign(t, fresh, 1000*day, nil),
		leaf: newAuthority(t, "leaf").sign(t, middle, 90*day, asLeaf("www.example.com", "*.example.org")),
	}
}

func (c crossed) bundle(t testing.TB) *certs.Bundle {
	return bundle(t, c.leaf, []*x509.Certificate{c.viaOld}, []*x509.Certificate{c.viaNew})
}

func TestVerify(t *testing.T) {
	c := newCrossed(t)
	old, fresh, pinned := New("old", []*x509.Certificate{c.oldRoot}), New("new", []*x509.Certificate{c.newRoot}), New("pinned", []*x509.Certificate{c.viaNew})
	www := []certs.Identifier{identifier(t, "www.example.com"), identifier(t, "*.example.org")}
	for name, test := range map[string]struct {
		store *Store
		chain []*x509.Certificate
		names []certs.Identifier
		days  time.Duration
		says  string // "" is accepted
	}{
		"the root":                       {old, []*x509.Certificate{c.leaf, c.viaOld}, www, 1, ""},
		"the root, presented as well":    {old, []*x509.Certificate{c.leaf, c.viaOld, c.oldRoot}, www, 1, ""},
		"another root":                   {fresh, []*x509.Certificate{c.leaf, c.viaOld}, www, 1, `knows neither "middle" nor`},
		"another root, presented":        {fresh, []*x509.Certificate{c.leaf, c.viaOld, c.oldRoot}, www, 1, `self-signed certificate "old root"`},
		"the cross-sign has ended":       {old, []*x509.Certificate{c.leaf, c.viaOld}, www, 61, `"middle" ends on ` + epoch.Add(60*day).Format(time.DateOnly)},
		"the other one has not":          {fresh, []*x509.Certificate{c.leaf, c.viaNew}, www, 61, ""},
		"a pinned intermediate":          {pinned, []*x509.Certificate{c.leaf}, www, 1, ""},
		"its key under another root":     {pinned, []*x509.Certificate{c.leaf, c.viaOld}, www, 61, ""},
		"a missing intermediate":         {old, []*x509.Certificate{c.leaf}, www, 1, `knows neither "leaf" nor`},
		"misordered intermediates":       {fresh, []*x509.Certificate{c.leaf, c.newRoot, c.viaNew}, www, 1, ""},
		"a pinned leaf":                  {New("leaf", []*x509.Certificate{c.leaf}), []*x509.Certificate{c.leaf, c.viaNew}, www, 1, ""},
		"another name":                   {old, []*x509.Certificate{c.leaf, c.viaOld}, []certs.Identifier{identifier(t, "mail.example.com")}, 1, "not for mail.example.com"},
		"before the leaf":                {old, []*x509.Certificate{c.leaf, c.viaOld}, www, -1, "is not valid before"},
		"nothing presented":              {old, nil, www, 1, "no certificate"},
		"a client that trusts nobody":    {New("none", nil), []*x509.Certificate{c.leaf, c.viaOld}, www, 1, "knows neither"},
		"the instant at which it ends":   {fresh, []*x509.Certificate{c.leaf, c.viaNew}, www, 90, `"leaf" ends on`},
		"a leaf that is presented alone": {New("leaf", []*x509.Certificate{c.leaf}), []*x509.Certificate{c.leaf}, www, 89, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.store.For(OpenSSL).Verify(test.chain, test.names, epoch.Add(test.days*day))
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

// TestStricter: the two cases in which OpenSSL accepts and this package does not.
func TestStricter(t *testing.T) {
	root := newAuthority(t, "root")
	for name, change := range map[string]func(*x509.Certificate){
		"no basic constraints": func(c *x509.Certificate) { c.BasicConstraintsValid = false },
		"an excluded host": func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.ExcludedDNSDomains = true, []string{"www.example.com"}
		},
	} {
		anchor := root.sign(t, root, 100*day, change)
		leaf := newAuthority(t, "leaf").sign(t, root, 90*day, asLeaf("*.example.com"))
		if err := New("client", []*x509.Certificate{anchor}).Verify([]*x509.Certificate{leaf}, nil, epoch.Add(day)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestChoose(t *testing.T) {
	c := newCrossed(t)
	old, fresh := New("old", []*x509.Certificate{c.oldRoot}), New("new", []*x509.Certificate{c.newRoot})
	both := New("both", []*x509.Certificate{c.oldRoot, c.newRoot})
	soon, later := epoch.Add(day), epoch.Add(70*day)
	for name, test := range map[string]struct {
		stores  []*Store
		at      []time.Time
		issuers *x509.Certificate // what is presented
		failing string
	}{
		"no clients":                          {nil, []time.Time{soon}, c.viaOld, ""},
		"everybody is content with the first": {[]*Store{old, both}, []time.Time{soon}, c.viaOld, ""},
		"one needs the alternate":             {[]*Store{both, fresh}, []time.Time{soon}, c.viaNew, ""},
		"the first one ends too early":        {[]*Store{both}, []time.Time{soon, later}, c.viaNew, ""},
		"no chain is good for both":           {[]*Store{old, fresh}, []time.Time{soon}, c.viaOld, "new"},
		"nothing helps later":                 {[]*Store{old}, []time.Time{soon, later}, c.viaOld, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.bundle(t)
			chosen, failing := Choose(b, test.stores, test.at...)
			var names []string
			for _, v := range failing {
				names = append(names, v.Client)
			}
			if got := strings.Join(names, " "); got != test.failing {
				t.Errorf("failing %q, want %q", got, test.failing)
			}
			if string(chosen.ChainPEM) != string(encode(test.issuers)) {
				t.Error("another chain was chosen")
			}
			if len(chosen.Alternates) != 1 || string(b.ChainPEM) != string(encode(c.viaOld)) {
				t.Error("a chain was lost, or the original was changed")
			}
		})
	}
}

// TestChooseTwin: the units of a dual bundle get a chain each, and one that fails fails both.
func TestChooseTwin(t *testing.T) {
	c := newCrossed(t)
	fresh := []*Store{New("new", []*x509.Certificate{c.newRoot})}
	dual := c.bundle(t).WithChain(1)
	dual.RSA = c.bundle(t)
	chosen, failing := Choose(dual, fresh, epoch)
	if len(failing) > 0 || string(chosen.RSA.ChainPEM) != string(encode(c.viaNew)) || string(dual.RSA.ChainPEM) != string(encode(c.viaOld)) {
		t.Errorf("the twin presents the wrong chain, %v", failing)
	}
	dual.RSA.Alternates = nil
	if chosen, failing := Choose(dual, fresh, epoch); len(failing) != 1 || chosen != dual {
		t.Errorf("a twin that fails passed: %v", failing)
	}
	if v := Judge(dual, fresh, epoch); len(v) != 1 || v[0].Err == nil {
		t.Errorf("the verdict leaves the twin out: %v", v)
	}
}

func TestUntil(t *testing.T) {
	c := newCrossed(t)
	v := Judge(c.bundle(t), []*Store{New("old", []*x509.Certificate{c.oldRoot})}, epoch)
	if len(v) != 1 || v[0].Err != nil || !v[0].Until.Equal(c.viaOld.NotAfter) {
		t.Errorf("%+v, want good until the cross-sign ends", v)
	}
}

func TestParse(t *testing.T) {
	c := newCrossed(t)
	s, err := Parse("partners", append([]byte("# old root\n"), encode(c.oldRoot, c.viaNew)...))
	if err != nil || s.Anchors() != 2 || s.Name() != "partners" {
		t.Errorf("%+v, %v", s, err)
	}
	for text, says := range map[string]string{
		"": "no certificate", "hello": "no certificate",
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n": "only certificates",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "certificate 1",
		strings.Repeat(string(encode(c.oldRoot)), maxAnchors+1):          "more than",
	} {
		if _, err := Parse("x", []byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}

func TestSystem(t *testing.T) {
	c := newCrossed(t)
	s, err := System("browsers")
	if err != nil {
		t.Fatal(err)
	}
	err = s.Verify([]*x509.Certificate{c.leaf, c.viaOld, c.oldRoot}, nil, epoch.Add(day))
	if !errors.As(err, new(*UntrustedError)) || !strings.Contains(err.Error(), `"old root"`) {
		t.Errorf("a private root: %v", err)
	}
}

// TestPins: a client that pins keys wants one of them, and looks at nothing else unless it has anchors too.
func TestPins(t *testing.T) {
	c := newCrossed(t)
	www := []certs.Identifier{identifier(t, "www.example.com")}
	stranger := newAuthority(t, "stranger")
	mine, other := certs.Pin(c.leaf.PublicKey), certs.Pin(c.newRoot.PublicKey)
	for name, test := range map[string]struct {
		store *Store
		names []certs.Identifier
		days  time.Duration
		says  string
	}{
		"its key":              {New("app", nil).Pinned([]string{other, mine}), www, 1, ""},
		"another key":          {New("app", nil).Pinned([]string{other}), www, 1, "its key " + mine + " is not pinned"},
		"the end of the leaf":  {New("app", nil).Pinned([]string{mine}), www, 91, `"leaf" ends on`},
		"another name":         {New("app", nil).Pinned([]string{mine}), []certs.Identifier{identifier(t, "mail.example.com")}, 1, "not for mail.example.com"},
		"anchors as well":      {New("app", []*x509.Certificate{c.newRoot}).Pinned([]string{mine}), www, 1, ""},
		"anchors of another":   {New("app", []*x509.Certificate{stranger.sign(t, stranger, 200*day, func(*x509.Certificate) {})}).Pinned([]string{mine}), www, 1, "knows neither"},
		"anchors, another key": {New("app", []*x509.Certificate{c.newRoot}).Pinned([]string{other}), www, 1, "is not pinned"},
	} {
		err := test.store.Verify([]*x509.Certificate{c.leaf, c.viaNew}, test.names, epoch.Add(test.days*day))
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
}
