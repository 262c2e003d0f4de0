package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/apache"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/nginx"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// Route makes a web server forward the challenges for some names to acmed. The lines for it are marked with the name of
// the certificate, and the mark says whether they are as acmed wrote them.
type Route struct {
	installers.ChallengeRoute
	Server Server

	remove bool
}

// same compares servers as their YAML does: a number is one whatever its type.
func (s Server) same(o Server) bool {
	return s.Kind == o.Kind && fmt.Sprint(s.Settings) == fmt.Sprint(o.Settings)
}

// control is the server itself: how it is tested and reloaded.
func (s Server) control() (*installers.Server, error) {
	switch s.Kind {
	case Nginx:
		var cfg nginx.Config
		err := decode(s.Settings, &cfg, cfg.Validate)
		return nginx.NewServer(cfg), err
	case Apache:
		var cfg apache.Config
		err := decode(s.Settings, &cfg, cfg.Validate)
		return apache.NewServer(cfg), err
	}
	return nil, fmt.Errorf("%q is not a web server that acmed edits", s.Kind)
}

// planRoutes plans the lines of routes through one server.
func planRoutes(ctx context.Context, s Server, routes []installers.ChallengeRoute) (*webserver.Routes, error) {
	switch s.Kind {
	case Nginx:
		var cfg nginx.Config
		if err := decode(s.Settings, &cfg, cfg.Validate); err != nil {
			return nil, err
		}
		return nginx.RouteChallenges(ctx, cfg, routes)
	case Apache:
		var cfg apache.Config
		if err := decode(s.Settings, &cfg, cfg.Validate); err != nil {
			return nil, err
		}
		return apache.RouteChallenges(ctx, cfg, routes)
	}
	return nil, fmt.Errorf("%q is not a web server that acmed edits", s.Kind)
}

// route adds the edits for the routes to a change, with the tests and reloads of their servers.
func (c *Change) route(ctx context.Context, edit *change.Change) error {
	var servers []Server
	for _, r := range c.Routes {
		if !slices.ContainsFunc(servers, r.Server.same) {
			servers = append(servers, r.Server)
		}
	}
	plan, err := c.planRoutes(ctx, servers)
	if err != nil || len(plan.Files)+len(plan.Doors) == 0 {
		return err
	}
	if err := noteServers(c.journal, servers); err != nil {
		return err
	}
	edit.Files, edit.Always = append(edit.Files, plan.Files...), true
	if edit.Test, edit.Reload, err = controls(servers); err != nil {
		return err
	}
	if len(plan.Doors) > 0 {
		edit.Probe = plan.Verify
	}
	return nil
}

func (c *Change) planRoutes(ctx context.Context, servers []Server) (*webserver.Routes, error) {
	all := &webserver.Routes{}
	if len(c.Routes) > 0 && c.Routes[0].remove {
		files, err := c.unroute(ctx)
		all.Files = files
		return all, err
	}
	for _, s := range servers {
		var routes []installers.ChallengeRoute
		for _, r := range c.Routes {
			if s.same(r.Server) {
				routes = append(routes, r.ChallengeRoute)
			}
		}
		more, err := planRoutes(ctx, s, routes)
		if err != nil {
			return nil, err
		}
		all.Files, all.Doors = append(all.Files, more.Files...), append(all.Doors, more.Doors...)
	}
	return all, nil
}

// controls test and reload several servers.
func controls(servers []Server) (test, reload func(context.Context) error, err error) {
	var list []*installers.Server
	for _, s := range servers {
		control, err := s.control()
		if err != nil {
			return nil, nil, err
		}
		list = append(list, control)
	}
	test = func(ctx context.Context) error {
		for _, s := range list {
			if err := s.Test(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	reload = func(ctx context.Context) error {
		var errs []error
		for _, s := range list {
			errs = append(errs, s.Reload(ctx))
		}
		return errors.Join(errs...)
	}
	return test, reload, nil
}

// unroute takes the lines of the routes out of all files that the journal knows. With the last ones go the modules that
// were enabled for them.
func (c *Change) unroute(ctx context.Context) ([]change.File, error) {
	list, err := change.Originals(ctx, c.journal)
	if err != nil {
		return nil, err
	}
	var files, links []change.File
	left := false
	for _, o := range list {
		if target := enabledBy(o); target != "" {
			links = append(links, change.File{Path: o.Path, Link: target, Remove: true})
		}
		if !isRouted(o) {
			continue
		}
		now, err := installers.ReadRegular(o.Path)
		if err != nil {
			return nil, err
		}
		text := now
		for _, r := range c.Routes {
			if text, err = installers.RemoveRoute(o.Path, text, r.Certificate); err != nil {
				return nil, err
			}
		}
		left = left || installers.HasRoute(text)
		if len(text) != len(now) {
			files = append(files, change.File{Path: o.Path, Content: text, Was: change.Hash(now)})
		}
	}
	if !left {
		files = append(files, links...)
	}
	return files, nil
}

// isRouted reports a file that has lines of a route now.
func isRouted(o change.Original) bool {
	if !o.Existed {
		return false
	}
	now, err := installers.ReadRegular(o.Path)
	return err == nil && installers.HasRoute(now)
}

// enabledBy is the target of a link that a route made; "" when there is none of it.
func enabledBy(o change.Original) string {
	target, err := os.Readlink(o.Path)
	if err != nil || o.Existed || change.LinkHash(target) != o.Written {
		return ""
	}
	return target
}
