package haproxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/fileset"
)

// Installer keeps one certificate of one HAProxy. It is safe for concurrent use.
type Installer struct {
	*fileset.Set
	config Config
	api    api
}

// New makes the installer of a valid configuration. It touches neither network nor disk. Targets with the same
// [Config.ServerKey] share one Server in t: HAProxy takes one change at a time.
func New(c Config, t installers.Target) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	server := t.Server
	if server == nil {
		server = NewServer(c)
	}
	set, err := fileset.New(c.settings(), t, server)
	if err != nil {
		return nil, err
	}
	p := &Installer{Set: set, config: c, api: api{c.Socket}}
	set.Files, set.Push, set.Probe = p.files, p.push, p.probe
	if !c.AllowOtherKeyType {
		set.Check = p.leftover
	}
	return p, nil
}

// The suffixes by which HAProxy knows the files of a dual unit.
const (
	suffixECDSA = ".ecdsa"
	suffixRSA   = ".rsa"
)

// files are one file, or the two of a dual unit, with a key file beside each where the configuration has one. A file without
// suffix hides the two from HAProxy, so it goes; the two are removed where acmed wrote them.
func (p *Installer) files(b *certs.Bundle) (files []change.File, others []string, err error) {
	if err := p.checkCiphers(b, p.uses()); err != nil {
		return nil, nil, err
	}
	if b.RSA == nil {
		for _, suffix := range []string{suffixECDSA, suffixRSA} {
			others = append(others, p.config.File+suffix)
			if p.config.Key != "" {
				others = append(others, p.keyFile(suffix))
			}
		}
		files, err = p.pair("", b)
		return files, others, err
	}
	if p.config.Key != "" && p.config.Key != p.config.File+keySuffix {
		return nil, nil, fmt.Errorf("key: a dual certificate needs its keys beside the certificates, as %s%s", p.config.File, keySuffix)
	}
	ecdsa, err := p.pair(suffixECDSA, b)
	if err != nil {
		return nil, nil, err
	}
	rsa, err := p.pair(suffixRSA, b.RSA)
	if err != nil {
		return nil, nil, err
	}
	files = slices.Concat(ecdsa, rsa, []change.File{{Path: p.config.File, Remove: true, Secret: true}})
	if p.config.Key != "" {
		files = append(files, change.File{Path: p.config.Key, Remove: true, Secret: true})
	}
	return files, nil, nil
}

// pair is what a certificate has on disk.
func (p *Installer) pair(suffix string, b *certs.Bundle) ([]change.File, error) {
	if len(b.KeyPEM) == 0 {
		return nil, errors.New("HAProxy needs the private key, which acmed does not have for a certificate from a CSR")
	}
	path := p.config.File + suffix
	if p.config.Key == "" {
		return []change.File{{Path: path, Content: append(b.FullChainPEM(), b.KeyPEM...), Secret: true}}, nil
	}
	return []change.File{{Path: path, Content: b.FullChainPEM()}, {Path: p.keyFile(suffix), Content: b.KeyPEM, Secret: true}}, nil
}

// keySuffix is what HAProxy adds to the name of a certificate to find its key beside it.
const keySuffix = ".key"

// keyFile is the configured key file; that of one half of a dual unit is beside its certificate.
func (p *Installer) keyFile(suffix string) string {
	if suffix == "" {
		return p.config.Key
	}
	return p.config.File + suffix + keySuffix
}

// settle is how long HAProxy gets before it is asked a second time.
const settle = 3 * time.Second

// probe waits until HAProxy serves the files. A master process that is still busy with an earlier reload loses the signal for
// the next one, so it is asked once more.
func (p *Installer) probe(ctx context.Context, verify func(wait time.Duration) error) error {
	err := verify(settle)
	if locked := (*endpoint.LockedOutError)(nil); err == nil || errors.As(err, &locked) {
		return err
	}
	if err := p.Update(ctx); err != nil {
		return err
	}
	return verify(p.Limit())
}

// turn is held by the target that hands its files to HAProxy, which takes one change at a time.
type turn struct{ sync.Mutex }

type turnKey struct{}

// push makes the running HAProxy serve what the files hold now: after an edit the new certificate, after a failure the old
// one. A reload is needed where there is no runtime API and where its configuration leads to the files only when it is read
// again.
func (p *Installer) push(ctx context.Context) (unread, err error) {
	mine, _ := p.Server.Memory().LoadOrStore(turnKey{}, &turn{})
	mine.(*turn).Lock()
	defer mine.(*turn).Unlock()
	u := p.uses()
	err = p.handOver(ctx, cmp.Or(p.config.Name, u.name, filepath.Clean(p.config.File)))
	var none *unavailableError
	var later *unreadError
	var unloaded *notLoadedError
	if errors.As(err, &none) || errors.As(err, &later) || errors.As(err, &unloaded) && u.named {
		return err, nil
	}
	return nil, err
}

// handOver hands over each file that exists, and takes back the files of a directory that exist no more, in this order, so
// that clients are never without.
func (p *Installer) handOver(ctx context.Context, name string) error {
	var errs []error
	var gone []string
	for _, suffix := range []string{"", suffixECDSA, suffixRSA} {
		content, err := p.content(suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, name+suffix)
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, p.api.put(ctx, name, suffix, content))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, name := range gone {
		errs = append(errs, p.api.remove(ctx, name))
	}
	return errors.Join(errs...)
}

func (p *Installer) uses() uses { return readCfg(p.config.Config, p.config.File) }

// content is a certificate with its key, which may be in a file beside it. The file that was there before the first
// installation may have been like that whatever the configuration says now.
func (p *Installer) content(suffix string) ([]byte, error) {
	path := p.config.File + suffix
	content, err := installers.ReadRegular(path)
	if err != nil || bytes.Contains(content, []byte("PRIVATE KEY-----")) {
		return content, err
	}
	for _, beside := range []string{p.keyFile(suffix), path + keySuffix, strings.TrimSuffix(path, filepath.Ext(path)) + keySuffix} {
		if key, err := installers.ReadRegular(beside); err == nil {
			return slices.Concat(content, []byte("\n"), key), nil
		}
	}
	return content, nil
}
