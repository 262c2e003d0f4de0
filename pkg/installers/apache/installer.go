package apache

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// Installer makes one Apache serve one certificate. It is safe for concurrent use.
type Installer = webserver.Installer[*configuration]

var (
	_ installers.Installer   = (*Installer)(nil)
	_ installers.Uninstaller = (*Installer)(nil)
	_ installers.Previewer   = (*Installer)(nil)
	_ installers.Recoverer   = (*Installer)(nil)
	_ installers.Noter       = (*Installer)(nil)
)

// editor is one target of one Apache.
type editor struct {
	cfg    Config
	target installers.Target
	names  []certs.Identifier
}

// New makes an installer. It touches neither network nor disk. Targets of the same Apache (see [Config.ServerKey]) must
// share the target's Server, so that their edits do not meet; without one the installer makes its own.
func New(cfg Config, t installers.Target) (*Installer, error) {
	if err := cfg.Validate(); err != nil {
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

// configuration is what Apache says about its configuration, and the files as they stand.
type configuration struct {
	*model
	enable []module // that Apache needs for TLS and does not load yet; the model is made as if it did
	noTLS  error    // why that is impossible
	layout string
}

// Read asks Apache and reads the files that it read.
func (e *editor) Read(ctx context.Context) (*configuration, error) {
	f, err := e.cfg.ask(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.cfg.checkPIDFile(f); err != nil {
		return nil, err
	}
	c := &configuration{layout: e.cfg.Layout}
	c.enable, c.noTLS = c.files(f, "").resolve("ssl", f.modules, f.root, nil)
	if len(c.enable) > 0 {
		if f, err = e.cfg.ask(ctx, c.enable...); err != nil {
			return nil, err
		}
	}
	c.model, err = buildModel(f, "", nil)
	return c, err
}

// files is where new files go.
func (c *configuration) files(f *facts, certificate string) *layout {
	var included []string
	if c.model != nil {
		included = c.includedDirs()
	}
	return newLayout(c.layout, f.main.path, certificate, included)
}

// Files are all that Apache read, and the directories in which it may find more.
func (c *configuration) Files() []string {
	list := slices.Collect(maps.Keys(c.sources))
	dirs := map[string]bool{}
	for path, src := range c.sources {
		dirs[filepath.Dir(path)] = true
		c.includeDirs(src.root, dirs)
	}
	return slices.AppendSeq(list, maps.Keys(dirs))
}

// includeDirs notes the directories of include directives.
func (c *configuration) includeDirs(ds []*directive, dirs map[string]bool) {
	for _, d := range ds {
		if d.is("Include") || d.is("IncludeOptional") {
			dir := c.path(d)
			for dirs[dir] = true; strings.ContainsAny(dir, "*?["); dir = filepath.Dir(dir) {
				dirs[filepath.Dir(dir)] = true
			}
		}
		c.includeDirs(d.children, dirs)
	}
}

// Names reports whether a virtual host takes its certificate from the file.
func (c *configuration) Names(path string) bool {
	return slices.ContainsFunc(c.vhosts, func(v *vhost) bool {
		return slices.ContainsFunc(v.own("SSLCertificateFile"), func(d *directive) bool { return c.path(d) == path })
	})
}

// Plan decides what changes. After the edit Apache is asked what has become of the virtual hosts.
func (e *editor) Plan(_ context.Context, c *configuration, b *certs.Bundle) (*webserver.Plan[*configuration], error) {
	if c.noTLS != nil {
		return nil, c.noTLS
	}
	p := &planner{cfg: e.cfg, target: e.target, names: e.names, bundle: b, files: c.files(c.facts, e.target.Certificate), enable: c.enable}
	var err error
	for id, wanted := range map[string]bool{"headers": e.cfg.HSTS > 0, "rewrite": e.cfg.Redirect} {
		if !wanted {
			continue
		}
		if p.enable, err = p.files.resolve(id, c.modules, c.root, p.enable); err != nil {
			return nil, err
		}
	}
	if p.m, err = buildModel(c.fresh(), e.target.Certificate, c.model); err != nil {
		return nil, err
	}
	plan := &webserver.Plan[*configuration]{Log: installers.LogTail{Path: c.errorLog}, Cures: p.cures}
	if plan.Files, err = p.make(); err != nil {
		return nil, err
	}
	plan.Check = func(after *configuration) ([]endpoint.Endpoint, error) {
		s := e.served(after)
		if after != c {
			if err := s.unharmed(p.m); err != nil {
				return nil, err
			}
		}
		return s.endpoints()
	}
	return plan, nil
}

// served is what the configuration as it stands makes of the names.
func (e *editor) served(c *configuration) *served {
	s := &served{cfg: e.cfg, m: c.model, target: e.target, names: e.names}
	if found, err := pickAll(s.m, &e.cfg, e.names); err == nil { // without a site for any name, the endpoints say why
		s.names = found.Names
	}
	return s
}

// Notes are what the operator should know.
func (e *editor) Notes(c *configuration, b *certs.Bundle) ([]string, error) {
	found, err := pickAll(c.model, &e.cfg, e.names)
	notes := found.Notes
	for _, k := range found.Sites {
		d := c.last(k.Site, "SSLUseStapling")
		if d != nil && strings.EqualFold(c.value(d), "on") && c.last(k.Site, "SSLStaplingForceURL") == nil && webserver.NoOCSP(b) {
			notes = webserver.AppendNew(notes, d.errorf("SSLUseStapling has no effect because the certificate names no OCSP responder, and Apache logs an error at each start; "+
				"remove the directive").Error())
		}
	}
	return notes, err
}

// Endpoints are where the names are answered with TLS.
func (e *editor) Endpoints(c *configuration) ([]endpoint.Endpoint, error) {
	return e.served(c).endpoints()
}

// Withdraw takes acmed's lines out of the files of an undo record. What several certificates share stays until the last
// of them goes; a configuration that Apache cannot read keeps it, because nobody can tell.
func (e *editor) Withdraw(ctx context.Context, originals []change.Original) ([]change.File, error) {
	own := slices.DeleteFunc(slices.Clone(originals), func(o change.Original) bool {
		return filepath.Base(o.Path) == sharedName || filepath.Base(filepath.Dir(o.Path)) == "mods-enabled"
	})
	files, err := webserver.WithdrawAll(own, func(o change.Original, now []byte) ([]byte, error) {
		text, _, err := withdraw(o.Path, now, e.target.Certificate)
		return text, err
	})
	c, readErr := e.Read(ctx)
	if readErr != nil {
		return files, err
	}
	shared, err2 := c.takeShared(c.files(c.facts, e.target.Certificate))
	return append(files, shared...), errors.Join(err, err2)
}
