package imperva

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

const (
	// patience is how long Install itself waits for the cloud: a site with few servers has it within seconds.
	patience = 15 * time.Second
	// lookAgain is when the cloud is looked at again after that.
	lookAgain = time.Minute
	// maxRecord bounds the own record of the last upload.
	maxRecord = 1 << 20
)

// Installer uploads to one site. It is safe for concurrent use.
type Installer struct {
	config    Config
	target    installers.Target
	endpoints []endpoint.Endpoint
	read      func(path string) (certs.Secret, error)
	warn      func(text string)
	now       func() time.Time
	patience  time.Duration
	busy      chan struct{} // holds one token while Install works
}

var _ installers.Installer = (*Installer)(nil)

// New makes the installer of a valid configuration; read reads a secret from its file, warn gets what the operator should know
// about an upload that succeeded. It touches neither network nor disk.
func New(c Config, t installers.Target, read func(path string) (certs.Secret, error), warn func(text string)) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	verify := c.Verify
	if len(verify) == 0 {
		name := fixedName(t.Names)
		if name == "" {
			return nil, errors.New("verify: the certificate has no fixed DNS name to look at; write where it is served, host:port/server.name")
		}
		verify = []string{net.JoinHostPort(name, "443")}
	}
	endpoints, err := endpoint.ParseAll(verify, t.Names)
	if err != nil {
		return nil, err
	}
	return &Installer{
		config: c, target: t, endpoints: endpoints, read: read, warn: warn, now: time.Now, patience: patience, busy: make(chan struct{}, 1),
	}, nil
}

func fixedName(names []certs.Identifier) string {
	for _, id := range names {
		if id.Type == certs.DNS && !id.IsWildcard() {
			return id.Value
		}
	}
	return ""
}

// record is what is known about the last upload. It survives restarts, so that commands that run once do not upload again
// and again while the cloud takes its time.
type record struct {
	Fingerprint string    `json:"fingerprint,omitzero"` // of the bundle that was uploaded
	Chain       string    `json:"chain,omitzero"`       // fingerprint of its issuers
	Uploaded    time.Time `json:"uploaded,omitzero"`
	Complaint   string    `json:"complaint,omitzero"`  // what the API found wrong with it
	Warning     string    `json:"warning,omitzero"`    // what the API said about it besides
	NotBefore   time.Time `json:"not_before,omitzero"` // the API wants no request before
}

// Install uploads b unless the site serves it already or has it on its way. A dual unit is uploaded as two certificates,
// one of each kind.
func (p *Installer) Install(ctx context.Context, b *certs.Bundle) error {
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-ctx.Done():
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	last, err := p.load()
	if err != nil {
		return err
	}
	mine := last.Fingerprint == b.Fingerprint()
	switch {
	case mine && (last.Complaint != "" || last.Chain != "" && last.Chain != chainOf(b)): // no endpoint shows either of them
	case endpoint.Look(ctx, p.endpoints, b) == nil:
		return nil
	case mine:
		return p.await(ctx, b, last)
	}
	if p.now().Before(last.NotBefore) {
		return &installers.LaterError{After: last.NotBefore.Sub(p.now()), Err: fmt.Errorf("the API wants no request before %s", last.NotBefore.UTC().Format(time.RFC3339))}
	}
	return p.upload(ctx, b, last)
}

// chainOf identifies the issuers that b presents.
func chainOf(b *certs.Bundle) string {
	h := sha256.New()
	for unit := b; unit != nil; unit = unit.RSA {
		_, _ = h.Write(unit.ChainPEM) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// upload sends b and notes what became of it.
func (p *Installer) upload(ctx context.Context, b *certs.Bundle, last record) error {
	said, err := p.send(ctx, b)
	var busy *busyError
	var lost *lostError
	if errors.As(err, &busy) {
		later := &installers.LaterError{After: busy.after, Err: err}
		last.NotBefore = p.now().Add(busy.after)
		return errors.Join(later, p.save(last))
	}
	if err != nil && !errors.As(err, &lost) {
		return err
	}
	done := record{Fingerprint: b.Fingerprint(), Chain: chainOf(b), Uploaded: p.now(), Complaint: said.complaint, Warning: said.warning}
	if lost != nil { // another upload would be a second one if this was taken, which what is served will show
		done.Warning = err.Error()
	}
	if err := errors.Join(p.save(done), context.Cause(ctx)); err != nil {
		return err
	}
	if said.complaint != "" {
		return errors.New(said.complaint)
	}
	if done.Warning != "" {
		p.warn(done.Warning)
	}
	return p.await(ctx, b, done)
}

func (p *Installer) send(ctx context.Context, b *certs.Bundle) (opinion, error) {
	var all opinion
	units := []*certs.Bundle{b}
	if b.RSA != nil {
		units = append(units, b.RSA)
	}
	for _, unit := range units {
		if len(unit.KeyPEM) == 0 {
			return all, errors.New("the upload needs the private key, which acmed does not have for a certificate from a CSR")
		}
	}
	c, err := newClient(p.config, p.read)
	if err != nil {
		return all, err
	}
	var lost error
	for _, unit := range units {
		one, err := c.upload(ctx, unit)
		if unknown := (*lostError)(nil); errors.As(err, &unknown) {
			lost = errors.Join(lost, err)
		} else if err != nil {
			return all, err
		}
		all.add(one)
	}
	return all, lost
}

// await looks for the uploaded certificate for a moment, and asks for another look while the cloud still has time.
func (p *Installer) await(ctx context.Context, b *certs.Bundle, last record) error {
	left := last.Uploaded.Add(p.config.VerifyTimeout).Sub(p.now())
	err := endpoint.Verify(ctx, p.endpoints, b, max(min(left, p.patience), 0))
	if err == nil || ctx.Err() != nil {
		return err
	}
	if last.Warning != "" {
		err = fmt.Errorf("%w; %s", err, last.Warning)
	}
	if left > p.patience {
		return &installers.LaterError{After: lookAgain, Err: fmt.Errorf("uploaded %s, and on its way through the cloud: %w",
			last.Uploaded.UTC().Format(time.RFC3339), err)}
	}
	forget := p.save(record{})
	return errors.Join(fmt.Errorf("the certificate was uploaded %s ago and is not served: do the names lead to Imperva? %w",
		p.now().Sub(last.Uploaded).Round(time.Second), err), forget)
}

// Verify looks at each endpoint, and recalls what the API found wrong.
func (p *Installer) Verify(ctx context.Context, b *certs.Bundle) error {
	last, err := p.load()
	if err == nil && last.Fingerprint == b.Fingerprint() && last.Complaint != "" {
		err = errors.New(last.Complaint)
	}
	return errors.Join(err, endpoint.Verify(ctx, p.endpoints, b, 0))
}

func (p *Installer) recordFile() string { return filepath.Join(p.target.Journal, "upload.json") }

// load returns the zero record when there is none that can be used: then the certificate is uploaded again.
func (p *Installer) load() (record, error) {
	var last record
	text, err := vetted.ReadFile(p.recordFile(), 0, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err != nil {
		return last, err
	}
	if json.Unmarshal(text, &last) != nil {
		return record{}, nil
	}
	now := p.now()
	if last.Uploaded.After(now) { // the clock was ahead
		last.Uploaded = now
	}
	if last.NotBefore.Sub(now) > latestRetry {
		last.NotBefore = time.Time{}
	}
	return last, nil
}

func (p *Installer) save(last record) error {
	text, err := json.Marshal(last)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.target.Journal, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(p.recordFile(), append(text, '\n'), 0o600)
}
