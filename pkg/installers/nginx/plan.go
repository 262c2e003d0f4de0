package nginx

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/webserver"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// planner decides which bytes of a configuration change so that it serves one bundle. It reads files and writes none.
type planner struct {
	cfg    Config
	target installers.Target
	names  []certs.Identifier
	bundle *certs.Bundle
	tree   *tree
	m      *model
	http2  http2Form
	picks  []*pick
	edits  map[string][]change.Edit // by real path
	copies map[*server][]string     // lines of shared files
	srcs   map[string]*source       // by real path
}

// plan is what an installation will do.
type plan = webserver.Plan[*configuration]

// markerPrefix begins the comments of all certificates.
const markerPrefix = "acmed: "

// marker is the comment behind every line that acmed adds, so that it is known again whatever else changes.
func (p *planner) marker() string { return markerPrefix + p.target.Certificate }

// isManaged reports whether acmed added the directive for this certificate.
func (p *planner) isManaged(d *directive) bool {
	words, _ := comment(d.src.text, d.end)
	return words == p.marker() || words == p.marker()+copiedNote
}

// added reports whether acmed added a listen directive for this certificate.
func (p *planner) added(l listen) bool { return l.d != nil && p.isManaged(l.d) }

// native are the directives of a list that acmed did not add, or copied from another file.
func (p *planner) native(ds []*directive) []*directive {
	return slices.DeleteFunc(slices.Clone(ds), func(d *directive) bool {
		return p.isManaged(d) && !p.isCopied(d) || d.src.path == p.settingsPath()
	})
}

// make plans the edits, then looks at the configuration as it will be and refuses what would come out differently.
func (p *planner) make() (*plan, error) {
	if _, err := p.find(); err != nil {
		return nil, err
	}
	p.edits, p.srcs, p.copies = map[string][]change.Edit{}, map[string]*source{}, map[*server][]string{}
	lines := map[*server][]string{}
	var errs []error
	for _, k := range p.picks {
		list, err := p.secure(k)
		lines[k.Site] = list
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if p.cfg.Redirect {
		p.addRedirects(lines)
	}
	p.reconcileAll(lines)
	return p.finish()
}

// find finds the server blocks, and leaves out the names that have none, with a note for each.
func (p *planner) find() (notes []string, err error) {
	finder := picker{m: p.m, port: p.cfg.Listen}
	found, err := webserver.PickAll(p.names, len(p.cfg.Names) > 0, finder.pickOne)
	p.picks, p.names = found.Sites, found.Names
	return found.Notes, err
}

// notes are what the operator should know about an installation that succeeds.
func (p *planner) notes() ([]string, error) {
	notes, err := p.find()
	for _, k := range p.picks {
		d := k.Site.last("ssl_stapling")
		if d != nil && slices.Equal(d.args(), []string{"on"}) && k.Site.last("ssl_stapling_file") == nil && k.Site.last("ssl_stapling_responder") == nil && webserver.NoOCSP(p.bundle) {
			notes = webserver.AppendNew(notes, d.errorf("ssl_stapling has no effect because the certificate names no OCSP responder; remove the directive").Error())
		}
	}
	return notes, err
}

// secure returns the lines that make a server block serve the bundle, and plans the edits of lines it has.
func (p *planner) secure(k *pick) ([]string, error) {
	if err := p.refuse(k); err != nil {
		return nil, err
	}
	listens, err := p.listenLines(k)
	if err != nil {
		return nil, err
	}
	pairs, err := p.pairLines(k)
	if err != nil {
		return nil, err
	}
	header, err := p.headerLines(k.Site)
	if err != nil {
		return nil, err
	}
	http2, err := p.http2Lines(k)
	if err != nil {
		return nil, err
	}
	p.copies[k.Site] = append(p.keptCopies(k.Site), p.copies[k.Site]...)
	return slices.Concat(listens, pairs, p.settingsLines(), http2, header), nil
}

// refuse names what acmed cannot take over.
func (p *planner) refuse(k *pick) error {
	for _, d := range k.Site.body {
		switch {
		case strings.HasPrefix(d.name(), "ssl_certificate_by_lua"):
			return d.errorf("Lua chooses the certificates of this server block")
		case d.is("ssl_reject_handshake") && d.words[1].value == "on":
			return d.errorf("this server block refuses every handshake, and is the one that answers for %s", strings.Join(k.Names, ", "))
		}
	}
	if k.TLS {
		return nil
	}
	if d := p.trustsProxy(k.Site.http, k.Site.body); d != nil {
		return d.errorf("this sends requests to HTTPS unless a proxy says that they came by it (X-Forwarded-Proto), so with TLS here clients would be "+
			"redirected for ever: install the certificate on the proxy, or write a server block with \"listen %d ssl\"", p.cfg.Listen)
	}
	if d := p.loop(k.Site); d != nil {
		return d.errorf("this server block only redirects to HTTPS, and there is none that answers there: write one with \"listen %d ssl\"", p.cfg.Listen)
	}
	return nil
}

// edit plans one replacement in a file. A file that is reached by two names is edited once.
func (p *planner) edit(src *source, e change.Edit) {
	if !slices.Contains(p.edits[src.real], e) {
		p.edits[src.real] = append(p.edits[src.real], e)
		p.srcs[src.real] = src
	}
}

// reconcileAll makes the lines of all server blocks be the given ones. A file that is included twice gives two blocks with
// one text, of which nginx chooses one.
func (p *planner) reconcileAll(lines map[*server][]string) {
	type text struct {
		file  string
		start int
	}
	done := map[text]bool{}
	for _, wanted := range []bool{true, false} {
		for _, s := range p.m.servers {
			at := text{s.d.src.real, s.d.start}
			if (len(lines[s]) > 0) == wanted && !done[at] {
				done[at] = true
				p.reconcile(s, lines[s])
			}
		}
	}
}

// reconcile makes acmed's lines in a server block be the given ones. When they are already, nothing changes.
func (p *planner) reconcile(s *server, want []string) {
	src := s.d.src
	if len(want) == 0 {
		p.attach(s)
	}
	added := len(want)
	want = append(slices.Clip(want), p.copies[s]...)
	var have []string
	var managed []*directive
	for _, d := range s.d.children {
		if p.isManaged(d) {
			managed = append(managed, d)
			have = append(have, string(src.text[d.start:d.end]))
		}
	}
	if slices.Equal(have, want) {
		return
	}
	if len(want) > 0 {
		lines := make([]string, len(want))
		for i, line := range want {
			lines[i] = line + " # " + p.marker()
			if i >= added {
				lines[i] += copiedNote
			}
		}
		pos, indent := p.anchor(s)
		p.edit(src, insertAfter(src.text, pos, indent, lines))
	}
	for _, d := range managed {
		p.edit(src, removeDirective(d))
	}
}

// anchor is where acmed's lines go, and how far they are indented: behind the last listen or server_name that stands
// before anything that could end a request early, or else at the beginning of the block.
func (p *planner) anchor(s *server) (pos int, indent string) {
	pos = s.d.open
	at := s.d
	for _, d := range p.native(s.d.children) {
		if slices.Contains([]string{"if", "return", "rewrite", "set", "break"}, d.name()) {
			break
		}
		if d.is("listen") || d.is("server_name") {
			pos, at = d.end, d
		}
	}
	text := s.d.src.text
	if indent, first := indentAt(text, at.start); first && at != s.d {
		return pos, indent
	}
	for _, d := range s.d.children {
		if indent, first := indentAt(text, d.start); first {
			return pos, indent
		}
	}
	indent, _ = indentAt(text, s.d.start)
	return pos, indent + "    "
}

// finish turns the edits into files.
func (p *planner) finish() (*plan, error) {
	pl := &plan{Check: p.check, Cures: p.cures}
	if p.cfg.TLSDefaults {
		pl.Min = tls.VersionTLS12 // what these settings offer
	}
	var err error
	if pl.Files, err = p.editedFiles(); err != nil {
		return nil, err
	}
	if settings := p.settingsFile(); settings != nil {
		pl.Files = append(pl.Files, *settings)
	}
	return pl, nil
}

// editedFiles are the files with the planned edits made.
func (p *planner) editedFiles() ([]change.File, error) {
	var files []change.File
	for file, edits := range p.edits {
		src := p.srcs[file]
		content, err := change.Splice(src.text, edits)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", src.path, err)
		}
		files = append(files, change.File{Path: filepath.Clean(src.path), Content: content, Was: change.Hash(src.text), Follow: true})
	}
	slices.SortFunc(files, func(a, b change.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// cures reports whether nginx refuses the configuration because of pairs that the plan replaces or adds: files that are
// gone, such as the twin of a bundle that has none any more, files that were never there, or no pair at all.
func (p *planner) cures(failure string) bool {
	return slices.ContainsFunc(p.picks, func(k *pick) bool {
		missing := slices.ContainsFunc(p.native(k.Site.body), func(d *directive) bool {
			isPair := d.is("ssl_certificate") || d.is("ssl_certificate_key")
			return isPair && strings.Contains(failure, `"`+under(p.tree.prefix, d.words[1].value)+`"`)
		})
		none := strings.Contains(failure, `no "ssl_certificate`) && strings.Contains(failure, " in "+k.Site.d.place())
		return missing || none || p.namesTwin(k, failure)
	})
}

// namesTwin reports whether a failure is about the RSA twin, which a line of acmed names and the bundle does not have.
func (p *planner) namesTwin(k *pick, failure string) bool {
	twin := p.target.Pairs(true)[1]
	return p.bundle.RSA == nil && (strings.Contains(failure, twin.Cert) || strings.Contains(failure, twin.Key)) &&
		len(k.Site.own("ssl_certificate")) > 0
}

// check looks at the configuration with the edits of all targets, refuses what would come out differently, and says where
// the bundle is served.
func (p *planner) check(after *configuration) ([]endpoint.Endpoint, error) {
	if after.tree != p.tree {
		if err := p.checkAfter(after.m); err != nil {
			return nil, err
		}
	}
	return p.endpoints(after.m)
}

// checkAfter looks at the edited configuration: every name is answered by the blocks that were edited for it, and no
// other name is answered by another block than before.
func (p *planner) checkAfter(after *model) error {
	var errs []error
	for _, id := range p.names {
		errs = append(errs, p.checkName(after, id))
	}
	for _, g := range after.groups {
		if p.m.sockets[g.socket] == nil {
			errs = append(errs, p.checkNewSocket(g))
		}
	}
	for _, g := range p.m.groups {
		now := after.sockets[g.socket]
		if now == nil || len(now.servers) == len(g.servers) {
			continue
		}
		for _, name := range g.names.all() {
			s := g.names.find(name)
			if got, _ := now.choose(name); got.index != s.index {
				errs = append(errs, got.d.errorf("with TLS on port %d this server block would take %q at %s away from %s",
					p.cfg.Listen, name, g.socket, s.d.place()))
			}
		}
	}
	return errors.Join(errs...)
}

// checkNewSocket makes sure that a socket for one address takes no names from one for all addresses, except those that had
// no plain HTTP at that address either.
func (p *planner) checkNewSocket(g *group) error {
	all := p.m.sockets[socket{anyIPv4, g.socket.port}]
	if g.socket.is6() {
		all = p.m.sockets[socket{anyIPv6, g.socket.port}]
	}
	if all == nil || g.socket.isAny() || g.socket.port == 0 {
		return nil
	}
	for _, name := range all.names.all() {
		s := all.names.find(name)
		isPicked := slices.ContainsFunc(p.picks, func(k *pick) bool { return k.Site.index == s.index })
		if strings.Contains(name, ".") && !isPicked && !p.m.avoidsName(name, g.socket.host) {
			return g.servers[0].d.errorf("with TLS at %s this server block would take %q at this address away from %s: give that one "+
				"a listen directive for the address", g.socket, name, s.d.place())
		}
	}
	return nil
}

// avoidsName reports whether plain HTTP for a name is not answered by its block at an address: its clients use another one.
func (m *model) avoidsName(name, host string) bool {
	return slices.ContainsFunc(m.groups, func(g *group) bool {
		own := m.sockets[socket{host, g.socket.port}]
		return g.socket.isAny() && g.names.find(name) != nil && !g.tls(g.names.find(name)) && own != nil && own.names.find(name) == nil
	})
}

// avoids reports whether plain HTTP for a block at an address goes to other blocks: its clients use another address.
func (m *model) avoids(s *server, host string) bool {
	for _, l := range s.plainListens() {
		for _, at := range l.sockets() {
			if own := m.sockets[socket{host, at.port}]; own != nil && !slices.Contains(own.servers, s) {
				return true
			}
		}
	}
	return false
}

func (p *planner) checkName(after *model, id certs.Identifier) error {
	found := false
	for _, g := range after.groups {
		s, how := after.answer(g, id)
		if g.socket.port != p.cfg.Listen || s == nil || !g.tls(s) {
			continue
		}
		ours := slices.ContainsFunc(p.picks, func(k *pick) bool { return s.index == k.Site.index })
		if how == byName && !ours {
			return s.d.errorf("this server block would answer for %q at %s instead of the one that was edited", id.Value, g.socket)
		}
		found = found || ours
	}
	if !found {
		return fmt.Errorf("no edited server block would answer for %q on port %d: give it a different server_name", id.Value, p.cfg.Listen)
	}
	return nil
}
