package daemon

import (
	"context"
	"fmt"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/apache"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/installers/haproxy"
	"github.com/acmed/acmed/pkg/installers/nginx"
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
			key, server := localServer(&cert.Install[k])
			if server == nil || asked[key] {
				continue
			}
			asked[key] = true
			list = append(list, serverFinding(ctx, cert, k, server)...)
		}
	}
	return list
}

// localServer makes the server of this machine that a target reloads, nil when there is none, with a key for all targets
// that share it.
func localServer(in *config.Install) (key string, server *installers.Server) {
	switch {
	case in.Nginx != nil:
		return "nginx " + in.Nginx.ServerKey(), nginx.NewServer(*in.Nginx)
	case in.Apache != nil:
		return in.Apache.ServerKey(), apache.NewServer(*in.Apache)
	case in.HAProxy != nil:
		return "haproxy " + in.HAProxy.ServerKey(), haproxy.NewServer(*in.HAProxy)
	case in.File != nil && in.File.Unit != "":
		return "unit " + in.File.Unit, file.NewServer(*in.File)
	}
	return "", nil
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
