package helper

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/store"
)

// keepVersions is the active copy and the one before it, for a way back. The daemon keeps the history.
const keepVersions = 2

// Target is one place that the helper installs to, with the helper's copies of its certificate: the lineage with the
// target's name in the store. It is a verb for each method; calls for one target take turns.
type Target struct {
	// AllowOlder lets the daemon's user go back to an older certificate, and to a self-signed one.
	AllowOlder bool
	// Ready says why Install would fail; nil when that is not known.
	Ready func(context.Context) error

	name      string
	names     []certs.Identifier
	installer installers.Installer
	store     *store.Store
	clock     func() time.Time
	turn      chan struct{}
}

// NewTarget makes a target that takes certificates for exactly these names. The installer was made for the live paths of
// the lineage name in s.
func NewTarget(name string, names []certs.Identifier, to installers.Installer, s *store.Store, clock func() time.Time) *Target {
	return &Target{name: name, names: names, installer: to, store: s, clock: clock, turn: make(chan struct{}, 1)}
}

// lock waits for the target's turn.
func (t *Target) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case t.turn <- struct{}{}:
		return func() { <-t.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another call for the target %s: %w", t.name, context.Cause(ctx))
	}
}

// vet refuses what the target may not serve. The daemon has checked the same, but it is not root.
func (t *Target) vet(b *certs.Bundle) error {
	spec := certs.Spec{Name: t.name, Identifiers: t.names}
	for _, one := range []*certs.Bundle{b, b.RSA} {
		if one == nil {
			continue
		}
		if len(one.KeyPEM) == 0 {
			return refuse("the certificate for the target %s comes without its private key", t.name)
		}
		// The shortest lifetime is the CA's and the daemon's matter.
		policy := certs.Policy{MaxLifetime: certs.DefaultPolicy().MaxLifetime}
		if err := certs.Vet(one, &spec, policy, t.clock()); err != nil {
			return refuse("the target %s does not take this certificate: %w", t.name, err)
		}
	}
	return nil
}

// forward refuses to give up a valid certificate for an older or a self-signed one, unless root asks: whoever has taken over the
// daemon could bring back one with a key that leaked, or make its own.
func (t *Target) forward(ctx context.Context, b, have *certs.Bundle) error {
	if t.AllowOlder || byRoot(ctx) || have == nil || b.Fingerprint() == have.Fingerprint() {
		return nil
	}
	now := t.clock()
	for _, before := range have.Leaves() {
		if now.Before(before.NotBefore) || now.After(before.NotAfter) || selfSigned(before) {
			continue
		}
		for _, leaf := range b.Leaves() {
			var newer *installers.NewerError
			what := ""
			switch {
			case selfSigned(leaf):
				what = "self-signed"
			case errors.As(endpoint.MarkNewer(errors.New("older"), before, leaf), &newer):
				what = "older"
			default:
				continue
			}
			return refuse("the certificate for the target %s is %s, and the one in place is valid until %s; root may set allow_older for the target in installd.yaml",
				t.name, what, before.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// Recover settles what a killed helper left.
func (t *Target) Recover(ctx context.Context) error {
	if r, ok := t.installer.(installers.Recoverer); ok {
		return r.Recover(ctx)
	}
	return nil
}

// Examine returns nil unless Install would fail.
func (t *Target) Examine(ctx context.Context) error {
	if t.Ready == nil {
		return nil
	}
	return t.Ready(ctx)
}

// Install makes the copy, makes it live and installs it. When that fails, the copy of before is live again and installed:
// the target serves what it served.
func (t *Target) Install(ctx context.Context, b *certs.Bundle) error {
	if err := t.vet(b); err != nil {
		return err
	}
	before, err := t.store.Load(t.name)
	if err != nil {
		return err
	}
	if err := t.forward(ctx, b, before.Current); err != nil {
		return err
	}
	version := before.Version
	if before.Current == nil || !before.Current.Presents(b) {
		if version, err = t.copy(b, before); err != nil {
			return err
		}
	}
	err = t.installer.Install(ctx, b)
	if !failed(err) {
		return errors.Join(err, t.store.Prune(t.name, keepVersions))
	}
	if before.Current == nil || version == before.Version {
		return err
	}
	return errors.Join(err, t.back(ctx, before, err))
}

// copy stores the bundle, unless an earlier try did, and makes it what servers read.
func (t *Target) copy(b *certs.Bundle, have *store.Lineage) (version string, err error) {
	i := slices.IndexFunc(have.Versions, func(v store.Version) bool {
		same, err := t.store.Bundle(t.name, v.ID)
		return err == nil && same.Presents(b)
	})
	if i >= 0 {
		version = have.Versions[i].ID
	} else if version, err = t.store.AddVersion(t.name, b, t.clock()); err != nil {
		return "", err
	}
	return version, t.store.Activate(t.name, version)
}

// failed reports whether the target does not read the new copy. A stopped server reads it when it starts, and one that
// asks to be called later is on its way to it.
func failed(err error) bool {
	var stopped *installers.NotRunningError
	var later *installers.LaterError
	return err != nil && !errors.As(err, &stopped) && !errors.As(err, &later)
}

// back makes the copy of before live again. A server whose own test already failed was not reloaded and still has it.
func (t *Target) back(ctx context.Context, before *store.Lineage, cause error) error {
	if err := t.store.Activate(t.name, before.Version); err != nil {
		return fmt.Errorf("go back to the certificate of before: %w", err)
	}
	if broken := (*installers.BrokenServerError)(nil); errors.As(cause, &broken) {
		return nil
	}
	// The reason for going back may be that ctx ended; the plugins' own deadlines bound what follows.
	if err := t.installer.Install(context.WithoutCancel(ctx), before.Current); failed(err) {
		return fmt.Errorf("go back to the certificate of before: %w", err)
	}
	return nil
}

// Verify returns nil when the target serves the certificate. The key is not needed: the copy has it.
func (t *Target) Verify(ctx context.Context, b *certs.Bundle) error {
	have, err := t.store.Load(t.name)
	if err != nil {
		return err
	}
	if have.Current == nil || have.Current.Fingerprint() != b.Fingerprint() {
		return fmt.Errorf("the target %s has not got this certificate", t.name)
	}
	return t.installer.Verify(ctx, have.Current)
}

// Preview shows what Install would change.
func (t *Target) Preview(ctx context.Context, b *certs.Bundle) (string, error) {
	if err := t.vet(b); err != nil {
		return "", err
	}
	p, ok := t.installer.(installers.Previewer)
	if !ok {
		return t.unseen(b)
	}
	return p.Preview(ctx, b)
}

// unseen stands in for the preview of an installer that has none.
func (t *Target) unseen(b *certs.Bundle) (string, error) {
	have, err := t.store.Load(t.name)
	if err != nil || have.Current != nil && have.Current.Fingerprint() == b.Fingerprint() {
		return "", err
	}
	return installers.NoPreview, nil
}

// Notes are what an operator should know about an installation, one a line.
func (t *Target) Notes(ctx context.Context, b *certs.Bundle) (string, error) {
	n, ok := t.installer.(installers.Noter)
	if !ok {
		return "", nil
	}
	notes, err := n.Notes(ctx, b)
	return strings.Join(notes, "\n"), err
}

// Uninstall takes back all that was changed for the target and removes the copies.
func (t *Target) Uninstall(ctx context.Context) error {
	u, ok := t.installer.(installers.Uninstaller)
	if !ok {
		return refuse("the target %s cannot be uninstalled", t.name)
	}
	if err := u.Uninstall(ctx); err != nil {
		return err
	}
	return t.store.Remove(t.name)
}
