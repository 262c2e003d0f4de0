package daemon

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

// Install installs the active version at every target again, or takes it away.
func (d *Daemon) Install(ctx context.Context, r control.InstallRequest, progress func(control.Progress)) (control.Report, error) {
	if _, err := d.names([]string{r.Certificate}); err != nil {
		return control.Report{}, err
	}
	opts := renewal.Options{Targets: renewal.InstallTargets}
	if r.Undo {
		opts.Targets = renewal.UninstallTargets
	}
	tell := func(s certs.Step) { progress(control.Progress{Certificate: r.Certificate, Step: s}) }
	result := resultOf(d.work(ctx, r.Certificate, opts, tell))
	progress(control.Progress{Certificate: r.Certificate, Result: &result})
	return control.Report{Version: control.Version, Results: []control.Result{result}}, nil
}

// Forget deletes all versions and keys of a certificate that is not in the configuration any more.
func (d *Daemon) Forget(ctx context.Context, r control.ForgetRequest) error {
	if _, configured := d.engine.Certificate(r.Certificate); configured {
		return &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("%q is still in the configuration; 'acmed disable %[1]s --purge' removes it from there as well", r.Certificate)}
	}
	if err := certs.CheckName(r.Certificate); err != nil {
		return &control.Error{Code: control.CodeUsage, Message: err.Error()}
	}
	have, err := d.store.Load(r.Certificate)
	if err != nil {
		return err
	}
	if len(have.Versions) == 0 && r.Check {
		return &control.Error{Code: control.CodeUnknown, Message: fmt.Sprintf("no certificate called %q is stored", r.Certificate)}
	}
	if path := d.installed(ctx, r.Certificate); path != "" && !r.Force {
		return &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("%q is still installed in %s; configure it again and run 'acmed disable %[1]s --purge', or delete it with --force", r.Certificate, path)}
	}
	if r.Check {
		return nil
	}
	return d.store.Remove(r.Certificate)
}

// installed is a file that a target of the certificate still has from acmed, or "".
func (d *Daemon) installed(ctx context.Context, certificate string) string {
	d.mu.Lock()
	journals := filepath.Join(d.config.StateDir, "installs", certificate, "*")
	d.mu.Unlock()
	found, _ := filepath.Glob(journals) // the pattern is valid
	for _, journal := range found {
		if list, err := change.Originals(ctx, journal); err == nil && len(list) > 0 {
			return list[0].Path
		}
	}
	return ""
}

// Preview says what a renewal would do now, and which files it would change. It changes nothing.
func (d *Daemon) Preview(ctx context.Context, r control.PreviewRequest) (control.Preview, error) {
	names, err := d.names(r.Names)
	if err != nil {
		return control.Preview{}, err
	}
	out := control.Preview{Version: control.Version, Certificates: []control.CertificatePreview{}}
	for _, name := range names {
		p, err := d.preview(ctx, name, r.Force)
		if err != nil {
			return control.Preview{}, err
		}
		out.Certificates = append(out.Certificates, p)
	}
	return out, nil
}

func (d *Daemon) preview(ctx context.Context, name string, force bool) (control.CertificatePreview, error) {
	s, err := d.engine.Status(name)
	if err != nil {
		return control.CertificatePreview{}, err
	}
	c, _ := d.engine.Certificate(name)
	have, err := d.store.Load(name)
	if err != nil {
		return control.CertificatePreview{}, err
	}
	p := control.CertificatePreview{Certificate: name, Reason: string(s.Reason), Message: s.Message, Order: s.Order || force}
	if force && !s.Order {
		p.Message = "it is forced"
	}
	bundle := have.Current
	if bundle == nil || p.Order {
		if bundle, err = placeholder(&c.Spec); err != nil {
			return control.CertificatePreview{}, err
		}
	}
	for _, id := range c.Spec.Targets {
		p.Targets = append(p.Targets, previewTarget(ctx, id, c.Targets[id], have.State.Installed[id], bundle))
	}
	return p, nil
}

func previewTarget(ctx context.Context, id string, to installers.Installer, was store.Installed, b *certs.Bundle) control.TargetPreview {
	t := control.TargetPreview{ID: id, Off: was.Off}
	if was.Off {
		return t
	}
	previewer, ok := to.(installers.Previewer)
	if !ok {
		if was.Fingerprint != b.Fingerprint() {
			t.Diff = installers.NoPreview
		}
		return t
	}
	var err error
	if t.Diff, err = previewer.Preview(ctx, b); err != nil {
		t.Error = err.Error()
	}
	if n, ok := to.(installers.Noter); ok && err == nil {
		t.Notes, _ = n.Notes(ctx, b) // a helper of an earlier release has none
	}
	return t
}

// placeholder stands in for a certificate that is yet to be issued, so that the files which would change can be shown.
func placeholder(spec *certs.Spec) (*certs.Bundle, error) {
	b, err := selfSigned(spec, spec.KeyTypes[0])
	if err == nil && len(spec.KeyTypes) > 1 {
		b.RSA, err = selfSigned(spec, spec.KeyTypes[1])
	}
	return b, err
}

func selfSigned(spec *certs.Spec, kind certs.KeyType) (*certs.Bundle, error) {
	key, err := certs.NewKey(kind)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	for _, id := range spec.Identifiers {
		if id.Type == certs.IP {
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(id.Value))
		} else {
			template.DNSNames = append(template.DNSNames, id.Value)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("preview: %w", err)
	}
	leaf, err := certs.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("preview: %w", err)
	}
	pem, err := certs.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return certs.NewBundle(slices.Clone(certs.EncodeCert(leaf)), pem)
}
