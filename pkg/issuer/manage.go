package issuer

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// Account describes the issuer's account for people, and for those who write CAA records.
type Account struct {
	URI           string    `json:"uri"` // also the accounturi of CAA records (RFC 8657)
	Status        string    `json:"status"`
	Directory     string    `json:"directory"`
	Contacts      []string  `json:"contacts"`
	Thumbprint    string    `json:"thumbprint"`     // of the account key (RFC 7638)
	CAAIdentities []string  `json:"caa_identities"` // the CA's names in CAA records (RFC 8659)
	Orders        int       `json:"orders"`         // new orders in the last 3 hours
	RetryAt       time.Time `json:"retry_at,omitzero"`
	Created       time.Time `json:"created"`
	Notes         []string  `json:"notes,omitempty"` // what is odd about its files
}

// maxIdentities bounds what is shown of the CA's names.
const maxIdentities = 10

// Account asks the CA about the account, registering it if need be.
func (i *Issuer) Account(ctx context.Context) (Account, error) {
	a, err := i.registered(ctx)
	if err != nil {
		return Account{}, err
	}
	c, err := i.accountClient(ctx, &a)
	if err != nil {
		return Account{}, err
	}
	var got acme.Account
	err = c.call("read the account", func(core *api.Core) (err error) {
		got, err = core.Accounts.Get(a.URI)
		return err
	})
	if err != nil {
		return Account{}, err
	}
	thumb, err := Thumbprint(a.Key.Public())
	if err != nil {
		return Account{}, err
	}
	info := Account{URI: a.URI, Status: text.Short(got.Status, 40), Directory: i.config.Directory, Thumbprint: thumb, Created: a.Created, Notes: a.Notes}
	err = i.current().use(func(u *store.Usage) bool {
		info.RetryAt, info.Orders = u.RetryAt, len(recentOrders(u, i.now()))
		return false
	})
	if err != nil {
		return Account{}, err
	}
	for _, contact := range got.Contact[:min(len(got.Contact), maxIdentities)] {
		info.Contacts = append(info.Contacts, text.Short(contact, 320))
	}
	info.CAAIdentities = c.dir.caaIdentities()
	return info, nil
}

// AccountURI is the URI of the stored account, "" while there is none. It asks no CA.
func (i *Issuer) AccountURI(context.Context) string {
	a, err := i.load()
	if err != nil || a == nil { // what cannot be read is said by who needs it
		return ""
	}
	return a.URI
}

// Notes says what is odd about the files of the account, such as a key that others can read. It asks no CA.
func (i *Issuer) Notes() []string {
	a, err := i.load()
	if err != nil || a == nil {
		return nil
	}
	return a.Notes
}

// CAAIdentities asks for the names under which CAA records allow this CA (RFC 8659). It needs no account. A CA that tells
// none gives an empty list.
func (i *Issuer) CAAIdentities(ctx context.Context) ([]string, error) {
	ctx, end, err := i.begin(ctx, i.way().orders, &operation{subject: "CAA identities"})
	if err != nil {
		return nil, err
	}
	defer end()
	d, err := i.directory(ctx, 0)
	if err != nil {
		return nil, i.unavailable(err)
	}
	return d.caaIdentities(), nil
}

func (d *directory) caaIdentities() []string {
	var names []string
	for _, name := range d.Meta.CaaIdentities[:min(len(d.Meta.CaaIdentities), maxIdentities)] {
		names = append(names, text.Short(name, 260))
	}
	return names
}

// Recover takes over the account of an existing key, for example from another ACME client (RFC 8555 section 7.3.1). The CA
// must know the key. What this issuer had before is replaced; the store keeps the key of it.
func (i *Issuer) Recover(ctx context.Context, key crypto.Signer) error {
	if certs.KeyTypeOf(key.Public()) == "" {
		return &certs.PermanentError{Err: errors.New("the account key must be ECDSA P-256, P-384 or RSA of 2048 to 4096 bits")}
	}
	got, err := i.lookUp(ctx, key)
	switch {
	case isKind(err, typeAccountDoesNotExist), isKind(err, typeUnauthorized):
		return &certs.PermanentError{Err: err}
	case err != nil:
		return err
	case got.Status != acme.StatusValid:
		return &certs.PermanentError{Err: fmt.Errorf("the account is %q at the CA", text.Cut(got.Status, 40))}
	}
	return i.withAccount(ctx, func(a *store.Account) error {
		if a.URI != "" && !certs.SameKey(a.Key.Public(), key.Public()) {
			if err := i.retireKey(a.Key); err != nil {
				return err
			}
		}
		*a = store.Account{URI: got.Location, Contacts: got.Contact, Key: key, Created: i.now()}
		return i.saveAccount(a)
	})
}

// UpdateContacts changes the mail addresses that the CA has; none removes them all (RFC 8555 section 7.3.2).
func (i *Issuer) UpdateContacts(ctx context.Context, mails ...string) error {
	var list []string
	for _, mail := range mails {
		if err := checkContact(mail); err != nil {
			return &certs.PermanentError{Err: err}
		}
		list = append(list, contacts(mail)...)
	}
	if _, err := i.registered(ctx); err != nil {
		return err
	}
	return i.withAccount(ctx, func(a *store.Account) error { return i.setContacts(ctx, a, list) })
}

// Deactivate closes the account at the CA for good (RFC 8555 section 7.3.6). Its key can never be used there again: the
// next order registers a new account.
func (i *Issuer) Deactivate(ctx context.Context) error {
	if _, err := i.registered(ctx); err != nil {
		return err
	}
	return i.withAccount(ctx, func(a *store.Account) error {
		c, err := i.accountClient(ctx, a)
		if err != nil {
			return err
		}
		if err := c.call("deactivate the account", func(core *api.Core) error { return core.Accounts.Deactivate(a.URI) }); err != nil {
			return err
		}
		if err := i.retireKey(a.Key); err != nil {
			return err
		}
		i.current().usage.forgetOrders()
		fresh, err := i.createAccount()
		if err == nil {
			*a = *fresh
		}
		return err
	})
}

// Reason is why a certificate is revoked (RFC 5280 section 5.3.1).
type Reason uint

// The reasons that subscribers may give (CA/B BR 4.9.1.1, Mozilla's policy 6.1.1).
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
)

// ParseReason reads a reason as RFC 5280 spells it.
func ParseReason(text string) (Reason, error) {
	names := []string{"unspecified", "keyCompromise", "", "affiliationChanged", "superseded", "cessationOfOperation"}
	if n := slices.Index(names, text); n >= 0 && text != "" {
		return Reason(n), nil
	}
	return 0, fmt.Errorf("unknown reason %q; use unspecified, keyCompromise, affiliationChanged, superseded or cessationOfOperation", text)
}

// Revoke asks the CA to revoke a certificate (RFC 8555 section 7.6). With a nil key the request is signed by the account,
// which must have ordered the certificate; otherwise by the certificate's own private key, which needs no account. A
// certificate that is revoked already is no error.
func (i *Issuer) Revoke(ctx context.Context, leaf *x509.Certificate, reason Reason, key crypto.Signer) error {
	a := store.Account{Key: key}
	if key == nil {
		var err error
		if a, err = i.registered(ctx); err != nil {
			return err
		}
	} else if !certs.SameKey(key.Public(), leaf.PublicKey) {
		return &certs.PermanentError{Err: errors.New("the private key does not belong to the certificate")}
	}
	c, err := i.accountClient(ctx, &a)
	if err != nil {
		return err
	}
	if c.dir.RevokeCertURL == "" {
		return &certs.PermanentError{Err: errors.New("the CA does not offer revocation")}
	}
	message := acme.RevokeCertMessage{Certificate: base64.RawURLEncoding.EncodeToString(leaf.Raw)}
	if reason != Unspecified {
		message.Reason = (*uint)(&reason)
	}
	err = c.call("revoke the certificate", func(core *api.Core) error { return core.Certificates.Revoke(message) })
	if message.Reason != nil && isKind(err, typeBadRevocationReason) { // a CA need not take reasons (RFC 8555 section 7.6)
		message.Reason = nil
		err = c.call("revoke the certificate", func(core *api.Core) error { return core.Certificates.Revoke(message) })
	}
	if isKind(err, typeAlreadyRevoked) {
		return nil
	}
	return err
}
