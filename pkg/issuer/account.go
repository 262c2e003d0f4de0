package issuer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// account is one account at one CA: the only owner of its key, its order budget and its pause, whoever uses it. What is
// stored is read from the disk each time, so there is no copy that could grow old.
type account struct {
	store              *store.Store
	directory, contact string

	lock  chan struct{} // held while it is read, registered or changed, so that two first orders do not register twice
	usage usage

	mu    sync.Mutex // guards the fields below
	links []*link
	noted map[string]bool // notes that were logged
}

// accounts are all accounts of one state directory. Issuers with one directory and contact share one, before and after a
// reload.
type accounts struct {
	mu   sync.Mutex
	list map[accountID]*account
	keep map[string][]string // by directory: the contacts of all issuers that are configured there now
}

type accountID struct{ directory, contact string }

func accountsOf(s *store.Store) *accounts {
	return store.Shared(s, "accounts", func() *accounts { return &accounts{list: map[accountID]*account{}, keep: map[string][]string{}} })
}

// of returns the account that an issuer uses.
func (l *accounts) of(c *Config) *account {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := accountID{c.Directory, c.Contact}
	if c.Contacts != nil {
		l.keep[c.Directory] = append(slices.Clone(c.Contacts), c.Contact)
	}
	a := l.list[id]
	if a == nil || a.contact != c.Contact && !slices.Contains(l.keep[c.Directory], a.contact) { // the contact of before is back
		a = &account{store: c.Store, directory: c.Directory, contact: c.Contact, lock: make(chan struct{}, 1), noted: map[string]bool{}}
		l.list[id] = a
	}
	return a
}

// current is the issuer's account, which is another one once it was adopted under a new contact.
func (i *Issuer) current() *account {
	i.way()
	l := accountsOf(i.config.Store)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[accountID{i.config.Directory, i.config.Contact}]
}

func (a *account) take(ctx context.Context) error {
	select {
	case a.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *account) release() { <-a.lock }

// withAccount runs fn with the account, reading or creating it first. A new account has a key, stored, and no URI.
func (i *Issuer) withAccount(ctx context.Context, fn func(a *store.Account) error) error {
	acct := i.current()
	for {
		if acct.take(ctx) != nil {
			return i.ended(ctx)
		}
		now := i.current()
		if now == acct {
			break
		}
		acct.release()
		acct = now
	}
	defer acct.release()
	if err := i.follow(ctx); err != nil {
		return err
	}
	a, err := i.load()
	if err == nil && a == nil {
		a, err = i.adopt(ctx, acct)
	}
	if err == nil && a == nil {
		a, err = i.createAccount()
	}
	if err != nil {
		return err
	}
	if a.Contacts == nil {
		a.Contacts = contacts(i.config.Contact)
	}
	return fn(a)
}

func (i *Issuer) load() (*store.Account, error) {
	acct := i.current()
	a, err := acct.store.Account(acct.directory, acct.contact)
	if err != nil || a == nil {
		return nil, err
	}
	acct.mu.Lock()
	defer acct.mu.Unlock()
	for _, note := range a.Notes {
		if !acct.noted[note] {
			acct.noted[note] = true
			i.config.Log.Warn("account files", zapIssuer(i), zap.String("note", note))
		}
	}
	return a, nil
}

// earlier lists the accounts that no configured issuer uses any more, and the contacts of those that are in use.
func (l *accounts) earlier(acct *account) (keep []string, list []*account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keep = l.keep[acct.directory]
	for id, other := range l.list {
		if id.directory == acct.directory && other != acct && !slices.Contains(keep, other.contact) && !slices.Contains(list, other) {
			list = append(list, other)
		}
	}
	return keep, list
}

// replace lets issuers of the configuration before use acct.
func (l *accounts) replace(earlier []*account, acct *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, other := range l.list {
		if slices.Contains(earlier, other) {
			l.list[id] = acct
		}
	}
}

// adopt takes over an account at this directory that no configured issuer uses any more: the contact in the configuration
// changed, and the account at the CA is still good, while another one may need a key for external account binding that is
// used up. Nil means that there is none.
func (i *Issuer) adopt(ctx context.Context, acct *account) (*store.Account, error) {
	l := accountsOf(i.config.Store)
	keep, earlier := l.earlier(acct)
	if !slices.Contains(keep, acct.contact) {
		return nil, nil //nolint:nilnil // documented
	}
	for _, other := range earlier { // never the other way round: an account in keep is not adopted
		if other.take(ctx) != nil {
			return nil, i.ended(ctx)
		}
		defer other.release()
		i.flushNow(other)
	}
	found, err := acct.store.AdoptAccount(acct.directory, acct.contact, keep)
	if err != nil || !found {
		return nil, err
	}
	l.replace(earlier, acct)
	acct.usage.forget()
	i.config.Log.Info("the account at the CA gets the configured contact", zapIssuer(i), zap.String("contact", i.config.Contact))
	return i.load()
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

// retireKey keeps a key that is about to be replaced.
func (i *Issuer) retireKey(key crypto.Signer) error {
	acct := i.current()
	return acct.store.RetireKey(acct.directory, acct.contact, key)
}

// saveAccount stores the account, in a fleet for all nodes before the CA hears of anything. If another node had a different one
// first, that is the account.
func (i *Issuer) saveAccount(a *store.Account) error {
	acct := i.current()
	if i.config.Shared != nil {
		theirs, err := i.share(context.Background(), a)
		if err != nil {
			return err
		}
		if theirs != nil && !certs.SameKey(theirs.Key.Public(), a.Key.Public()) {
			*a = *theirs
			return nil
		}
	}
	return acct.store.SaveAccount(acct.directory, acct.contact, a)
}

// registered returns the account, registering it when the CA does not know it yet. It refuses to work while the CA asked
// the account to pause.
func (i *Issuer) registered(ctx context.Context) (account store.Account, err error) {
	err = i.withAccount(ctx, func(a *store.Account) error {
		if err := i.paused(); err != nil {
			return err
		}
		if err := i.settle(ctx, a); err != nil {
			return err
		}
		if a.URI == "" {
			if err := i.register(ctx, a); err != nil {
				return err
			}
		}
		if a.Adopted {
			if err := i.setContacts(ctx, a, contacts(i.config.Contact)); err != nil && !blamesAccount(err) {
				return err
			}
		}
		account = *a
		return nil
	})
	return account, err
}

// setContacts tells the CA whom to write to (RFC 8555 section 7.3.2).
func (i *Issuer) setContacts(ctx context.Context, a *store.Account, list []string) error {
	c, err := i.accountClient(ctx, a)
	if err != nil {
		return err
	}
	if list == nil {
		list = []string{} // the CA must see an empty list
	}
	if err := c.post("update the account", a.URI, map[string]any{"contact": list}); err != nil {
		return err
	}
	a.Contacts, a.Adopted = list, false
	return i.saveAccount(a)
}

// register creates the account at the CA, or finds the one that the key already has (RFC 8555 section 7.3).
func (i *Issuer) register(ctx context.Context, a *store.Account) error {
	c, err := i.newClient(ctx, "", a.Key)
	if err != nil {
		return err
	}
	if a.Adopted {
		a.Contacts, a.Adopted = contacts(i.config.Contact), false
	}
	var request acme.Account
	err = c.checkDirectory(func() (err error) {
		request, err = i.newAccountRequest(c, a)
		return err
	})
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
// account that is well keeps its key and URI, and so does one whose key changed a moment ago, because parts of a CA may not
// know the new key yet.
func (i *Issuer) reregister(ctx context.Context, uri string) (renewed bool, err error) {
	err = i.withAccount(ctx, func(a *store.Account) error {
		if a.URI != uri {
			renewed = true // by another order, meanwhile
			return nil
		}
		if i.now().Sub(a.KeyChanged).Abs() < keySettled {
			return nil
		}
		return i.alone(ctx, a, func() (err error) {
			if renewed = a.URI != uri; !renewed {
				renewed, err = i.renewAccount(ctx, a)
			}
			return err
		})
	})
	return renewed, err
}

// renewAccount makes a new account if the CA does not know this one any more, or finds the key by which it does.
func (i *Issuer) renewAccount(ctx context.Context, a *store.Account) (renewed bool, err error) {
	state, err := i.stateOf(ctx, a)
	if err != nil || state == accountOpen {
		return false, err
	}
	if renewed, err = i.earlierKey(ctx, a); renewed || err != nil {
		return renewed, err
	}
	fresh := *a
	if state == accountClosed {
		if err := i.retireKey(a.Key); err != nil {
			return false, err
		}
		if fresh.Key, err = certs.NewKey(certs.EC256); err != nil {
			return false, fmt.Errorf("make an account key: %w", err)
		}
	}
	i.config.Log.Warn("the CA does not know this account any more, registering a new one",
		zapIssuer(i), zapAccount(a.URI))
	fresh.URI, fresh.KeyChanged = "", time.Time{}
	*a = fresh
	if err := i.saveAccount(a); err != nil {
		return false, err
	}
	i.current().usage.forgetOrders()
	return true, i.register(ctx, a)
}

// earlierKey finds out whether the CA knows the account by a key that it had before: a rollover was given up too soon, or
// undone here by a restored backup.
func (i *Issuer) earlierKey(ctx context.Context, a *store.Account) (found bool, err error) {
	const most = 3
	acct := i.current()
	keys, err := acct.store.RetiredKeys(acct.directory, acct.contact)
	if err != nil {
		return false, err
	}
	for _, key := range keys[:min(len(keys), most)] {
		got, err := i.lookUp(ctx, key)
		if err == nil && got.Location == a.URI && got.Status == acme.StatusValid {
			if err := i.retireKey(a.Key); err != nil {
				return false, err
			}
			a.Key, a.KeyChanged = key, i.now()
			return true, i.saveAccount(a)
		}
	}
	return false, nil
}

// lookUp asks the CA for the account of a key, and for none to be made (RFC 8555 section 7.3.1).
func (i *Issuer) lookUp(ctx context.Context, key crypto.Signer) (acme.ExtendedAccount, error) {
	c, err := i.newClient(ctx, "", key)
	if err != nil {
		return acme.ExtendedAccount{}, err
	}
	return c.newAccount("look the account up", acme.Account{OnlyReturnExisting: true})
}

type accountState int

const (
	accountOpen    accountState = iota
	accountUnknown              // the CA has never heard of the key
	accountClosed               // deactivated or revoked: its key cannot be used again
)

func (i *Issuer) stateOf(ctx context.Context, a *store.Account) (accountState, error) {
	got, err := i.lookUp(ctx, a.Key)
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
	return fmt.Errorf("contact %q is not one email address", mail)
}
