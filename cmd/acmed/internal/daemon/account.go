package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/renewal"
)

// Account does one thing with the account of one issuer.
func (d *Daemon) Account(ctx context.Context, r control.AccountRequest) (control.Account, error) {
	i, err := d.issuer(r.Issuer)
	if err != nil {
		return control.Account{}, err
	}
	d.join(ctx)
	switch r.Action {
	case control.AccountShow:
	case control.AccountUpdate:
		err = i.UpdateContacts(ctx, r.Contacts...)
	case control.AccountRollover:
		err = i.Rollover(ctx)
	case control.AccountRecover:
		err = recoverAccount(ctx, i, r.Key)
	case control.AccountDeactivate:
		if err := i.Deactivate(ctx); err != nil {
			return control.Account{}, err
		}
		// Asking the CA again would register the next account.
		return control.Account{Version: control.Version, Issuer: r.Issuer, Directory: i.conf.Directory, Status: "deactivated"}, nil
	default:
		err = &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("account action %q is unknown", r.Action)}
	}
	if err != nil {
		return control.Account{}, err
	}
	a, err := i.Account(ctx)
	if err != nil {
		return control.Account{}, err
	}
	d.mu.Lock()
	c := d.config
	d.mu.Unlock()
	return control.Account{
		Version: control.Version, Issuer: r.Issuer, Directory: a.Directory, URI: a.URI, Status: a.Status, Contacts: a.Contacts,
		PersistRecords: persistRecords(c, r.Issuer, a.CAAIdentities, a.URI),
		Thumbprint:     a.Thumbprint, CAAIdentities: a.CAAIdentities, Orders: a.Orders, RetryAt: a.RetryAt, Created: a.Created, Notes: a.Notes,
	}, nil
}

func recoverAccount(ctx context.Context, i madeIssuer, keyPEM certs.Secret) error {
	key, err := certs.ParseKey(keyPEM)
	if err != nil {
		return &control.Error{Code: control.CodeUsage, Message: "the account key: " + err.Error()}
	}
	return i.Recover(ctx, key)
}

// issuer returns an issuer that some certificate uses.
func (d *Daemon) issuer(name string) (madeIssuer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if made, ok := d.builder.issuers[name]; ok {
		return made, nil
	}
	used := slices.Sorted(maps.Keys(d.builder.issuers))
	return madeIssuer{}, &control.Error{Code: control.CodeUnknown, Message: fmt.Sprintf(
		"no certificate uses an issuer called %q; used are: %s", name, strings.Join(used, ", "))}
}

// Revoke revokes a stored certificate. That it is wanted is recorded before the CA is asked, so that the CA is asked again
// when it does not do so, and whatever it answers the active certificate is replaced, after a key compromise with a new key.
func (d *Daemon) Revoke(ctx context.Context, r control.RevokeRequest) (control.Revocation, error) {
	reason, err := issuer.ParseReason(cmp.Or(r.Reason, "unspecified"))
	if err != nil {
		return control.Revocation{}, &control.Error{Code: control.CodeUsage, Message: err.Error()}
	}
	version, bundle, err := d.revocable(r)
	if err != nil {
		return control.Revocation{}, err
	}
	exposed := reason == issuer.KeyCompromise
	whole := context.WithoutCancel(ctx) // also for an operator who does not wait
	err = d.engine.BeginRevocation(whole, r.Certificate, version, cmp.Or(r.Reason, "unspecified"), r.Keep && !exposed)
	if err == nil && exposed {
		err = d.engine.MarkCompromised(whole, r.Certificate, bundle)
	}
	if err != nil {
		return control.Revocation{}, err
	}
	out := control.Revocation{Version: control.Version, StoredAs: version, Serial: bundle.Serial()}
	err = d.revoke(ctx, bundle, reason, r.ByKey)
	if endErr := d.engine.EndRevocation(whole, r.Certificate, version, err); endErr != nil {
		err = errors.Join(err, endErr)
	}
	if err == nil && exposed {
		err = d.store.Prune(r.Certificate, math.MaxInt) // only what is compromised
	}
	if err != nil {
		out.Error, out.Code = err.Error(), advice.Of(err)
	}
	out.Replacement, err = d.replace(ctx, r, version, bundle)
	return out, err
}

// revocable finds the stored version that a request is about.
func (d *Daemon) revocable(r control.RevokeRequest) (version string, b *certs.Bundle, err error) {
	have, err := d.lineage(r.Certificate)
	if err != nil {
		return "", nil, err
	}
	version = cmp.Or(r.StoredAs, have.Version)
	if version == "" {
		return "", nil, &control.Error{Code: control.CodeUnknown, Message: fmt.Sprintf("there is no certificate %q yet", r.Certificate)}
	}
	if b, err = d.store.Bundle(r.Certificate, version); err != nil {
		return "", nil, &control.Error{Code: control.CodeUnknown, Message: err.Error()}
	}
	return version, b, nil
}

// replace orders a new version if the active one was revoked, with a new key if others may know its key.
func (d *Daemon) replace(ctx context.Context, r control.RevokeRequest, version string, revoked *certs.Bundle) (*control.Result, error) {
	have, err := d.store.Load(r.Certificate)
	if err != nil {
		return nil, err
	}
	exposed := slices.Contains(have.State.Compromised, have.Version) ||
		r.Reason == "keyCompromise" && (have.Current == nil || have.Current.SharesKey(revoked))
	if !exposed && (r.Keep || have.Version != version) {
		return nil, nil //nolint:nilnil // nothing to replace
	}
	result := resultOf(d.work(ctx, r.Certificate, renewal.Options{Force: true, NewKey: exposed}, nil))
	return &result, nil
}

// revoke revokes the leaf, and the twin of a dual unit. Without byKey the account signs; when the CA does not take that,
// for example because another account ordered the certificate, the certificate's own key does.
func (d *Daemon) revoke(ctx context.Context, b *certs.Bundle, reason issuer.Reason, byKey bool) error {
	i, err := d.issuer(b.Issuer)
	if err != nil {
		return err
	}
	return revoke(ctx, i, b, reason, byKey)
}

// revoker returns what revokes for jobs, with the issuers of one configuration.
func revoker(issuers map[string]madeIssuer) func(context.Context, *certs.Bundle, string) error {
	return func(ctx context.Context, b *certs.Bundle, text string) error {
		reason, err := issuer.ParseReason(text)
		if err != nil {
			return err
		}
		i, ok := issuers[b.Issuer]
		if !ok {
			return fmt.Errorf("issuer %q, which issued it, is not in the configuration", b.Issuer)
		}
		return revoke(ctx, i, b, reason, false)
	}
}

// chains returns what asks for missing chains, with the issuers of one configuration.
func chains(issuers map[string]madeIssuer) func(context.Context, *certs.Bundle, string, string) ([][]byte, *certs.Missing, error) {
	return func(ctx context.Context, b *certs.Bundle, name, address string) ([][]byte, *certs.Missing, error) {
		i, ok := issuers[b.Issuer]
		if !ok {
			return nil, nil, fmt.Errorf("issuer %q, which issued it, is not in the configuration", b.Issuer)
		}
		return i.Chains(ctx, name, b.Leaf, address)
	}
}

func revoke(ctx context.Context, i madeIssuer, b *certs.Bundle, reason issuer.Reason, byKey bool) error {
	var errs []error
	for _, half := range []*certs.Bundle{b, b.RSA} {
		if half != nil {
			errs = append(errs, revokeOne(ctx, i, half, reason, byKey))
		}
	}
	return errors.Join(errs...)
}

func revokeOne(ctx context.Context, i madeIssuer, b *certs.Bundle, reason issuer.Reason, byKey bool) error {
	var byAccount error
	if !byKey {
		if byAccount = i.Revoke(ctx, b.Leaf, reason, nil); byAccount == nil {
			return nil
		}
	}
	if len(b.KeyPEM) == 0 {
		return errors.Join(byAccount, errors.New("acmed does not have the private key of this certificate"))
	}
	key, err := certs.ParseKey(b.KeyPEM)
	if err == nil {
		err = i.Revoke(ctx, b.Leaf, reason, key)
	}
	if err == nil {
		return nil
	}
	return errors.Join(byAccount, err)
}
