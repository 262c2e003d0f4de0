package endpoint

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Polling starts fast, because most servers answer with the new certificate within milliseconds of a reload, and slows
// down to spare one that takes seconds.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = time.Second
)

const (
	// patience is how long an endpoint must fail without a break before it counts as failing. Old and new workers of a
	// server answer side by side for some seconds after a reload, longer on a busy machine.
	patience = 5 * time.Second
	// steady is how long an endpoint that gave both answers must give the right one before it is believed.
	steady = 500 * time.Millisecond
	// latestAgreement bounds how long an endpoint may go on giving both answers.
	latestAgreement = 10 * time.Second
)

// shortestLook is what one look at one address gets however little of the time is left, so that the last look of a
// verification is a fair one.
const shortestLook = time.Second

// parallelProbes bounds the connections that one verification keeps open at once.
const parallelProbes = 16

// Verify returns nil when every address of every endpoint serves b's leaf steadily. It is the one mechanism for every look
// after an installation, the later ones included:
//
//   - Right answers alone are enough: two after an installation, for which wait is set, or after a wrong one; one later. No
//     pause is made for them.
//   - An address fails when it fails steadily: at every look until wait is over, and for no less than five seconds where
//     the right answer was seen before. Without wait it is five seconds. An address that accepts and does not answer holds up
//     the verification for no more than what is left of that, or a second if that is longer.
//   - An address that gives both answers is asked until one of them lasts. If none does, and nothing else is wrong, the error is
//     a [*installers.LaterError]: the certificate is in use, and so is another.
//
// For a dual unit each address must serve both leaves, unless it speaks TLS 1.3 only, where a client cannot choose. The error
// joins one line for each address that is still wrong, and says what it serves instead.
func Verify(ctx context.Context, endpoints []Endpoint, b *certs.Bundle, wait time.Duration) error {
	return verify(ctx, endpoints, b, wait, nil)
}

func verify(ctx context.Context, endpoints []Endpoint, b *certs.Bundle, wait time.Duration, before *Before) error {
	v := &verification{bundle: b, before: before, agreeing: 2, slots: make(chan struct{}, parallelProbes)}
	if wait <= 0 {
		v.agreeing, wait = 1, patience
	}
	v.deadline = time.Now().Add(wait)
	err := v.all(ctx, endpoints, v.watch)
	if locked := (*LockedOutError)(nil); !errors.As(err, &locked) {
		err = advice.Tag(advice.NotServed, err)
	}
	if err != nil && !v.failed.Load() {
		return &installers.LaterError{Err: err}
	}
	return err
}

// Look looks once at every address. Its error says nothing about the next look: it is for deciding whether there is
// anything to do, not for judging a server. Use [Verify] for that.
func Look(ctx context.Context, endpoints []Endpoint, b *certs.Bundle) error {
	v := &verification{bundle: b, once: true, slots: make(chan struct{}, parallelProbes)}
	return advice.Tag(advice.NotServed, v.all(ctx, endpoints, v.look))
}

// verification is one call of Verify or Look.
type verification struct {
	bundle   *certs.Bundle
	before   *Before // may be nil
	once     bool
	agreeing int           // right answers in a row that are enough where no wrong one came between
	deadline time.Time     // an address that never served the bundle has failed then; not used for once
	slots    chan struct{} // holds a token for each connection
	failed   atomic.Bool   // there is an error that is more than an address with two answers
}

// all does the same for each address of all endpoints in parallel and joins the errors in their order.
func (v *verification) all(ctx context.Context, endpoints []Endpoint, each func(context.Context, Endpoint) error) error {
	return parallel(endpoints, func(e Endpoint) error {
		addresses, err := v.resolve(ctx, e)
		if err != nil {
			return err
		}
		return parallel(addresses, func(one Endpoint) error { return each(ctx, one) })
	})
}

func parallel(list []Endpoint, each func(Endpoint) error) error {
	errs := make([]error, len(list))
	var wg guard.Group
	for i, e := range list {
		wg.Go(func() { errs[i] = each(e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// resolve tries until the deadline.
func (v *verification) resolve(ctx context.Context, e Endpoint) ([]Endpoint, error) {
	for delay := firstPoll; ; delay = slower(delay) {
		list, err := e.resolve(ctx)
		if err == nil {
			return list, nil
		}
		if v.once || !time.Now().Before(v.deadline) || !pause(ctx, min(delay, time.Until(v.deadline))) {
			v.failed.Store(true)
			return nil, errors.Join(context.Cause(ctx), err)
		}
	}
}

// look looks once at one address. A verification that looks only once gives it the full time of a handshake.
func (v *verification) look(ctx context.Context, e Endpoint) error {
	v.slots <- struct{}{}
	defer func() { <-v.slots }()
	if !v.once {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(time.Until(v.deadline), shortestLook))
		defer cancel()
	}
	return look(ctx, e, v.bundle)
}

// watch looks at one address until its answers agree.
func (v *verification) watch(ctx context.Context, e Endpoint) error {
	seen := answers{refused: time.Now()}
	for delay := firstPoll; ; delay = slower(delay) {
		err := v.look(ctx, e)
		now := time.Now()
		if seen.add(err, now) {
			delay = firstPoll
		}
		if locked := v.before.locked(e, seen.refuses(now, v.deadline), v.bundle, err); locked != nil {
			v.failed.Store(true)
			return locked
		}
		switch {
		case seen.serves(v.agreeing, now):
			return nil
		case ctx.Err() != nil, err != nil && seen.fails(now, v.deadline):
			v.failed.Store(true)
			return errors.Join(context.Cause(ctx), err)
		case now.After(v.deadline.Add(latestAgreement)):
			return fmt.Errorf("%s serves the certificate in %d of %d handshakes; another process still answers on this port",
				e, seen.good, seen.looks)
		case err == nil && !seen.both:
			delay = 0
		}
		pause(ctx, min(delay, max(time.Until(v.deadline), firstPoll)))
	}
}

// answers is what one address answered so far.
type answers struct {
	looks, good int
	both        bool      // a wrong answer came after a right one
	row         int       // right answers since the last wrong one
	since       time.Time // of the first of them
	lastGood    time.Time
	last        error
	refused     time.Time // since when every answer is a refusal
}

// add reports whether the answer differs from the one before.
func (a *answers) add(err error, now time.Time) (turned bool) {
	a.last = err
	if !Refused(err) {
		a.refused = now
	}
	good, before := err == nil, a.row > 0
	turned = a.looks > 0 && before != good
	a.looks++
	if !good {
		a.both = a.both || a.good > 0
		a.row = 0
		return turned
	}
	if a.row == 0 {
		a.since = now
	}
	a.good++
	a.row++
	a.lastGood = now
	return turned
}

func (a *answers) serves(agreeing int, now time.Time) bool {
	if a.good < a.looks {
		agreeing = 2
	}
	return a.row >= agreeing && (!a.both || now.Sub(a.since) >= steady)
}

func (a *answers) refuses(now, deadline time.Time) bool {
	return now.Sub(a.refused) >= refusing || Refused(a.last) && !now.Before(deadline)
}

func (a *answers) fails(now, deadline time.Time) bool {
	return !now.Before(deadline) && (a.good == 0 || now.Sub(a.lastGood) >= patience)
}

func slower(delay time.Duration) time.Duration { return min(max(delay, firstPoll)*3/2, lastPoll) }

// pause reports whether the time passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// look is one look at one address.
func look(ctx context.Context, e Endpoint, b *certs.Bundle) error {
	if b.RSA == nil {
		chain, err := Handshake(ctx, e)
		if err != nil {
			return err
		}
		return compare(e, chain, b.Leaf)
	}
	ecdsa, rsa := verifySuites(ctx, e, b.Leaf, ecdsaSuites()), verifySuites(ctx, e, b.RSA.Leaf, rsaSuites())
	if rsa == nil && Refused(ecdsa) {
		return nil // the server's cipher list has suites for RSA keys alone, with which every client before TLS 1.3 is served
	}
	err := errors.Join(ecdsa, rsa)
	if !tls13Only(err) {
		return err
	}
	chain, err := handshake(ctx, e, nil)
	if err != nil {
		return err
	}
	return compare(e, chain, b.Leaves()...)
}

func verifySuites(ctx context.Context, e Endpoint, want *x509.Certificate, suites []uint16) error {
	chain, err := handshake(ctx, e, suites)
	if err != nil {
		return err
	}
	return compare(e, chain, want)
}

// maxIssuer bounds how much of a name of the other side an error shows.
const maxIssuer = 200

// compare says who answered what when the leaf is none of the wanted ones. The error is a [*installers.NewerError] if it is newer.
func compare(e Endpoint, chain []*x509.Certificate, want ...*x509.Certificate) error {
	if len(chain) == 0 {
		return fmt.Errorf("%s presents no certificate", e)
	}
	serials := make([]string, len(want))
	for i, w := range want {
		if chain[0].Equal(w) {
			return nil
		}
		serials[i] = w.SerialNumber.Text(16)
	}
	got := chain[0]
	err := fmt.Errorf("%s serves serial %s from \"%s\" until %s, expected serial %s", e, got.SerialNumber.Text(16),
		text.Tail(got.Issuer.String(), maxIssuer), got.NotAfter.UTC().Format(time.RFC3339), strings.Join(serials, " or "))
	return MarkNewer(err, got, want...)
}
