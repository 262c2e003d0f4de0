package daemon

import (
	"context"
	"strconv"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/command"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

// target is what plugins and hooks learn about a certificate.
func target(c *config.Config, spec *certs.Spec) installers.Target {
	paths := store.PathsIn(c.StateDir, spec.Name)
	return installers.Target{
		Certificate: spec.Name, Names: spec.Identifiers,
		Cert: paths.Cert, Chain: paths.Chain, FullChain: paths.FullChain, Key: paths.Key,
	}
}

// nodeOf is what the fleet calls this machine; "" in none. That it has a name was checked before.
func nodeOf(c *config.Config) string {
	if c.Fleet == nil {
		return ""
	}
	id, _ := c.Fleet.NodeID()
	return id
}

// hooks makes what the operator wants to happen around a new version.
func hooks(conf *config.Hooks, t installers.Target, node string) renewal.Hooks {
	var made renewal.Hooks
	if conf == nil {
		return made
	}
	if len(conf.Pre) > 0 {
		pre := command.Hook{Argv: conf.Pre, Timeout: conf.Timeout, Target: t, Event: "pre", Node: node}
		made.Pre = func(ctx context.Context) error { return pre.Run(ctx, nil) }
	}
	if len(conf.Post) > 0 {
		post := command.Hook{Argv: conf.Post, Timeout: conf.Timeout, Target: t, Event: "post", Node: node}
		made.Post = func(ctx context.Context, b *certs.Bundle, obtained bool) error {
			return post.Run(ctx, b, "ACMED_OBTAINED="+strconv.FormatBool(obtained))
		}
	}
	return made
}
