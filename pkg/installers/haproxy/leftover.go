package haproxy

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// leftover finds another certificate for the same name that HAProxy still serves to clients of the other key type, and names
// its file: nobody renews it.
func (p *Installer) leftover(ctx context.Context, b *certs.Bundle) error {
	err := endpoint.Leftover(ctx, p.Endpoints, b)
	var other *endpoint.LeftoverError
	if !errors.As(err, &other) {
		return err
	}
	where := "a file that HAProxy loads"
	if path := p.find(ctx, other.Leaf); path != "" {
		where = path
	}
	return fmt.Errorf("%w, from %s: remove that file and reload HAProxy, request both key types for the certificate, "+
		"or set \"allow_other_key_type\" if something else renews it", err, where)
}

// find looks for the file with the certificate among those that HAProxy has, and beside ours.
func (p *Installer) find(ctx context.Context, leaf *x509.Certificate) string {
	dir := filepath.Dir(p.config.File)
	entries, _ := os.ReadDir(dir) // what cannot be read is not found
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	if have, err := p.api.list(ctx); err == nil {
		paths = append(paths, have.names...)
	}
	for _, path := range paths {
		text, err := installers.ReadRegular(path)
		for err == nil && len(text) > 0 {
			var block *pem.Block
			if block, text = pem.Decode(text); block == nil {
				break
			}
			if got, err := certs.ParseCertificate(block.Bytes); err == nil && got.Equal(leaf) {
				return path
			}
		}
	}
	return ""
}
