package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/trust"
)

// TrustStore is what one kind of client trusts. It has either anchors or system, or pins, or pins and one of them.
type TrustStore struct {
	// Name is how certificates refer to the store, and what messages call the client; the rule is that of an issuer's name.
	Name string `mapstructure:"name"`
	// Anchors is a PEM file with everything that the client trusts: roots, and also intermediates and leaves, where it pins
	// them.
	Anchors string `mapstructure:"anchors"`
	// System takes the trust store of this machine, for clients such as common browsers. Default false.
	System bool `mapstructure:"system"`
	// Pins lists the keys, each as sha256/ and base64, of which a certificate must have one, as apps pin them. "acmed chain NAME
	// --pins" prints them. Without anchors and system such a client looks at nothing else. Optional.
	Pins []string `mapstructure:"pins"`
	// Client is the software that uses the anchors: openssl, gnutls, mbedtls, java, python or system. They differ in which
	// chains they accept. Default: the strictest of those that can use such anchors.
	Client string `mapstructure:"client"`
}

// Load reads what the client trusts.
func (s *TrustStore) Load() (*trust.Store, error) {
	store, err := s.load()
	if err != nil {
		return nil, err
	}
	return store.Pinned(s.Pins), nil
}

func (s *TrustStore) load() (*trust.Store, error) {
	switch {
	case s.System:
		return trust.System(s.Name)
	case s.Anchors == "":
		return trust.New(s.Name, nil), nil
	}
	text, err := readFile(s.Anchors, 0o022, maxFile)
	if err != nil {
		return nil, err
	}
	store, err := trust.Parse(s.Name, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Anchors, err)
	}
	return store.For(trust.Client(s.Client)), nil
}

// TrustStores reads the stores with the given names, all of them without names.
func (c *Config) TrustStores(names ...string) ([]*trust.Store, error) {
	var stores []*trust.Store
	for i := range c.Trust {
		if len(names) > 0 && !slices.Contains(names, c.Trust[i].Name) {
			continue
		}
		s, err := c.Trust[i].Load()
		if err != nil {
			return nil, fmt.Errorf("trust[%s]: %w", c.Trust[i].Name, err)
		}
		stores = append(stores, s)
	}
	return stores, nil
}

const (
	untrustedHold     = "hold"
	untrustedActivate = "activate-before-expiry"
)

// ActivateBefore is how long before the active version ends one goes live that a client would refuse; 0 holds it until
// then.
func (cert *Certificate) ActivateBefore() (time.Duration, error) {
	kind, text, given := strings.Cut(cert.OnUntrusted, "=")
	switch {
	case cert.OnUntrusted == "" || cert.OnUntrusted == untrustedHold:
		return 0, nil
	case kind != untrustedActivate || !given:
		return 0, fmt.Errorf("%s is neither %s nor %s=3d", quote(cert.OnUntrusted), untrustedHold, untrustedActivate)
	}
	d, err := ParseDuration(text)
	if err == nil && d < time.Hour {
		err = errors.New("less than an hour before expiry is too late")
	}
	return d, err
}

func (v *validator) trustStore(path string, s *TrustStore) {
	v.name(path, s.Name)
	v.anchors(path, s)
	switch {
	case s.Client != "" && s.Anchors == "" && !s.System:
		v.report(path+".client", "goes with anchors")
	case s.Client != "" && !slices.Contains(trust.Clients(), trust.Client(s.Client)):
		v.report(path+".client", "%s is none of %s", quote(s.Client), strings.Trim(fmt.Sprint(trust.Clients()), "[]"))
	case s.System && s.Client != "" && s.Client != string(trust.SystemClient):
		v.report(path+".client", "system: true is the store of the system's client; give anchors for another one")
	}
}

// anchors checks what a client trusts.
func (v *validator) anchors(path string, s *TrustStore) {
	switch {
	case s.System && s.Anchors != "", !s.System && s.Anchors == "" && len(s.Pins) == 0:
		v.report(path, "give either anchors, a PEM file, or system: true, or pins")
	case s.Anchors != "":
		v.check(path+".anchors", checkPath(s.Anchors))
	}
	for i, pin := range s.Pins {
		v.check(fmt.Sprintf("%s.pins[%d]", path, i), certs.CheckPin(pin))
	}
}

func (v *validator) trustFiles() {
	for i := range v.c.Trust {
		if s := &v.c.Trust[i]; s.System || s.Anchors != "" {
			_, err := s.Load()
			v.also(entryPath("trust", s.Name)+".anchors", err)
		}
	}
}

// clients checks what a certificate says about those who must trust it.
func (v *validator) clients(path string, cert *Certificate) {
	known := make([]string, len(v.c.Trust))
	for i := range v.c.Trust {
		known[i] = v.c.Trust[i].Name
	}
	v.references(path+".trust", "trust store", cert.Trust, known)
	_, err := cert.ActivateBefore()
	v.check(path+".on_untrusted", err)
	if cert.OnUntrusted != "" && len(cert.Trust) == 0 {
		v.report(path+".on_untrusted", "needs trust, the stores of the clients that must not break")
	}
	v.duration(path+".notice", cert.Notice)
}
