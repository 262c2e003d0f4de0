package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// maxAlternates is how many further chains are fetched. Let's Encrypt has offered at most three.
const maxAlternates = 10

// download fetches the certificate with all its chains, and vets it.
func (j *job) download(o *order) (*certs.Bundle, error) {
	if err := j.i.transport.allowedText(o.Certificate); err != nil {
		return nil, j.i.unavailable(err)
	}
	chain, err := j.fetchChain("download the certificate", o.Certificate)
	if err != nil {
		return nil, err
	}
	if err := j.i.ended(j.ctx); err != nil { // an answer that was cut off by that is not the CA's fault
		return nil, err
	}
	keyPEM, _, err := o.key()
	if err != nil {
		return nil, err
	}
	if chain, err = j.sorted(chain, keyPEM); err != nil {
		return nil, &certs.VetError{Err: err}
	}
	b, err := certs.NewBundle(chain, keyPEM)
	if err != nil {
		return nil, &certs.VetError{Err: err}
	}
	if j.csr != nil && !certs.SameKey(j.csr.PublicKey, b.Leaf.PublicKey) {
		return nil, &certs.VetError{Err: errors.New("the certificate is not for the key of the CSR")}
	}
	b.Issuer, b.Directory, b.Profile, b.Validations = j.i.config.Name, j.i.config.Directory, j.req.Spec.Profile, j.validations(o)
	b.Alternates, b.Missing = j.alternates(o.Certificate, b.Leaf)
	if err := j.i.ended(j.ctx); err != nil {
		return nil, err
	}
	if err := certs.Vet(b, &j.req.Spec, j.i.config.Policy, j.i.now()); err != nil {
		return nil, err
	}
	return j.prefer(b)
}

// Chains fetches the chains of a certificate again from where the CA has it, each without the leaf, and says which are still
// missing.
func (i *Issuer) Chains(ctx context.Context, name string, leaf *x509.Certificate, address string) (chains [][]byte, missing *certs.Missing, err error) {
	ctx, end, err := i.begin(ctx, i.way().orders, &operation{subject: name})
	if err != nil {
		return nil, nil, err
	}
	defer end()
	a, err := i.load()
	switch {
	case err != nil:
		return nil, nil, err
	case a == nil || a.URI == "":
		return nil, nil, &certs.PermanentError{Err: errors.New("the issuer has no account, and only the account that ordered a certificate may fetch its chains")}
	}
	if err := i.transport.allowedText(address); err != nil {
		return nil, nil, i.unavailable(err)
	}
	c, err := i.accountClient(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	j := &job{client: c, attempt: &attempt{req: &certs.Request{Spec: certs.Spec{Name: name}}}}
	standard, err := j.alternate(address, leaf)
	if err != nil {
		return nil, nil, err
	}
	chains, missing = j.alternates(address, leaf)
	return append([][]byte{standard}, chains...), missing, i.ended(ctx)
}

// validations says how each name was proved, as far as that is known: the authorizations of a stored order, or of one that
// was ready at once, were proved earlier.
func (j *job) validations(o *order) []certs.Validation {
	if len(o.validations) > 0 {
		return o.validations
	}
	var list []certs.Validation
	for _, id := range j.req.Spec.Identifiers {
		list = append(list, certs.Validation{Identifier: id.Value, Reason: stillValid})
	}
	return list
}

func (j *job) fetchChain(what stage, url string) (chain []byte, err error) {
	err = j.call(string(what), func(core *api.Core) (err error) {
		chain, _, err = core.Certificates.Get(url, true)
		return err
	})
	return chain, err
}

// sorted is a chain as it was sent, in the order of TLS and without what stood between its certificates.
func (j *job) sorted(chain []byte, keyPEM certs.Secret) ([]byte, error) {
	list, err := certs.ParseChain(chain)
	if err != nil {
		return nil, err
	}
	public := list[0].PublicKey
	if j.csr != nil {
		public = j.csr.PublicKey
	} else if key, err := certs.ParseKey(keyPEM); err == nil {
		public = key.Public()
	}
	var pem []byte
	for _, c := range certs.SortChain(list, public) {
		pem = append(pem, certs.EncodeCert(c)...)
	}
	return pem, nil
}

// alternates fetches the other chains of the same leaf (RFC 8555 section 7.4.2), each without the leaf. They are a choice, so
// one that cannot be had, or that must not be installed, is left out, and why is only told: the certificate is good without
// it. [Issuer.Chains] asks for it again; which of the chains a client needs is for the trust gate.
func (j *job) alternates(address string, leaf *x509.Certificate) (chains [][]byte, missing *certs.Missing) {
	urls := alternateLinks(address, j.header(address, "Link"))
	if len(urls) > maxAlternates {
		j.i.config.Log.Warn("the CA offers more chains than are looked at", zapCert(j.req.Spec.Name), zapIssuer(j.i))
		urls = urls[:maxAlternates]
	}
	chains = make([][]byte, len(urls))
	errs := make([]error, len(urls))
	var all guard.Group
	for n, u := range urls {
		all.Go(func() { chains[n], errs[n] = j.alternate(u, leaf) })
	}
	all.Wait()
	for n, err := range errs {
		if err != nil && j.ctx.Err() == nil {
			if missing == nil {
				missing = &certs.Missing{Address: address}
			}
			chains[n], missing.Chains = nil, append(missing.Chains, text.Line(urls[n]+": "+reasonOf(err), maxReason))
			j.i.config.Log.Warn("an alternate chain is not available, using the others", zapCert(j.req.Spec.Name), zapIssuer(j.i),
				zapText("url", urls[n]), zapError(err))
			j.req.Tell(certs.Step{Phase: certs.PhaseFinalize, Detail: "alternate chain " + strconv.Itoa(n+1) + " is not available: " + text.Line(err.Error(), maxReason)})
		}
	}
	return slices.DeleteFunc(chains, func(chain []byte) bool { return len(chain) == 0 }), missing
}

// reasonOf is an error without the address that was asked.
func reasonOf(err error) string {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return err.Error()
}

func (j *job) alternate(url string, leaf *x509.Certificate) (issuers []byte, err error) {
	defer j.caught("an alternate chain", &err)
	sent, err := j.fetchChain(stageAlternate, url)
	if err != nil {
		return nil, err
	}
	list, err := certs.ParseChain(sent)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, leaf.Equal) {
		return nil, errors.New("an alternate chain is for another certificate")
	}
	for _, c := range certs.SortChain(list, leaf.PublicKey)[1:] {
		issuers = append(issuers, certs.EncodeCert(c)...)
	}
	return issuers, certs.VetChain(leaf, issuers)
}

// alternateLinks reads the targets of Link headers with rel="alternate" (RFC 8288), made absolute, without repetitions.
func alternateLinks(base string, headers []string) []string {
	from, err := url.Parse(base)
	if err != nil {
		return nil
	}
	var found []string
	seen := map[string]bool{base: true}
	for _, header := range headers {
		for link := range strings.SplitSeq(header, ",") {
			target, params, ok := strings.Cut(link, ">")
			target, opened := strings.CutPrefix(strings.TrimSpace(target), "<")
			if !ok || !opened || !isAlternate(params) {
				continue
			}
			u, err := from.Parse(target)
			if err != nil || seen[u.String()] {
				continue
			}
			seen[u.String()] = true
			found = append(found, u.String())
		}
	}
	return found
}

func isAlternate(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "rel") && strings.EqualFold(strings.Trim(value, `"`), "alternate") {
			return true
		}
	}
	return false
}

// prefer presents the first chain, the CA's default before the alternates, that has a certificate of the preferred name or
// ends at a root of that name. When there is none, but some alternates were missing, the order stays stored: its chains are
// fetched again by the next try.
func (j *job) prefer(b *certs.Bundle) (*certs.Bundle, error) {
	name := j.req.Spec.PreferredChain
	if name == "" {
		return b, nil
	}
	for n := range len(b.Alternates) + 1 {
		candidate := b.WithChain(n)
		if candidate.HasIssuer(name) {
			return candidate, nil
		}
	}
	if b.Missing != nil {
		return nil, j.i.unavailable(fmt.Errorf("the preferred chain %q may be among those that could not be downloaded: %s", name, strings.Join(b.Missing.Chains, "; ")))
	}
	j.i.config.Log.Warn("the CA offers no chain of the preferred name, using its default chain",
		zapCert(j.req.Spec.Name), zapText("preferred_chain", name))
	return b, nil
}
