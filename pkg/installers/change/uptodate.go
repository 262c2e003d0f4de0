package change

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// UpToDate is nil when no file differs from what b needs. The error lists those that do, and is a [*installers.NewerError] if one of
// them begins with a newer certificate than b.
func (c *Change) UpToDate(b *certs.Bundle) error {
	edits, err := c.plan()
	if err != nil || len(edits) == 0 {
		return err
	}
	paths := make([]string, len(edits))
	for i := range edits {
		paths[i] = edits[i].Path
	}
	err = fmt.Errorf("not up to date: %s", strings.Join(paths, ", "))
	for i := range edits {
		if got := firstCertificate(edits[i].before); got != nil {
			err = endpoint.MarkNewer(err, got, b.Leaves()...)
		}
	}
	return err
}

// firstCertificate is that of a file in PEM, nil if there is none.
func firstCertificate(text []byte) *x509.Certificate {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil
		}
		if block.Type == "CERTIFICATE" {
			c, _ := certs.ParseCertificate(block.Bytes)
			return c
		}
		text = rest
	}
}
