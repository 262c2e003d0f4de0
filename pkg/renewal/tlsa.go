package renewal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// TLSA says which TLSA records (RFC 6698) clients find about a certificate.
type TLSA struct {
	Names  []string      // where they are, with the final dot
	Usages []uint8       // 3 for the keys of the certificate, 2 for those of its issuers
	TTL    time.Duration // of what is published
	DNS    TLSAServer
}

// TLSAServer is the DNS.
type TLSAServer interface {
	// LookTLSA lists the records that every authoritative server has at a name, and the longest time for which resolvers
	// remember them. It is an error when the zone is not signed, or when nobody answers.
	LookTLSA(ctx context.Context, name string) ([]certs.TLSA, time.Duration, error)
	// AddTLSA adds a record beside others; where that is for the operator, the error says so. Adding it again changes nothing.
	AddTLSA(ctx context.Context, r certs.TLSA, ttl time.Duration) error
	// RemoveTLSA removes this record and no other; where that is for the operator, the error says so. One that is not there is no
	// error.
	RemoveTLSA(ctx context.Context, r certs.TLSA) error
}

// records are those of stored certificates and of the keys made ahead.
func (t *TLSA) records(bundles []*certs.Bundle, next []certs.NextKey) ([]certs.TLSA, error) {
	var list []certs.TLSA
	add := func(usage uint8, digest string) {
		for _, name := range t.Names {
			if r := (certs.TLSA{Name: name, Usage: usage, Digest: digest}); !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
	}
	for _, usage := range t.Usages {
		for _, b := range bundles {
			for unit := b; unit != nil; unit = unit.RSA {
				if usage == 3 {
					add(usage, certs.Digest(unit.Leaf))
					continue
				}
				issuers, err := certs.ParseChain(unit.ChainPEM)
				if err != nil {
					return nil, fmt.Errorf("a record 2 1 1 needs the certificate of the issuer, which the CA did not send: %w", err)
				}
				add(usage, certs.Digest(issuers[0]))
			}
		}
		for _, k := range next {
			if usage == 3 {
				add(usage, k.Digest())
			}
		}
	}
	return list, nil
}

// dnsView is what a job saw of the TLSA records.
type dnsView struct {
	asked  []certs.TLSA // what was wanted then
	served bool         // whether all targets had the active version then
	err    error        // why it is not known what the name servers have
	again  time.Time    // when to look again
}

const (
	tlsaPatience = time.Minute      // for one look at all names
	tlsaPause    = 30 * time.Second // the longest time until records are looked for again that are not visible
)

// publishKeys makes the name servers have the records of all keys that are or will be served, and takes away those of keys
// that nobody serves any more. It looks once for the same records. That the DNS fails is no error: it is in the state, and
// the versions whose records are missing wait.
func (j *job) publishKeys(ctx context.Context) error {
	t, r := j.TLSA, j.record
	if t == nil {
		return nil
	}
	bundles, err := j.engine.keyed(r.Lineage)
	if err != nil {
		return err
	}
	want, err := t.records(bundles, j.next)
	served := j.servedEverywhere()
	if err != nil || j.tlsa.asked != nil && slices.Equal(want, j.tlsa.asked) && served == j.tlsa.served {
		return err
	}
	j.tlsa = dnsView{asked: want, served: served}
	st := r.edit()
	if st.TLSA == nil {
		st.TLSA = map[string]store.TLSA{}
	}
	for _, rr := range want {
		in := st.TLSA[rr.String()]
		in.Unused = time.Time{}
		st.TLSA[rr.String()] = in
	}
	if err := r.save(); err != nil { // before they are published, so that they are taken away whatever happens
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tlsaPatience)
	defer cancel()
	var errs []error
	for _, name := range t.Names {
		errs = append(errs, j.publishAt(ctx, name, want))
	}
	j.tlsa.err = errors.Join(errs...)
	errs = append(errs, j.retire(ctx, want))
	st = r.edit()
	st.TLSAError = ""
	if err := errors.Join(errs...); err != nil {
		st.TLSAError = shorten(err)
		j.lookAgain(min(tlsaPause, max(t.TTL, time.Second)))
	}
	return r.save()
}

func (j *job) lookAgain(in time.Duration) {
	j.tlsa.again = clock.Earlier(j.tlsa.again, j.engine.clock().Add(in))
}

// publishAt adds the records that are not visible at a name, and notes since when the others are.
func (j *job) publishAt(ctx context.Context, name string, want []certs.TLSA) error {
	here := slices.DeleteFunc(slices.Clone(want), func(rr certs.TLSA) bool { return rr.Name != name })
	seen, ttl, err := j.TLSA.DNS.LookTLSA(ctx, name)
	if err != nil {
		return err
	}
	var errs []error
	for _, rr := range here {
		if !slices.Contains(seen, rr) {
			errs = append(errs, j.TLSA.DNS.AddTLSA(ctx, rr, j.TLSA.TTL))
		}
	}
	if len(errs) > 0 {
		if seen, ttl, err = j.TLSA.DNS.LookTLSA(ctx, name); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	now, st := j.engine.clock(), j.record.edit()
	for _, rr := range here {
		in := st.TLSA[rr.String()]
		in.TTL = int64(ttl / time.Second)
		switch visible := slices.Contains(seen, rr); {
		case !visible:
			in.Seen = time.Time{}
			errs = append(errs, fmt.Errorf("not all name servers have the record %s TLSA %s", rr.Name, rr.Data()))
		case in.Seen.IsZero():
			in.Seen = now
		}
		st.TLSA[rr.String()] = in
	}
	return errors.Join(errs...)
}

// retire takes away the records that nothing needs any more, twice their time to live after the last target stopped to
// serve their key.
func (j *job) retire(ctx context.Context, want []certs.TLSA) error {
	st, now := j.record.edit(), j.engine.clock()
	var errs []error
	for _, text := range slices.Sorted(maps.Keys(st.TLSA)) {
		rr, err := certs.ParseTLSA(text)
		in := st.TLSA[text]
		switch {
		case err != nil:
			delete(st.TLSA, text)
			continue
		case slices.Contains(want, rr) || !j.tlsa.served:
			continue
		case in.Unused.IsZero():
			in.Unused = now
			st.TLSA[text] = in
		}
		if end := in.Unused.Add(j.TLSA.settling(in)); now.Before(end) {
			j.tlsa.again = clock.Earlier(j.tlsa.again, end)
			continue
		}
		if err := j.TLSA.DNS.RemoveTLSA(ctx, rr); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(st.TLSA, text)
	}
	return errors.Join(errs...)
}

// settling is how long a change of a record takes to reach every client: twice what resolvers remember.
func (t *TLSA) settling(in store.TLSA) time.Duration {
	return 2 * max(time.Duration(in.TTL)*time.Second, t.TTL)
}

// servedEverywhere reports whether every target has the active version.
func (j *job) servedEverywhere() bool {
	r := j.record
	return r.Current != nil && !slices.ContainsFunc(j.Spec.Targets, func(id string) bool {
		t := r.State.Installed[id]
		return !t.Off && t.Fingerprint != r.Current.Fingerprint()
	})
}

// unseen says which records of a version, beyond those of the active one, are not visible, or until when they must be so.
func (j *job) unseen(b *certs.Bundle) (until time.Time, lacking error) {
	if j.TLSA == nil || j.record.Current == nil {
		return until, nil
	}
	want, err := j.TLSA.records([]*certs.Bundle{b}, nil)
	if err != nil {
		return until, err
	}
	active, _ := j.TLSA.records([]*certs.Bundle{j.record.Current}, nil) // without them, all count
	for _, rr := range want {
		in := j.record.State.TLSA[rr.String()]
		switch {
		case slices.Contains(active, rr):
			continue
		case j.tlsa.err != nil:
			return until, j.tlsa.err
		case in.Seen.IsZero():
			return until, fmt.Errorf("%s TLSA %s", rr.Name, rr.Data())
		}
		until = clock.Later(until, in.Seen.Add(j.TLSA.settling(in)))
	}
	if until.After(j.engine.clock()) {
		j.tlsa.again = clock.Earlier(j.tlsa.again, until)
	}
	return until, nil
}

// tlsaWarning is what status says about records that are not as they should be.
func tlsaWarning(c *Certificate, have *store.Lineage) []string {
	if c.TLSA == nil || have.State.TLSAError == "" {
		return nil
	}
	return []string{"TLSA: " + have.State.TLSAError}
}
