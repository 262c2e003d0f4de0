package daemon

import (
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
)

// clients makes the clients that a certificate must not lose.
func (b *builder) clients(c *config.Config, cert *config.Certificate) (clients renewal.Clients, err error) {
	if len(cert.Trust) == 0 {
		return clients, nil
	}
	if clients.ActivateBefore, err = cert.ActivateBefore(); err != nil {
		return clients, err
	}
	clients.Stores, err = c.TrustStores(cert.Trust...)
	return clients, err
}
