package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

// authorization is one that was handed to the CA for validation.
type authorization struct {
	url    string
	id     certs.Identifier
	solver string
	typ    challenges.Type
	reason string // why this solver
}

// stillValid is the reason when the CA asked for no proof.
const stillValid = "validated by an earlier order"

// doubtAfter is how long an order may stay pending until its authorizations are asked: some CAs keep an order pending
// although an authorization failed.
const doubtAfter = 15 * time.Second

// prove gets the order's authorizations valid: all names are presented and handed to the CA at the same time, then only
// the order is looked at. What is answered in the DNS is handed over when all answers are there, because names may share a
// record, as a wildcard and its apex do, and the CA's resolver may remember what it saw first. The error has a
// [*certs.ValidationError] for each name that failed.
func (j *job) prove(o *order, answers *presented) error {
	if o.Status != acme.StatusPending {
		return nil
	}
	err := j.authorizeAll(o, answers)
	switch {
	case len(certs.Validations(err)) > 0:
		return j.verdicts(o, err)
	case err != nil:
		return err
	}
	return j.awaitReady(o)
}

// authorizeAll hands every authorization to the CA. When the CA itself fails, the presentations under way are cut short;
// a name that fails stops no other, so that one run tells about all of them.
func (j *job) authorizeAll(o *order, answers *presented) error {
	ctx, cancel := context.WithCancel(j.ctx)
	defer cancel()
	errs := make([]error, len(o.Authorizations))
	var all guard.Group
	var presenting sync.WaitGroup
	presenting.Add(len(o.Authorizations))
	for n, url := range o.Authorizations {
		all.Go(func() {
			errs[n] = j.authorize(ctx, o, url, answers, &presenting)
			if errs[n] != nil && len(certs.Validations(errs[n])) == 0 {
				cancel()
			}
		})
	}
	all.Wait()
	return j.joinHard(errs)
}

// joinHard joins what became of several requests. When some errors are not about a name, it gives only those, without the
// ones that merely report the stop.
func (c *client) joinHard(errs []error) error {
	if err := c.i.ended(c.ctx); err != nil && errors.Join(errs...) != nil {
		return err
	}
	var hard []error
	for _, err := range errs {
		if err != nil && len(certs.Validations(err)) == 0 && !errors.Is(err, errStopped) {
			hard = append(hard, err)
		}
	}
	switch len(hard) {
	case 0:
		return errors.Join(errs...)
	case 1:
		return hard[0]
	}
	return fmt.Errorf("%w (and %d more errors)", hard[0], len(hard)-1) // usually the same one for every name
}

// errStopped marks a name that was not tried to the end because another one hit a wall.
var errStopped = errors.New("stopped")

// authorize takes one authorization up to the CA's validation. It is presenting until then, whatever happens.
func (j *job) authorize(ctx context.Context, o *order, url string, answers *presented, presenting *sync.WaitGroup) (err error) {
	defer j.caught("an authorization", &err)
	a, challenge, err := func() (*authorization, *acme.Challenge, error) {
		defer presenting.Done()
		return j.answer(ctx, o, url, answers)
	}()
	if a == nil || err != nil {
		return err
	}
	if a.typ.DNS() {
		presenting.Wait()
	}
	return j.handOver(ctx, o, a, challenge)
}

// answer presents the answer to one authorization. It returns nil without an error for one that is valid already.
func (j *job) answer(ctx context.Context, o *order, url string, answers *presented) (*authorization, *acme.Challenge, error) {
	got, err := j.readAuthorization(url)
	if err != nil {
		return nil, nil, err
	}
	id, err := j.belongs(o, &got)
	if err != nil {
		return nil, nil, err
	}
	switch got.Status {
	case acme.StatusValid:
		o.proved(certs.Validation{Identifier: id.Value, Reason: stillValid})
		return nil, nil, nil
	case acme.StatusPending:
	default:
		return nil, nil, j.suspicious("the new authorization for %s is %q", id, text.Cut(got.Status, 40))
	}
	offered := offeredTypes(got.Challenges)
	o.mu.Lock()
	o.offered[id.Value] = offered
	o.mu.Unlock()
	rung, challenge, err := j.present(ctx, id, &got, offered, answers)
	if err != nil {
		return nil, nil, err
	}
	return &authorization{url: url, id: id, solver: rung.Name, typ: rung.Solver.Type(), reason: j.why(id, rung)}, challenge, nil
}

// belongs finds the identifier of the order that an authorization is for. CAs write a wildcard as its base with the flag of RFC
// 8555 section 7.1.4, and some with the star or without the flag; without it, the name itself comes first.
func (j *job) belongs(o *order, got *acme.Authorization) (certs.Identifier, error) {
	base, star := strings.CutPrefix(got.Identifier.Value, "*.")
	values := []string{base, "*." + base}
	if star || got.Wildcard {
		values = values[1:]
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, value := range values {
		id := certs.Identifier{Type: certs.IdentifierType(got.Identifier.Type), Value: value}
		if slices.Contains(j.req.Spec.Identifiers, id) && !slices.Contains(o.claimed, id) {
			o.claimed = append(o.claimed, id)
			return id, nil
		}
	}
	return certs.Identifier{}, j.suspicious("the order has an authorization for %q, which was not ordered", text.Short(values[0], 260))
}

func offeredTypes(list []acme.Challenge) []challenges.Type {
	var types []challenges.Type
	for _, c := range list {
		types = append(types, challenges.Type(c.Type))
	}
	return types
}

// present has the first fit solver answer the challenge. A solver that cannot present is passed over for the next one
// within the same authorization, since the CA has not looked yet.
func (j *job) present(ctx context.Context, id certs.Identifier, got *acme.Authorization, offered []challenges.Type,
	answers *presented) (challenges.Rung, *acme.Challenge, error) {
	var failed []error
	for {
		rung, ok := j.pick(id, offered)
		if !ok {
			return rung, nil, j.nothingFits(id, offered, failed)
		}
		n := slices.IndexFunc(got.Challenges, func(c acme.Challenge) bool { return challenges.Type(c.Type) == rung.Solver.Type() })
		challenge := &got.Challenges[n]
		if err := challenges.CheckToken(challenge.Token); err != nil && rung.Solver.Type() != challenges.DNSPersist01 {
			return rung, nil, j.i.unavailable(&refusal{text: err.Error()})
		}
		j.req.Tell(certs.Step{Phase: certs.PhaseValidate, Detail: id.Value + " via " + rung.Name})
		err := answers.present(ctx, rung, challenges.Challenge{Identifier: id, Type: rung.Solver.Type(), Token: challenge.Token,
			KeyAuth: challenges.KeyAuthorization(challenge.Token, j.thumb), Thumbprint: j.thumb, AccountURI: j.account.URI, Issuers: j.persistIssuers(challenge.URL)})
		switch {
		case err == nil:
			return rung, challenge, nil
		case ctx.Err() != nil:
			return rung, nil, errStopped
		}
		j.i.config.Log.Warn("a solver could not present its answer, trying the next one",
			zapCert(j.req.Spec.Name), zapName(id.Value), zapSolver(rung.Name), zapError(err))
		local := &certs.ValidationError{Identifier: id, Solver: rung.Name, Local: true, Err: fmt.Errorf("present the answer: %w", err)}
		j.noteFailure(local, j.i.now())
		failed = append(failed, local)
	}
}

func (j *job) nothingFits(id certs.Identifier, offered []challenges.Type, failed []error) error {
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	return &certs.PermanentError{Err: fmt.Errorf("the CA offers %s for %s, which none of the solvers %q answers",
		text.Short(fmt.Sprint(offered), 200), id, j.req.Spec.Solvers)}
}

// handOver tells the CA to validate.
func (j *job) handOver(ctx context.Context, o *order, a *authorization, challenge *acme.Challenge) error {
	if ctx.Err() != nil {
		return errStopped
	}
	o.mu.Lock()
	o.pending = append(o.pending, a)
	o.mu.Unlock()
	got, err := j.startValidation(a, challenge)
	switch {
	case err != nil:
		return err
	case got.Status == acme.StatusInvalid || got.Error != nil: // some CAs validate at once
		return a.failed(got.Error)
	}
	o.proved(certs.Validation{Identifier: a.id.Value, Solver: a.solver, Type: string(a.typ), Reason: a.reason})
	return nil
}

// startValidation sends the request of RFC 8555 section 7.5.1. When it fails, the authorization says whether it arrived, because
// CAs refuse it once the validation has begun or is over.
func (j *job) startValidation(a *authorization, challenge *acme.Challenge) (acme.Challenge, error) {
	for n := 1; ; n++ {
		var got acme.ExtendedChallenge
		err := j.once("start the validation of "+a.id.Value, func(core *api.Core) (err error) {
			got, err = core.Challenges.New(challenge.URL)
			return err
		})
		again := temporary(err)
		if err == nil || n == maxTries || !again && !refusedForGood(err) {
			return got.Challenge, err
		}
		if again && j.backOff(n) != nil {
			return got.Challenge, j.i.ended(j.ctx)
		}
		now, readErr := j.readChallenge(a)
		switch {
		case readErr != nil:
			return got.Challenge, readErr
		case now != nil && now.Status != acme.StatusPending:
			return *now, nil
		case !again:
			return got.Challenge, err
		}
	}
}

func refusedForGood(err error) bool {
	p := problemOf(err)
	return p != nil && !p.limited()
}

func (j *job) readChallenge(a *authorization) (*acme.Challenge, error) {
	state, err := j.readAuthorization(a.url)
	if err != nil {
		return nil, err
	}
	return a.challenge(&state), nil
}

func (j *job) readAuthorization(url string) (got acme.Authorization, err error) {
	err = j.call("read an authorization", func(core *api.Core) (err error) {
		got, err = core.Authorizations.Get(url)
		return err
	})
	return got, err
}

// challenge is the one that was answered, nil if the CA does not list it any more.
func (a *authorization) challenge(state *acme.Authorization) *acme.Challenge {
	n := slices.IndexFunc(state.Challenges, func(c acme.Challenge) bool { return challenges.Type(c.Type) == a.typ })
	if n < 0 {
		return nil
	}
	return &state.Challenges[n]
}

func (o *order) proved(v certs.Validation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.validations = append(o.validations, v)
}

func (a *authorization) failed(details *acme.ProblemDetails) error {
	p := fromDetails(details)
	v := &certs.ValidationError{Identifier: a.id, Solver: a.solver, Problem: p.kind, Err: p}
	if p.kind == typeCAA { // no other answer helps, only another record
		v.Err = &certs.PermanentError{Err: p}
	}
	return v
}

// awaitReady looks at the order until every name is proved or one failed.
func (j *job) awaitReady(o *order) error {
	now := j.i.now()
	poller, doubt := j.i.polling.begin(now), now.Add(doubtAfter)
	for {
		if err := j.look(o, poller); err != nil {
			return err
		}
		switch o.Status {
		case acme.StatusReady, acme.StatusProcessing, acme.StatusValid:
			return nil
		case acme.StatusInvalid:
			if err := j.verdicts(o, nil); err != nil {
				return err
			}
			return j.orderFailed(o)
		}
		if now := j.i.now(); now.After(doubt) {
			if _, err := j.failures(o, nil); err != nil {
				return err
			}
			doubt = now.Add(doubtAfter)
		}
	}
}

// verdictWait is how long the verdicts of an order that failed are waited for: those of names that failed too would be lost,
// and their solvers be tried again.
const verdictWait = 10 * time.Second

// verdicts joins to the failures known those of all other names: an order is invalid with the first of them, and the CA
// goes on with the others.
func (j *job) verdicts(o *order, known error) error {
	poller, end := j.i.polling.begin(j.i.now()), time.Now().Add(verdictWait)
	for {
		open, found := j.failures(o, known)
		known = j.joinHard([]error{known, found})
		if len(certs.Validations(known)) == 0 && known != nil || open == 0 || time.Now().After(end) {
			return known
		}
		if err := sleep(j.ctx, poller.next("", j.i.now())); err != nil {
			return j.i.ended(j.ctx)
		}
	}
}

// failures asks which authorizations failed, and why, apart from those known, and how many have no verdict yet.
func (j *job) failures(o *order, known error) (open int, err error) {
	var failed []certs.Identifier
	for _, v := range certs.Validations(known) {
		failed = append(failed, v.Identifier)
	}
	errs, pending := make([]error, len(o.pending)), make([]bool, len(o.pending))
	var all guard.Group
	for n, a := range o.pending {
		if !slices.Contains(failed, a.id) {
			all.Go(func() { pending[n], errs[n] = j.verdict(a) })
		}
	}
	all.Wait()
	for _, p := range pending {
		if p {
			open++
		}
	}
	return open, j.joinHard(errs)
}

func (j *job) verdict(a *authorization) (pending bool, err error) {
	defer j.caught("an authorization", &err)
	got, err := j.readAuthorization(a.url)
	if err != nil {
		return false, err
	}
	err = a.outcome(&got)
	return err == nil && got.Status == acme.StatusPending, err
}

// outcome is nil unless the authorization failed.
func (a *authorization) outcome(got *acme.Authorization) error {
	c := a.challenge(got)
	switch {
	case c != nil && c.Error != nil:
		return a.failed(c.Error)
	case got.Status == acme.StatusPending || got.Status == acme.StatusValid:
		return nil
	}
	return a.failed(&acme.ProblemDetails{Detail: "the authorization is " + got.Status})
}
