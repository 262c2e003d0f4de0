package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/store"
)

// maxNames is the most identifiers that public CAs take in one certificate.
const maxNames = 100

// Obtain orders one certificate and returns it vetted. A stored order of the same certificate is taken up first. The
// order stays stored until the caller has stored the bundle.
//
// Errors are [*certs.RateLimitError], [*certs.UnavailableError], [*certs.PermanentError], [*certs.VetError], or
// [*certs.ValidationError] for each name that no solver could prove, joined. When ctx is cancelled, Obtain returns within a
// second with ctx's cause; taking away the answers to challenges goes on in the background, see [Issuer.Close].
func (i *Issuer) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	ladder, err := i.checkRequest(&req.Spec)
	if err != nil {
		return nil, err
	}
	timeout := i.unavailable(fmt.Errorf("the order was not complete after %s", i.config.OrderTimeout))
	ctx, cancel := context.WithTimeoutCause(ctx, i.config.OrderTimeout, timeout)
	defer cancel()
	req.Progress = inTurn(req.Progress)
	op := &operation{subject: req.Spec.Name, asked: req.Asked, begun: i.now()}
	if req.Replaces != nil {
		op.expires = req.Replaces.Leaf.NotAfter
	}
	ctx, end, err := i.begin(ctx, i.way().orders, op)
	if err != nil {
		return nil, err
	}
	defer end()
	for n := 1; ; n++ {
		account, err := i.registered(ctx)
		if err != nil {
			i.pauseAccount(err)
			if errors.As(err, new(*certs.PermanentError)) {
				err = &certs.AccountError{Err: err}
			}
			return nil, err
		}
		bundle, err := i.obtainUnit(ctx, newAttempt(&req, ladder), &account)
		i.pauseAccount(err)
		if err == nil || n == maxAccounts || ctx.Err() != nil {
			return bundle, err
		}
		switch again, accountErr := i.anotherAccount(ctx, &account, err); {
		case accountErr != nil:
			return nil, accountErr
		case !again:
			return nil, err
		}
	}
}

// maxAccounts is how often an order is begun because the account was another one, or had another key, at its end.
const maxAccounts = 3

// anotherAccount reports whether the account, and nothing else, made an order fail, and is another one by now: its key was
// replaced while the order was under way, or the CA does not know it any more.
func (i *Issuer) anotherAccount(ctx context.Context, used *store.Account, err error) (bool, error) {
	if i.replaced(used) {
		return true, nil
	}
	if !blamesAccount(err) {
		return false, nil
	}
	return i.reregister(ctx, used.URI)
}

// replaced reports whether an account has another key or URI by now.
func (i *Issuer) replaced(used *store.Account) bool {
	now, err := i.load()
	return err == nil && now != nil && now.URI != "" && (now.URI != used.URI || !certs.SameKey(now.Key.Public(), used.Key.Public()))
}

// blamesAccount reports whether the CA may have refused the account rather than the order. Failed names have the problem
// type unauthorized as well.
func blamesAccount(err error) bool {
	return len(certs.Validations(err)) == 0 &&
		(isKind(err, typeAccountDoesNotExist) || isKind(err, typeUnauthorized) || isKind(err, typeMalformed) || failsAtOrder(err))
}

// failsAtOrder reports whether the CA failed over a new order, as some do over an account that they do not know.
func failsAtOrder(err error) bool {
	p := problemOf(err)
	return p != nil && p.newOrder && p.status == http.StatusInternalServerError
}

// inTurn makes progress safe to call from all the goroutines of an order.
func inTurn(progress func(certs.Step)) func(certs.Step) {
	if progress == nil {
		return nil
	}
	var mu sync.Mutex
	return func(s certs.Step) {
		mu.Lock()
		defer mu.Unlock()
		progress(s)
	}
}

// obtainUnit obtains the certificate, and its RSA twin if the unit is dual. They are ordered one after the other, so that
// the CA can use the authorizations of the first for the second.
func (i *Issuer) obtainUnit(ctx context.Context, shared *attempt, account *store.Account) (*certs.Bundle, error) {
	var unit *certs.Bundle
	for n, keyType := range keyTypes(&shared.req.Spec) {
		j, err := i.newJob(ctx, shared, account, keyType)
		if err != nil {
			return nil, err
		}
		bundle, err := j.run()
		if err != nil {
			return nil, err
		}
		if n == 0 {
			unit = bundle
			continue
		}
		unit.RSA = bundle
	}
	return unit, nil
}

// keyTypes lists the key types to order, an EC key first.
func keyTypes(spec *certs.Spec) []certs.KeyType {
	if len(spec.KeyTypes) == 0 {
		return []certs.KeyType{certs.EC256}
	}
	types := slices.Clone(spec.KeyTypes)
	slices.SortStableFunc(types, func(a, b certs.KeyType) int {
		switch {
		case a.IsRSA() == b.IsRSA():
			return 0
		case a.IsRSA():
			return 1
		}
		return -1
	})
	return types
}

// checkRequest refuses, before any request is made, what no answer of the CA could make right.
func (i *Issuer) checkRequest(spec *certs.Spec) (challenges.Ladder, error) {
	ladder, err := i.ladder(spec.Solvers)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkUnit(spec), i.checkNames(spec, ladder)); err != nil {
		return nil, &certs.PermanentError{Err: err}
	}
	return ladder, nil
}

func checkUnit(spec *certs.Spec) error {
	types := keyTypes(spec)
	for _, t := range types {
		if !slices.Contains(certs.KeyTypes(), t) {
			return fmt.Errorf("unknown key type %q", t)
		}
	}
	switch {
	case len(types) > 2, len(types) == 2 && types[0].IsRSA() == types[1].IsRSA():
		return fmt.Errorf("key types %q: a dual unit has one EC and one RSA key", types)
	case spec.CSR == nil:
		return nil
	case len(types) > 1:
		return errors.New("a CSR has one key, so the certificate cannot be dual")
	}
	_, err := checkCSR(spec)
	return err
}

func (i *Issuer) checkNames(spec *certs.Spec, ladder challenges.Ladder) error {
	if n := len(spec.Identifiers); n == 0 || n > maxNames {
		return fmt.Errorf("%s, a certificate has 1 to %d; split it", text.Count(n, "name"), maxNames)
	}
	var errs []error
	for n, id := range spec.Identifiers {
		if slices.Contains(spec.Identifiers[:n], id) {
			errs = append(errs, fmt.Errorf("%s is listed twice", id))
		}
		if !i.config.Private {
			errs = append(errs, certs.CheckPublic(id))
		}
		if _, ok := ladder.Pick(id, []challenges.Type{challenges.HTTP01, challenges.DNS01, challenges.TLSALPN01, challenges.DNSAccount01, challenges.DNSPersist01}, nil, ""); !ok {
			errs = append(errs, fmt.Errorf("none of the solvers %q can validate %s", spec.Solvers, id))
		}
	}
	return errors.Join(errs...)
}

// job is one certificate of one key type on its way.
type job struct {
	*client
	*attempt
	account *store.Account
	thumb   string // of the account key
	keyType certs.KeyType
	slot    string
	csr     *x509.CertificateRequest // the operator's own, nil: acmed makes key and request
	prior   *certs.Bundle            // the one that is replaced, nil: none
}

func (i *Issuer) newJob(ctx context.Context, shared *attempt, account *store.Account, keyType certs.KeyType) (*job, error) {
	c, err := i.accountClient(ctx, account)
	if err != nil {
		return nil, err
	}
	req := shared.req
	if err := c.checkDirectory(func() error { return c.dir.checkProfile(req.Spec.Profile) }); err != nil {
		return nil, err
	}
	thumb, err := Thumbprint(account.Key.Public())
	if err != nil {
		return nil, err
	}
	j := &job{client: c, attempt: shared, account: account, thumb: thumb, keyType: keyType, slot: store.SlotEC}
	if keyType.IsRSA() {
		j.slot = store.SlotRSA
	}
	if req.Spec.CSR != nil {
		if j.csr, err = checkCSR(&req.Spec); err != nil {
			return nil, &certs.PermanentError{Err: err}
		}
	}
	j.prior = priorOf(req.Replaces, keyType, j.csr != nil)
	return j, nil
}

// priorOf picks the certificate of the replaced unit that has the same kind of key.
func priorOf(unit *certs.Bundle, keyType certs.KeyType, csr bool) *certs.Bundle {
	switch {
	case unit == nil || csr:
		return unit
	case unit.RSA != nil && keyType.IsRSA():
		return unit.RSA
	}
	return unit
}

// run takes up the stored order, or places a new one. When names fail, it orders again with the next solver for each of
// them, until a name has no rung left and within the budget of each name: a failed authorization is dead, but CAs
// keep the valid ones.
func (j *job) run() (*certs.Bundle, error) {
	bundle, err := j.resume()
	if bundle != nil || err != nil {
		return bundle, err
	}
	key := j.newKey()
	var failed []error
	for range len(j.ladder) * len(j.req.Spec.Identifiers) { // each turn uses up a rung of a name
		o, err := j.nextOrder()
		if err != nil {
			return nil, errors.Join(append(failed, err)...)
		}
		o.key = key
		bundle, err := j.complete(o)
		if err == nil {
			return bundle, nil
		}
		invalid := certs.Validations(err)
		if len(invalid) == 0 || j.i.replaced(j.account) { // a new key makes answers wrong that were right
			return nil, errors.Join(append(failed, err)...)
		}
		failed = append(failed, err)
		if !j.another(o, invalid) {
			failed = append(failed, j.foretold(invalid))
			break
		}
	}
	return nil, errors.Join(failed...)
}

// nextOrder places an order, unless a name failed too often or is expected to fail.
func (j *job) nextOrder() (*order, error) {
	if err := j.withinBudget(j.i.now()); err != nil {
		return nil, err
	}
	if err := j.preflight(); err != nil {
		return nil, err
	}
	return j.newOrder()
}

// another notes the failed solvers and reports whether the ladder has a next one for every failed name. There is none for a
// name whose CAA records forbid the CA: every solver would fail.
func (j *job) another(o *order, invalid []*certs.ValidationError) bool {
	for _, v := range invalid {
		if !v.Local {
			j.noteFailure(v, j.i.now())
		}
	}
	for _, v := range invalid {
		if v.Problem == typeCAA {
			return false
		}
		if _, ok := j.pick(v.Identifier, o.offered[v.Identifier.Value]); !ok {
			return false
		}
	}
	return true
}

// validity is the time to ask for, from now on; zero times ask for none (RFC 8555 section 7.4).
func (j *job) validity() (notBefore, notAfter time.Time) {
	if j.req.Spec.Lifetime == 0 {
		return time.Time{}, time.Time{}
	}
	notBefore = j.i.now().UTC().Truncate(time.Second)
	return notBefore, notBefore.Add(j.req.Spec.Lifetime)
}
