package issuer

import (
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/store"
)

// resume goes on with the stored order, if there is one that still leads to the wanted certificate: a valid one is
// downloaded, a ready one finalized with the stored key, a processing one waited for. It returns nil when there is
// nothing to go on with; the stored order is gone then.
func (j *job) resume() (*certs.Bundle, error) {
	stored, err := j.i.orders().Order(j.ctx, j.req.Spec.Name, j.slot)
	if err != nil {
		j.i.config.Log.Warn("the stored order cannot be read, placing a new one", zapCert(j.req.Spec.Name), zapError(err))
		j.drop()
		return nil, nil //nolint:nilnil // documented: nothing to go on with
	}
	if stored == nil {
		return nil, nil //nolint:nilnil // as above
	}
	o, err := j.reopen(stored)
	if err != nil {
		return nil, err
	}
	if o == nil {
		j.drop()
		return nil, nil //nolint:nilnil // as above
	}
	j.req.Tell(certs.Step{Phase: certs.PhaseOrder, Detail: j.i.config.Name + ", resumed"})
	return j.finishStored(o)
}

// finishStored is finish, except that a certificate which is of no use makes room for a new order.
func (j *job) finishStored(o *order) (*certs.Bundle, error) {
	end := j.finish
	if o.Status == acme.StatusPending {
		end = j.complete
	}
	bundle, err := end(o)
	switch {
	case len(certs.Validations(err)) > 0:
		return nil, nil //nolint:nilnil // as above; what was tried is not counted against the names
	case err == nil && (j.req.Replaces == nil || !slices.ContainsFunc(j.req.Replaces.Leaves(), bundle.Leaf.Equal)):
		return bundle, nil
	case err == nil:
		j.drop()        // it is the very certificate that is to be replaced
		return nil, nil //nolint:nilnil // documented at resume
	case o.Status == acme.StatusInvalid || isVet(err):
		j.i.config.Log.Warn("the stored order came to nothing, placing a new one", zapCert(j.req.Spec.Name), zapError(err))
		return nil, nil //nolint:nilnil // documented at resume
	}
	return nil, err
}

// reopen asks the CA about a stored order. Nil means that it is of no use.
func (j *job) reopen(stored *store.Order) (*order, error) {
	key := j.storedKey(stored)
	if key == nil || !j.wanted(stored) {
		return nil, nil //nolint:nilnil // documented
	}
	o := &order{key: key, offered: map[string][]challenges.Type{}}
	err := j.call("look at the stored order", func(core *api.Core) (err error) {
		o.ExtendedOrder, err = core.Orders.Get(stored.URL)
		return err
	})
	if p := problemOf(err); p != nil && p.status < http.StatusInternalServerError && !p.limited() && p.kind != typeAccountDoesNotExist {
		return nil, nil //nolint:nilnil // the CA does not know the order any more
	}
	if err != nil {
		return nil, err
	}
	o.Location = stored.URL
	if !j.alive(o) {
		return nil, nil //nolint:nilnil // documented
	}
	if _, o.csr, err = o.key(); err != nil {
		return nil, err
	}
	if o.Status == acme.StatusPending {
		return o, j.checkOrder(o)
	}
	return o, j.checkURLs(o)
}

// alive reports whether there is something to go on with. A pending order needs new challenges: in a fleet another node may
// have begun it a moment ago, on a single machine those are gone for long.
func (j *job) alive(o *order) bool {
	switch o.Status {
	case acme.StatusReady, acme.StatusProcessing, acme.StatusValid:
		return true
	case acme.StatusPending:
		return j.i.config.Shared != nil
	}
	return false
}

// wanted reports whether a stored order is for the certificate that is wanted now, from this account.
func (j *job) wanted(stored *store.Order) bool {
	if j.req.NewKey && j.req.Replaces != nil {
		return false
	}
	return stored.Directory == j.i.config.Directory && stored.Account == j.account.URI &&
		stored.Profile == j.req.Spec.Profile && sameSet(stored.Identifiers, j.req.Spec.Identifiers)
}

func sameSet(a, b []certs.Identifier) bool {
	if len(a) != len(b) {
		return false
	}
	return !slices.ContainsFunc(a, func(id certs.Identifier) bool { return !slices.Contains(b, id) })
}

// keySource yields private key and CSR, made at the first call.
type keySource = func() (certs.Secret, []byte, error)

// newKey is the source for a new order: the operator's CSR, the key of the replaced certificate if it is to be kept, the one
// that was made ahead, or a new key.
func (j *job) newKey() keySource {
	return once(func() (certs.Secret, []byte, error) {
		if j.csr != nil {
			return nil, j.csr.Raw, nil
		}
		key, err := j.keptKey()
		if err != nil {
			key, err = j.nextKey()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("make the private key: %w", err)
		}
		return j.encode(key)
	})
}

// storedKey is the source for a stored order, nil when its key is not of the wanted kind.
func (j *job) storedKey(stored *store.Order) keySource {
	if j.csr != nil {
		if len(stored.KeyPEM) > 0 {
			return nil
		}
		return j.newKey()
	}
	key, err := certs.ParseKey(stored.KeyPEM)
	if err != nil || certs.KeyTypeOf(key.Public()) != j.keyType {
		return nil
	}
	return once(func() (certs.Secret, []byte, error) { return j.encode(key) })
}

func (j *job) encode(key crypto.Signer) (certs.Secret, []byte, error) {
	keyPEM, err := certs.EncodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	csr, err := makeCSR(&j.req.Spec, key)
	return keyPEM, csr, err
}

// keptKey is the key of the replaced certificate, if it is to be used again.
func (j *job) keptKey() (crypto.Signer, error) {
	if !j.req.Spec.ReuseKey || j.req.NewKey || j.prior == nil {
		return nil, errors.New("no key to keep")
	}
	key, err := certs.ParseKey(j.prior.KeyPEM)
	if err == nil && certs.KeyTypeOf(key.Public()) != j.keyType {
		err = fmt.Errorf("the key to keep is not %s", j.keyType)
	}
	return key, err
}

// nextKey is the key that was made ahead, else a new one.
func (j *job) nextKey() (crypto.Signer, error) {
	if next, ok := certs.PickKey(j.req.Next, j.keyType); ok {
		return certs.ParseKey(next.KeyPEM)
	}
	return certs.NewKey(j.keyType)
}

// once makes a source that does its work at the first call only.
func once(source keySource) keySource {
	type result struct {
		key certs.Secret
		csr []byte
	}
	first := sync.OnceValues(func() (result, error) {
		key, csr, err := source()
		return result{key, csr}, err
	})
	return func() (certs.Secret, []byte, error) {
		r, err := first()
		return r.key, r.csr, err
	}
}

func isVet(err error) bool {
	var vetErr *certs.VetError
	return errors.As(err, &vetErr)
}
