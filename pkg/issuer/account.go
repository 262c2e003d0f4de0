package issuer

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"github.com/go-jose/go-jose/v4"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// account is the issuer's account in memory. The lock is held while it is read, registered or changed, so that two first
// orders do not register twice.
type account struct {
	lock   chan struct{}
	stored *store.Account // nil until it was read
	dirty  bool           // has orders that are not stored yet

	saving   sync.Mutex    // held while it is written; whoever takes it holds lock, so that no older state comes last
	flushing chan struct{} // holds an element while flushAccount is at work
}

func newAccount() account {
	return account{lock: make(chan struct{}, 1), flushing: make(chan struct{}, 1)}
}

// withAccount runs fn with the account, reading or creating it first. A new account has a key, stored, and no URI.
func (i *Issuer) withAccount(ctx context.Context, fn func(a *store.Account) error) error {
	select {
	case i.account.lock <- struct{}{}:
		defer func() { <-i.account.lock }()
	case <-ctx.Done():
		return i.ended(ctx)
	}
	if i.account.stored == nil {
		a, err := i.config.Store.Account(i.config.Directory, i.config.Contact)
		if err != nil {
			return fmt.Errorf("read the account at %s: %w", i.config.Directory, err)
		}
		if a == nil {
			if a, err = i.createAccount(); err != nil {
				return err
			}
		}
		if a.Contacts == nil {
			a.Contacts = contacts(i.config.Contact)
		}
		i.account.stored = a
	}
	return fn(i.account.stored)
}

// createAccount stores a key before the CA hears of it: should the answer to the registration be lost, registering again
// with the same key finds the account (RFC 8555 section 7.3.1).
func (i *Issuer) createAccount() (*store.Account, error) {
	key, err := certs.NewKey(certs.EC256)
	if err != nil {
		return nil, fmt.Errorf("make an account key: %w", err)
	}
	a := &store.Account{Key: key, Contacts: contacts(i.config.Contact), Created: i.now()}
	return a, i.saveAccount(a)
}

// retireKey keeps the key that is about to be replaced by that of another account.
func (i *Issuer) retireKey() error {
	return i.config.Store.RetireKey(i.config.Directory, i.config.Contact)
}

func (i *Issuer) saveAccount(a *store.Account) error {
	i.account.saving.Lock()
	defer i.account.saving.Unlock()
	return i.writeAccount(a)
}

func (i *Issuer) writeAccount(a *store.Account) error {
	if err := i.config.Store.SaveAccount(i.config.Directory, i.config.Contact, a); err != nil {
		return fmt.Errorf("store the account at %s: %w", i.config.Directory, err)
	}
	return nil
}

// registered returns the account, registering it when the CA does not know it yet. It refuses to work while the CA asked
// the account to pause.
func (i *Issuer) registered(ctx context.Context) (account store.Account, err error) {
	err = i.withAccount(ctx, func(a *store.Account) error {
		if i.now().Before(a.RetryAt) {
			return &certs.RateLimitError{At: a.RetryAt, Err: errors.New("the CA asked this account to pause"), Unavailable: a.Down}
		}
		if err := i.settle(ctx, a); err != nil {
			return err
		}
		if a.URI == "" {
			if err := i.register(ctx, a); err != nil {
				return err
			}
		}
		account = *a
		return nil
	})
	return account, err
}

// register creates the account at the CA, or finds the one that the key already has (RFC 8555 section 7.3).
func (i *Issuer) register(ctx context.Context, a *store.Account) error {
	c, err := i.newClient(ctx, "", a.Key)
	if err != nil {
		return err
	}
	request, err := i.newAccountRequest(c, a)
	if err != nil {
		return err
	}
	got, err := c.newAccount("register the account", request)
	if err != nil {
		if p := problemOf(err); p != nil && p.kind == typeUnauthorized {
			return &certs.PermanentError{Err: err}
		}
		return err
	}
	if got.Status != acme.StatusValid {
		return &certs.PermanentError{Err: fmt.Errorf("the account is %q at the CA", text.Cut(got.Status, 40))}
	}
	a.URI = got.Location
	return i.saveAccount(a)
}

func (c *client) newAccount(what string, request acme.Account) (got acme.ExtendedAccount, err error) {
	err = c.call(what, func(core *api.Core) (err error) {
		got, err = core.Accounts.New(request)
		return err
	})
	if err != nil {
		return got, err
	}
	if err := c.i.transport.allowedText(got.Location); err != nil {
		return got, c.i.unavailable(fmt.Errorf("%s: %w", what, err))
	}
	return got, nil
}

func (i *Issuer) newAccountRequest(c *client, a *store.Account) (acme.Account, error) {
	meta := c.dir.Meta
	request := acme.Account{Contact: a.Contacts, TermsOfServiceAgreed: i.config.AgreeTOS}
	switch {
	case meta.TermsOfService != "" && !i.config.AgreeTOS:
		where := "on its web site"
		if terms := forPeople(meta.TermsOfService); terms != "" {
			where = strconv.Quote(terms)
		}
		return request, &certs.PermanentError{Err: advice.Tag(advice.AccountRefused,
			fmt.Errorf("the CA wants its terms of service accepted; read them %s and set agree_tos: true", where))}
	case meta.ExternalAccountRequired && i.config.EAB == nil:
		return request, &certs.PermanentError{Err: advice.Tag(advice.AccountRefused,
			errors.New("the CA wants an external account binding; set eab with the key ID and HMAC key it gave you"))}
	case i.config.EAB == nil:
		return request, nil
	}
	binding, err := i.config.EAB.sign(c.dir.NewAccountURL, a.Key.Public())
	request.ExternalAccountBinding = binding
	return request, err
}

// reregister makes a new account after the CA forgot or closed the one at uri. It reports whether there is one now; an
// account that is well keeps its key and URI.
func (i *Issuer) reregister(ctx context.Context, uri string) (renewed bool, err error) {
	err = i.withAccount(ctx, func(a *store.Account) error {
		if a.URI != uri {
			renewed = true // by somebody else, meanwhile
			return nil
		}
		closed, err := i.closed(ctx, a)
		if err != nil {
			return err
		}
		if closed == accountOpen {
			return nil
		}
		fresh := *a
		if closed == accountClosed {
			if err := i.retireKey(); err != nil {
				return err
			}
			if fresh.Key, err = certs.NewKey(certs.EC256); err != nil {
				return fmt.Errorf("make an account key: %w", err)
			}
		}
		i.config.Log.Warn("the CA does not know this account any more, registering anew",
			zapIssuer(i), zapAccount(a.URI))
		fresh.URI, fresh.Orders = "", nil
		*a = fresh
		if err := i.saveAccount(a); err != nil {
			return err
		}
		renewed = true
		return i.register(ctx, a)
	})
	return renewed, err
}

type standing int

const (
	accountOpen    standing = iota
	accountUnknown          // the CA has never heard of the key
	accountClosed           // deactivated or revoked: its key cannot be used again
)

func (i *Issuer) closed(ctx context.Context, a *store.Account) (standing, error) {
	c, err := i.newClient(ctx, "", a.Key)
	if err != nil {
		return accountOpen, err
	}
	got, err := c.newAccount("look the account up", acme.Account{OnlyReturnExisting: true})
	switch {
	case isKind(err, typeAccountDoesNotExist):
		return accountUnknown, nil
	case isKind(err, typeUnauthorized):
		return accountClosed, nil
	case err != nil:
		return accountOpen, err
	case got.Status == acme.StatusDeactivated || got.Status == acme.StatusRevoked:
		return accountClosed, nil
	case got.Location != a.URI:
		return accountUnknown, nil
	}
	return accountOpen, nil
}

// budgetWindow is the window over which CAs count new orders of an account.
const budgetWindow = 3 * time.Hour

// takeOrder counts a new order against the account's budget, so that a mass renewal spreads by itself instead of running
// into the CA's limit. The count is stored by [Issuer.flushAccount], off the way of the order.
func (i *Issuer) takeOrder(ctx context.Context) error {
	return i.withAccount(ctx, func(a *store.Account) error {
		recent := i.recentOrders(a)
		if budget := i.config.OrderBudget; budget > 0 && len(recent) >= budget {
			at := recent[len(recent)-budget].Add(budgetWindow)
			return &certs.RateLimitError{At: at, Err: fmt.Errorf("%d new orders in 3 hours are this account's own budget (orders_per_3h)", budget)}
		}
		a.Orders = append(recent, i.now())
		i.account.dirty = true
		return nil
	})
}

// recentOrders are the orders that still count.
func (i *Issuer) recentOrders(a *store.Account) []time.Time {
	now := i.now()
	return slices.DeleteFunc(slices.Clone(a.Orders), func(at time.Time) bool { return now.Sub(at) >= budgetWindow })
}

// flushPause is how long orders are gathered before their count is stored. A crash within it loses only that: a second's
// worth of the account's own budget, which is no limit of the CA.
const flushPause = time.Second

// flushAccount stores the orders counted so far, soon and in the background because no order depends on it. One write
// serves all that were counted meanwhile, and none of them waits for it.
func (i *Issuer) flushAccount(ctx context.Context) {
	select {
	case i.account.flushing <- struct{}{}:
	default:
		return // whoever is at work looks once more before it ends
	}
	i.background.Go(func() {
		for again := true; again; {
			select {
			case <-i.closing:
			case <-time.After(flushPause):
			}
			var err error
			if again, err = i.flushOnce(context.WithoutCancel(ctx)); err != nil {
				i.config.Log.Warn("the count of new orders could not be stored", zapIssuer(i), zapError(err))
			}
		}
	})
}

// flushOnce writes a copy of the account without keeping anybody from the account itself. It reports whether there was
// something to write; if not, the flush is over.
func (i *Issuer) flushOnce(ctx context.Context) (written bool, err error) {
	var a store.Account
	err = i.withAccount(ctx, func(stored *store.Account) error {
		if !i.account.dirty {
			<-i.account.flushing
			return nil
		}
		i.account.dirty, a, written = false, *stored, true
		i.account.saving.Lock()
		return nil
	})
	if err != nil {
		<-i.account.flushing
	}
	if err != nil || !written {
		return false, err
	}
	defer i.account.saving.Unlock()
	return true, i.writeAccount(&a)
}

// The pause of a whole account. A limit on new orders of an account refills one order in under a minute (Let's Encrypt:
// 36 s), while a limit on one set of names lasts hours and must not stop all other certificates; a 429 does not say which
// it is, so it stops the account for a minute and the certificate for as long as the CA said.
const newOrderPause = time.Minute

// pauseAccount remembers across restarts that the CA wants no more requests from this account.
func (i *Issuer) pauseAccount(ctx context.Context, err error) {
	var limit *certs.RateLimitError
	p := problemOf(err)
	if !errors.As(err, &limit) || p == nil {
		return // not limited, or by ourselves
	}
	until := limit.At
	if soon := i.now().Add(newOrderPause); p.newOrder && p.status == http.StatusTooManyRequests && until.After(soon) {
		until = soon
	}
	err = i.withAccount(context.WithoutCancel(ctx), func(a *store.Account) error {
		if !until.After(a.RetryAt) {
			return nil
		}
		a.RetryAt, a.Down = until, limit.Unavailable
		return i.saveAccount(a)
	})
	if err != nil {
		i.config.Log.Warn("the CA's rate limit could not be stored", zapIssuer(i), zapError(err))
	}
}

// EAB binds a new account to an existing one at the CA (RFC 8555 section 7.3.4).
type EAB struct {
	KeyID     string       // as the CA gave it
	HMAC      certs.Secret // base64url, with or without padding, as the CA gave it
	Algorithm string       // HS256, HS384 or HS512; "" is HS256
}

// minHMAC is the shortest HMAC key in bytes that is not obviously cut off.
const minHMAC = 16

func (e *EAB) check() error {
	if e.KeyID == "" {
		return errors.New("external account binding: the key ID is empty")
	}
	if !slices.Contains([]string{"", "HS256", "HS384", "HS512"}, e.Algorithm) {
		return fmt.Errorf("external account binding: algorithm %q is none of HS256, HS384, HS512", e.Algorithm)
	}
	if key, err := e.key(); err != nil || len(key) < minHMAC {
		return fmt.Errorf("external account binding: the HMAC key is not base64url text of at least %d bytes", minHMAC)
	}
	return nil
}

func (e *EAB) key() ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(string([]byte(e.HMAC))), "="))
}

func (e *EAB) sign(newAccount string, public crypto.PublicKey) ([]byte, error) {
	key, err := e.key()
	if err != nil {
		return nil, e.check()
	}
	payload, err := (&jose.JSONWebKey{Key: public}).MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("external account binding: %w", err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(orDefault(e.Algorithm, "HS256")), Key: key},
		&jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"kid": e.KeyID, "url": newAccount}})
	if err != nil {
		return nil, fmt.Errorf("external account binding: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("external account binding: %w", err)
	}
	return []byte(signed.FullSerialize()), nil
}

// Thumbprint is the RFC 7638 thumbprint of an account key in base64url: the second half of every key authorization.
func Thumbprint(public crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("thumbprint of the account key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

func contacts(mail string) []string {
	if mail == "" {
		return nil
	}
	return []string{"mailto:" + strings.TrimPrefix(mail, "mailto:")}
}

func checkContact(mail string) error {
	local, domain, found := strings.Cut(strings.TrimPrefix(mail, "mailto:"), "@")
	if mail == "" || found && local != "" && domain != "" && !strings.ContainsAny(mail, " \t\r\n,?") {
		return nil
	}
	return fmt.Errorf("contact %q is not one mail address", mail)
}
