package daemon

import (
	"context"
	"fmt"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
)

// serverFindings asks whether the servers of this machine run that the patients' certificates are installed in, also those
// to which no name leads.
func serverFindings(ctx context.Context, c *config.Config, patients []patient) []control.Finding {
	ctx, cancel := context.WithTimeout(ctx, issuerTime)
	defer cancel()
	wanted, asked := map[string]bool{}, map[string]bool{}
	for _, p := range patients {
		wanted[p.certificate] = true
	}
	var list []control.Finding
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		if !wanted[cert.Name] {
			continue
		}
		for k := range cert.Install {
			key, create := localServer(&cert.Install[k])
			if create == nil || asked[key] {
				continue
			}
			asked[key] = true
			list = append(list, serverFinding(ctx, cert, k, create())...)
		}
	}
	return list
}

func serverFinding(ctx context.Context, cert *config.Certificate, target int, server *installers.Server) []control.Finding {
	running, err := server.Running(ctx)
	switch {
	case err != nil:
		return []control.Finding{{Attention: true, What: fmt.Sprintf("whether %s runs is not known", server.Name()), Why: err.Error(),
			Do: fmt.Sprintf("correct certificates[%s].install[%d]; without an answer acmed does not reload the server", cert.Name, target)}}
	case !running:
		return []control.Finding{{Attention: true, What: server.Name() + " is not running",
			Why: fmt.Sprintf("%s is installed there, and acmed never starts a server", cert.Name),
			Do:  "start it, or remove the target if the server is gone for good"}}
	}
	return nil
}
