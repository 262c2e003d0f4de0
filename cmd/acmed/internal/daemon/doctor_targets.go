package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
)

// machineFindings are those conditions because of which work would fail that nothing else of an examination finds.
func (d *Daemon) machineFindings() []control.Finding {
	var list []control.Finding
	for _, c := range d.conditions() {
		switch c.Code {
		case advice.ConfigBroken, advice.DiskFull, advice.NoPermission, advice.DaemonStuck:
			e, _ := advice.Lookup(c.Code)
			list = append(list, control.Finding{Attention: true, What: e.What, Why: c.Detail, Do: e.Do})
		}
	}
	return list
}

// question is one that tells whether an installation would fail. Questions with the same key have the same answer.
type question struct {
	key string
	ask func(context.Context) error
}

// questions are those about a target: its server on this machine, and what the installer itself can find out.
func questions(in *config.Install, target installers.Installer) (list []question) {
	if key, create := localServer(in); create != nil {
		list = append(list, question{key, func(ctx context.Context) error { return create().Examine(ctx) }})
	}
	if e, ok := target.(installers.Examiner); ok {
		list = append(list, question{in.ID(), e.Examine})
	}
	return list
}

// targetFindings examines the targets of the patients' certificates, also those to which no name leads. Nothing is changed.
func (d *Daemon) targetFindings(ctx context.Context, c *config.Config, patients []patient) []control.Finding {
	ctx, cancel := context.WithTimeout(ctx, issuerTime)
	defer cancel()
	wanted, asked := map[string]bool{}, map[string]bool{}
	for _, p := range patients {
		wanted[p.certificate] = true
	}
	var asks []func() *control.Finding
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		made, ok := d.engine.Certificate(cert.Name)
		if !ok || !wanted[cert.Name] {
			continue
		}
		for k := range cert.Install {
			for _, q := range questions(&cert.Install[k], made.Targets[cert.Install[k].ID()]) {
				if !asked[q.key] {
					asked[q.key] = true
					asks = append(asks, func() *control.Finding { return targetFinding(cert, k, q.ask(ctx)) })
				}
			}
		}
	}
	answers := make([]*control.Finding, len(asks))
	var group guard.Group
	group.SetLimit(doctorNames)
	for i, ask := range asks {
		group.Go(func() { answers[i] = ask() })
	}
	group.Wait()
	var list []control.Finding
	for _, f := range answers {
		if f != nil {
			list = append(list, *f)
		}
	}
	return list
}

func targetFinding(cert *config.Certificate, target int, err error) *control.Finding {
	var stopped *installers.NotRunningError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stopped):
		return &control.Finding{Attention: true, What: stopped.Server + " is not running",
			Why: fmt.Sprintf("%s is installed there, and acmed never starts a server", cert.Name),
			Do:  "start it, or remove the target if the server is gone for good"}
	}
	remedy, _ := advice.Lookup(advice.Of(err))
	return &control.Finding{Attention: true, What: fmt.Sprintf("%s: the target %s does not work", cert.Name, cert.Install[target].ID()), Why: err.Error(),
		Do: cmp.Or(remedy.Do, fmt.Sprintf("fix this, or correct certificates[%s].install[%d]", cert.Name, target))}
}
