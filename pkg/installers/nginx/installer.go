package nginx

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// Installer makes one nginx serve one certificate. It is safe for concurrent use.
type Installer = webserver.Installer[*configuration]

var (
	_ installers.Installer   = (*Installer)(nil)
	_ installers.Uninstaller = (*Installer)(nil)
	_ installers.Previewer   = (*Installer)(nil)
	_ installers.Recoverer   = (*Installer)(nil)
	_ installers.Noter       = (*Installer)(nil)
)

// editor is one target of one nginx.
type editor struct {
	cfg    Config
	target installers.Target
	names  []certs.Identifier
}

// New makes an installer. It touches neither network nor disk. Targets of the same nginx (see [Config.ServerKey]) must
// share the target's Server, so that their edits do not meet; without one the installer makes its own.
func New(cfg Config, t installers.Target) (*Installer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := certs.CheckName(t.Certificate); err != nil {
		return nil, err
	}
	names, err := t.Select(cfg.Names)
	if err != nil {
		return nil, err
	}
	if t.Server == nil {
		t.Server = NewServer(cfg)
	}
	e := &editor{cfg: cfg.withDefaults(), target: t, names: names}
	return webserver.New[*configuration](t, e, e.cfg.VerifyTimeout), nil
}

// configuration is what nginx reads, and what the binary says about itself.
type configuration struct {
	build build
	tree  *tree
	m     *model
}

// Names reports whether a server block takes its certificate from the file.
func (c *configuration) Names(path string) bool {
	return slices.ContainsFunc(c.m.servers, func(s *server) bool {
		return slices.ContainsFunc(s.own("ssl_certificate"), func(d *directive) bool { return d.words[1].value == path })
	})
}

// ask asks the binary about itself, once for each state of it where the server is known.
func (e *editor) ask(ctx context.Context, question installers.Command) ([]byte, error) {
	if e.target.Server == nil {
		return question.Run(ctx)
	}
	return e.target.Server.Ask(ctx, question)
}

// Read reads the configuration as it is now.
func (e *editor) Read(ctx context.Context) (*configuration, error) {
	info, err := e.cfg.inspect(ctx, e.ask)
	if err != nil {
		return nil, err
	}
	t, err := load(info.config, nil)
	if err != nil {
		return nil, err
	}
	m, err := buildModel(t, resolver(ctx))
	if err != nil {
		return nil, err
	}
	return &configuration{info, t, m}, nil
}

func (e *editor) planner(c *configuration, b *certs.Bundle) *planner {
	return &planner{cfg: e.cfg, target: e.target, names: e.names, bundle: b, tree: c.tree, m: c.m, http2: c.build.http2}
}

// Plan decides what changes.
func (e *editor) Plan(_ context.Context, c *configuration, b *certs.Bundle) (*plan, error) {
	made, err := e.planner(c, b).make()
	if err == nil {
		made.Log = errorLog(c)
	}
	return made, err
}

// Foresee reads the configuration with other content in some files.
func (e *editor) Foresee(c *configuration, files []change.File) (*configuration, error) {
	overlay := map[string][]byte{}
	for _, f := range files {
		overlay[realPath(f.Path)] = f.Content
	}
	after, err := c.tree.with(overlay)
	if err != nil {
		return nil, fmt.Errorf("the edited configuration cannot be read: %w", err)
	}
	m, err := buildModel(after, c.m.find)
	if err != nil {
		return nil, fmt.Errorf("the edited configuration cannot be read: %w", err)
	}
	if len(m.servers) != len(c.m.servers) {
		return nil, fmt.Errorf("the edited configuration has %d server blocks instead of %d", len(m.servers), len(c.m.servers))
	}
	return &configuration{c.build, after, m}, nil
}

func realPath(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return path
}

// Files are all that nginx read.
func (c *configuration) Files() []string {
	list := slices.Collect(maps.Keys(c.tree.dirs))
	for path := range c.tree.sources {
		list = append(list, path)
	}
	return list
}

// Endpoints are where the names are answered with TLS.
func (e *editor) Endpoints(c *configuration) ([]endpoint.Endpoint, error) {
	p := e.planner(c, nil)
	if _, err := p.find(); err != nil {
		return nil, err
	}
	for _, k := range p.picks {
		if !k.TLS {
			return nil, k.Site.d.errorf("this server block does not answer for %q with TLS on port %d", k.Names[0], e.cfg.Listen)
		}
	}
	return p.endpoints(p.m)
}

// Notes are what the operator should know.
func (e *editor) Notes(c *configuration, b *certs.Bundle) ([]string, error) {
	return e.planner(c, b).notes()
}

// Withdraw takes acmed's lines out of the files of an undo record.
func (e *editor) Withdraw(_ context.Context, originals []change.Original) ([]change.File, error) {
	return webserver.WithdrawAll(originals, func(o change.Original, now []byte) ([]byte, error) {
		return e.unmerge(o.Path, o.Content, now)
	})
}

// resolver asks the system for the addresses of a host name, as nginx does. A name without an address stands for itself:
// nginx's own test refuses it.
func resolver(ctx context.Context) lookup {
	return func(host string) []string {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil || len(addrs) == 0 {
			return []string{host}
		}
		return addrs
	}
}

// lookupTimeout bounds one look-up. Host names in listen directives come from /etc/hosts; others would keep nginx from
// starting whenever the network is not there yet.
const lookupTimeout = 5 * time.Second

// errorLog is the last error_log of the main context that is a file, or the one built in.
func errorLog(c *configuration) installers.LogTail {
	path := c.build.errorLog
	for _, d := range slices.Backward(c.tree.main.root) {
		if d.is("error_log") {
			path = d.words[1].value
			break
		}
	}
	if path == "stderr" || strings.Contains(path, ":") {
		return installers.LogTail{}
	}
	return installers.LogTail{Path: under(c.build.prefix, path)}
}
