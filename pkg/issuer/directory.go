package issuer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// directoryLife is how long a directory is used before it is fetched again. Its URLs hardly ever change; profiles and
// the renewal information come and go, and an hour is soon enough to notice.
const directoryLife = time.Hour

const maxRedirects = 3 // of the directory URL only

// directory is the CA's directory (RFC 8555 section 7.1.1) with every URL checked.
type directory struct {
	acme.Directory
	raw []byte // as received
}

// directory returns the CA's directory, one that is cached unless it is older than maxAge; 0 is the usual age.
func (i *Issuer) directory(ctx context.Context, maxAge time.Duration) (*directory, error) {
	t := i.transport
	select {
	case t.fetching <- struct{}{}: // concurrent callers share one request
		defer func() { <-t.fetching }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	t.mu.Lock()
	dir, age := t.dir, t.now().Sub(t.dirAt)
	t.mu.Unlock()
	if dir != nil && age >= 0 && age < orDefault(maxAge, directoryLife) {
		return dir, nil
	}
	err := i.ask(ctx, stageDirectory, func() (err error) {
		dir, err = t.fetchDirectory(ctx)
		return err
	})
	return dir, err
}

func (t *transport) fetchDirectory(ctx context.Context) (*directory, error) {
	a, err := t.get(ctx, http.MethodGet, t.home.String(), maxRedirects)
	if err != nil {
		return nil, fmt.Errorf("fetch the directory: %w", err)
	}
	dir := &directory{raw: a.body}
	if err := json.Unmarshal(a.body, &dir.Directory); err != nil {
		return nil, fmt.Errorf("the directory is not readable: %w", err)
	}
	if err := t.checkDirectory(dir); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dir, t.dirAt = dir, t.now()
	return dir, nil
}

func (t *transport) checkDirectory(d *directory) error {
	for name, address := range map[string]string{"newNonce": d.NewNonceURL, "newAccount": d.NewAccountURL, "newOrder": d.NewOrderURL} {
		if address == "" {
			return refuse("the directory has no %s; is this the URL of an ACME directory?", name)
		}
	}
	for _, address := range []string{d.NewNonceURL, d.NewAccountURL, d.NewOrderURL, d.RevokeCertURL, d.KeyChangeURL, d.RenewalInfo} {
		if address == "" {
			continue
		}
		if err := t.allowedText(address); err != nil {
			return err
		}
	}
	return nil
}

// endpoint is what a URL is in the directory, "resource" for everything else.
func (t *transport) endpoint(u *url.URL) string {
	address := u.String()
	if address == t.home.String() {
		return "directory"
	}
	t.mu.Lock()
	dir := t.dir
	t.mu.Unlock()
	if dir == nil {
		return "resource"
	}
	switch address {
	case dir.NewNonceURL:
		return "new-nonce"
	case dir.NewAccountURL:
		return "new-account"
	case dir.NewOrderURL:
		return "new-order"
	case dir.RevokeCertURL:
		return "revoke-cert"
	case dir.KeyChangeURL:
		return "key-change"
	}
	if dir.RenewalInfo != "" && strings.HasPrefix(address, dir.RenewalInfo) {
		return "renewal-info"
	}
	return "resource"
}

// directoryDoubt is the age from which a directory is fetched again before something is refused because of it: the CA may
// offer it by now.
const directoryDoubt = time.Minute

// checkDirectory runs a check of what the directory says, and runs it again on a fresh one before it refuses.
func (c *client) checkDirectory(check func() error) error {
	err := check()
	if err == nil {
		return nil
	}
	dir, fetchErr := c.i.directory(c.ctx, directoryDoubt)
	if fetchErr != nil || dir == c.dir {
		return err
	}
	c.dir = dir
	if err := c.open(); err != nil {
		return err
	}
	return check()
}

// checkProfile refuses a profile that the CA does not offer, with the ones that it does.
func (d *directory) checkProfile(profile string) error {
	if _, ok := d.Meta.Profiles[profile]; ok || profile == "" {
		return nil
	}
	if len(d.Meta.Profiles) == 0 {
		return &certs.PermanentError{Err: advice.Tag(advice.ProfileNotOffered,
			fmt.Errorf("the CA offers no profiles, so not %q either; remove profile from the certificate", profile))}
	}
	offered := make([]string, 0, len(d.Meta.Profiles))
	for name := range d.Meta.Profiles {
		offered = append(offered, text.Short(name, 60))
	}
	slices.Sort(offered)
	return &certs.PermanentError{Err: advice.Tag(advice.ProfileNotOffered, fmt.Errorf("the CA does not offer the profile %q, but %s",
		profile, text.Short(strings.Join(offered, ", "), 500)))}
}
