package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/store"
)

// order is one order at the CA and what became of its authorizations.
type order struct {
	acme.ExtendedOrder
	key keySource
	csr []byte

	mu          sync.Mutex         // guards the fields below
	claimed     []certs.Identifier // those that have an authorization
	offered     map[string][]challenges.Type
	pending     []*authorization // presented to the CA, outcome unknown
	validations []certs.Validation
}

// newOrder places the order (RFC 8555 section 7.4), telling which certificate it replaces (RFC 9773 section 5).
func (j *job) newOrder() (*order, error) {
	if err := j.i.orders().Hold(j.ctx, j.req.Spec.Name); err != nil {
		return nil, err
	}
	if err := j.i.takeOrder(j.ctx); err != nil {
		return nil, err
	}
	j.req.Tell(certs.Step{Phase: certs.PhaseOrder, Detail: j.i.config.Name})
	from, until := j.validity()
	options := &api.OrderOptions{Profile: j.req.Spec.Profile, NotBefore: from, NotAfter: until, ReplacesCertID: j.replaces()}
	o := &order{offered: map[string][]challenges.Type{}}
	place := func(core *api.Core) (err error) {
		o.ExtendedOrder, err = core.Orders.NewWithOptions(j.req.Spec.Names(), options)
		return err
	}
	err := j.call("place the order", place)
	if options.ReplacesCertID != "" && replacesRefused(err) {
		options.ReplacesCertID = ""
		err = j.call("place the order", place)
	}
	if err != nil {
		return nil, j.inTime(err)
	}
	return o, j.checkOrder(o)
}

// inTime keeps a pause that the CA asked for from outlasting the certificate that is to be replaced: no pause is longer than
// half of what remains of it.
func (j *job) inTime(err error) error {
	var limit *certs.RateLimitError
	if j.prior == nil || !errors.As(err, &limit) {
		return err
	}
	now := j.i.now()
	remains := j.prior.Leaf.NotAfter.Sub(now)
	if last := now.Add(max(minPause, remains/2)); remains > 0 && limit.At.After(last) {
		limit.At = last
	}
	return err
}

// replacesRefused reports whether the CA took offence at the replaced certificate: it was replaced already, another account
// had ordered it, which was closed since then or given up for a recovered one, or this CA, restored from a backup or
// confused, does not know it, or fails over it. That must not stop a renewal.
func replacesRefused(err error) bool {
	p := problemOf(err)
	return p != nil && (p.kind == typeAlreadyReplaced || p.kind == typeMalformed || p.kind == typeUnauthorized ||
		p.status == http.StatusNotFound || p.status == http.StatusInternalServerError)
}

// checkOrder refuses orders with more authorizations than names. That the identifiers are ours was checked by Core.
func (j *job) checkOrder(o *order) error {
	n := len(o.Authorizations)
	switch {
	case n > len(j.req.Spec.Identifiers):
		return j.suspicious("the order for %s has %d authorizations", text.Count(len(j.req.Spec.Identifiers), "name"), n)
	case n == 0 && o.Status == acme.StatusPending:
		return j.suspicious("the pending order has no authorizations")
	}
	return j.checkURLs(o)
}

// checkURLs refuses an order that leads elsewhere. The transport would refuse to go there too; this is before anything of
// the order is stored.
func (j *job) checkURLs(o *order) error {
	for _, address := range append([]string{o.Location, o.Finalize}, o.Authorizations...) {
		if err := j.i.transport.allowedText(address); err != nil {
			return j.i.unavailable(err)
		}
	}
	return nil
}

// suspicious is an answer that no honest CA gives.
func (c *client) suspicious(format string, args ...any) error {
	return c.i.unavailable(refuse(format, args...))
}

// complete proves the names, finalizes and downloads. The private key is made and stored with the order's URL while the CA
// validates, and always before finalize; the answers to the challenges are taken away while the CA issues.
func (j *job) complete(o *order) (*certs.Bundle, error) {
	stored := make(chan error, 1)
	go func() {
		var err error
		defer func() { stored <- err }()
		defer j.caught("the stored order", &err)
		err = j.store(o)
	}()
	answers := &presented{job: j}
	proveErr := j.prove(o, answers)
	storeErr := <-stored
	j.i.flushUsage()
	switch {
	case proveErr != nil && j.ctx.Err() != nil:
		j.drop()
		answers.takeAway(o.pending)
	case len(certs.Validations(proveErr)) > 0:
		j.drop()
		answers.takeAway(nil)
	default: // after any other error the order may become ready yet
		answers.takeAway(nil)
	}
	defer answers.wait()
	if proveErr != nil || storeErr != nil {
		return nil, errors.Join(proveErr, storeErr)
	}
	return j.finish(o)
}

// store makes key and CSR and stores the order.
func (j *job) store(o *order) error {
	keyPEM, csr, err := o.key()
	if err != nil {
		return err
	}
	o.csr = csr
	err = j.i.orders().SaveOrder(j.ctx, j.req.Spec.Name, j.slot, &store.Order{
		URL: o.Location, Directory: j.i.config.Directory, Account: j.account.URI, KeyPEM: keyPEM,
		Identifiers: j.req.Spec.Identifiers, Profile: j.req.Spec.Profile, Created: j.i.now(),
	})
	if err != nil {
		return fmt.Errorf("store the order: %w", err)
	}
	return nil
}

// dropPatience is how long a fleet's store may take to forget an order.
const dropPatience = 5 * time.Second

// drop forgets the stored order. Failing to is harmless: the next run asks the CA about it and drops it then.
func (j *job) drop() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.ctx), dropPatience)
	defer cancel()
	if err := j.i.orders().DropOrder(ctx, j.req.Spec.Name, j.slot); err != nil {
		j.i.config.Log.Warn("a finished order could not be removed", zapCert(j.req.Spec.Name), zapError(err))
	}
}

// finish takes an order whose authorizations are valid to its certificate.
func (j *job) finish(o *order) (*certs.Bundle, error) {
	j.req.Tell(certs.Step{Phase: certs.PhaseFinalize})
	if err := j.finalize(o); err != nil {
		return nil, err
	}
	bundle, err := j.download(o)
	var vetErr *certs.VetError
	if errors.As(err, &vetErr) {
		j.drop()
	}
	return bundle, err
}

// maxFinalize bounds how often an order that stays ready is finalized.
const maxFinalize = 3

// finalize follows the order from whatever state it is in until it is valid. A finalize request whose answer was lost is
// not sent again blindly: the order says what became of it.
func (j *job) finalize(o *order) error {
	poller := j.i.polling.beginSigning(j.i.now())
	for sent := 0; ; {
		var err error
		switch o.Status {
		case acme.StatusValid:
			return nil
		case acme.StatusInvalid:
			j.drop()
			return j.orderFailed(o)
		case acme.StatusReady:
			if sent == maxFinalize {
				return j.i.unavailable(fmt.Errorf("the order is still ready after %d finalize requests", sent))
			}
			sent++
			if err = j.sendCSR(o); err == nil {
				continue
			}
			if p := problemOf(err); p != nil && !temporary(err) && p.kind != typeOrderNotReady || j.ctx.Err() != nil {
				return err
			}
		}
		if err := j.look(o, poller); err != nil {
			return err
		}
	}
}

func (j *job) sendCSR(o *order) error {
	if err := j.i.orders().Hold(j.ctx, j.req.Spec.Name); err != nil {
		return err
	}
	return j.once("finalize the order", func(core *api.Core) error {
		got, err := core.Orders.UpdateForCSR(o.Finalize, o.csr)
		if err == nil {
			o.update(got.Order)
		}
		return err
	})
}

// look waits and then asks for the state of the order.
func (j *job) look(o *order, p *poller) error {
	header := ""
	if values := j.header(o.Location, "Retry-After"); len(values) > 0 {
		header = values[0]
	}
	if err := sleep(j.ctx, p.next(header, j.i.now())); err != nil {
		return j.i.ended(j.ctx)
	}
	return j.call("look at the order", func(core *api.Core) error {
		got, err := core.Orders.Get(o.Location)
		if err == nil {
			o.update(got.Order)
		}
		return err
	})
}

// update takes over what changes in an order and keeps the URLs that were checked.
func (o *order) update(got acme.Order) {
	o.Status, o.Error, o.Certificate = got.Status, got.Error, got.Certificate
}

// orderFailed is the CA's reason for an invalid order.
func (j *job) orderFailed(o *order) error {
	return j.explain(fmt.Errorf("the CA gave the order up: %w", fromDetails(o.Error)))
}
