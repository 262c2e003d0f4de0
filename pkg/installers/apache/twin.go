package apache

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/acmed/acmed/pkg/certs"
)

// twinHeader begins the file of twins.
const twinHeader = "# Written by acmed: the virtual hosts of the certificate %s with TLS, copied from those without. Changes are kept.\n"

// twinFiles brings the file of twins up to date: new ones are added, those of virtual hosts that the certificate is no
// longer for go, and what was edited in the others stays.
func (p *planner) twinFiles() ([]change.File, error) {
	added, err := p.newTwins()
	if err != nil {
		return nil, err
	}
	src := p.ownTwins()
	switch {
	case src == nil && added == "":
		return nil, nil
	case src == nil:
		return p.newTwinFile(added)
	case src.err != nil:
		return nil, src.err
	}
	edits := p.edits[src]
	kept := added != ""
	for _, d := range src.root {
		switch {
		case !d.isSection("VirtualHost"):
		case slices.ContainsFunc(p.picks, func(k *pick) bool { return k.Site.d == d }):
			kept = true
		default:
			edits = append(edits, change.Edit{Start: lineStart(src.text, d.start), End: d.closeEnd})
		}
	}
	if !kept {
		return p.files.removal(src), nil
	}
	content, err := change.Splice(src.text, append(edits, change.Edit{Start: len(src.text), End: len(src.text), Text: added}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.path, err)
	}
	if string(content) == string(src.disk) {
		return nil, nil
	}
	return []change.File{{Path: filepath.Clean(src.path), Content: content, Was: change.Hash(src.disk), Follow: true}}, nil
}

// newTwins are the virtual hosts that the file of twins does not have yet.
func (p *planner) newTwins() (string, error) {
	var text strings.Builder
	for i, k := range p.picks {
		if k.TLS {
			continue
		}
		if err := p.refuseRival(k, p.picks[:i]); err != nil {
			return "", err
		}
		twin, err := p.twin(k)
		if err != nil {
			return "", err
		}
		text.WriteString(twin)
	}
	return text.String(), nil
}

// ownTwins is the file of twins as Apache reads it now, or nil.
func (p *planner) ownTwins() *source {
	for _, src := range p.m.order {
		if p.files.isTwins(src.path) {
			return src
		}
	}
	return nil
}

// newTwinFile is the file of twins for the first time.
func (p *planner) newTwinFile(vhosts string) ([]change.File, error) {
	path, link, err := p.files.newTwins(p.lastDefault())
	if err != nil {
		return nil, err
	}
	for _, name := range []string{path, link} {
		if exists(name) {
			return nil, fmt.Errorf("%s exists, and Apache does not include it: remove it, or enable it", name)
		}
	}
	content := fmt.Sprintf(twinHeader, p.target.Certificate) + vhosts
	files := []change.File{{Path: path, Content: []byte(content), Was: change.Absent}}
	if link != "" {
		files = append(files, relativeLink(link, path))
	}
	return files, nil
}

// relativeLink is a symbolic link as a2ensite and a2enmod make it.
func relativeLink(link, target string) change.File {
	return change.File{
		Path: link, Link: filepath.Join("..", filepath.Base(filepath.Dir(target)), filepath.Base(target)), Was: change.Absent,
	}
}

// lastDefault is the file with the virtual host that answers by default on the TLS port; "" when there is none. A new
// virtual host must not come before it.
func (p *planner) lastDefault() string {
	last := ""
	for _, g := range p.m.groups {
		if g.port == p.cfg.Listen && len(g.vhosts) > 0 {
			last = max(last, g.vhosts[0].file)
		}
	}
	return last
}

// twin is a copy of a virtual host for the TLS port.
func (p *planner) twin(k *pick) (string, error) {
	v := k.Site
	if d := p.trustsProxy(v); d != nil {
		return "", d.errorf("this sends requests to HTTPS unless a proxy says that they came by it (X-Forwarded-Proto), so with TLS here clients would be "+
			"redirected for ever: install the certificate on the proxy, or write a virtual host for port %d", p.cfg.Listen)
	}
	if d := p.loop(v); d != nil {
		return "", d.errorf("this virtual host only redirects to HTTPS, and there is none that answers there: write one for port %d", p.cfg.Listen)
	}
	if other := v.manager(p.target.Certificate); other != "" {
		return "", v.errorf("this virtual host answers for %s, and acmed serves the certificate %q here: put the names into one certificate",
			strings.Join(k.Names, ", "), other)
	}
	for _, d := range v.own(certificateDirectives()...) {
		return "", d.errorf("this virtual host has a certificate, and is not on port %d: set \"listen\" to its port", p.cfg.Listen)
	}
	for _, d := range v.own("SSLEngine") {
		if d.src != v.d.src {
			return "", d.errorf("SSLEngine is %q here, and the virtual host with TLS would include this file too: move the line into %s:%d",
				text.Short(p.m.value(d), text.Value), v.file, v.line)
		}
	}
	if err := p.checkCiphers(v); err != nil {
		return "", err
	}
	addrs, err := p.twinAddresses(v)
	if err != nil {
		return "", err
	}
	lines, err := p.newPairs()
	if err != nil {
		return "", err
	}
	header, err := p.headerLines(v)
	if err != nil {
		return "", err
	}
	lines = slices.Concat([]string{"SSLEngine on"}, lines, header, p.twinNames(k))
	nl, indent := newline(v.d.src.text, v.d.close), "    "
	if i := slices.IndexFunc(v.d.children, func(c *directive) bool { return c.twinNote() == "" }); i >= 0 {
		indent = indentAt(v.d.src.text, v.d.children[i].start)
	}
	return nl + "<VirtualHost " + strings.Join(addrs, " ") + ">" + nl + twinBody(v) +
		marked(indent, nl, p.target.Certificate, lines) + "</VirtualHost>" + nl, nil
}

// twinAddresses are the addresses of a virtual host without TLS, with the TLS port.
func (p *planner) twinAddresses(v *vhost) ([]string, error) {
	var list []string
	port := 0
	for _, g := range p.m.plainGroups(v, p.cfg.Listen) {
		if port != 0 && g.port != port {
			return nil, v.errorf("this virtual host answers on the ports %d and %d: write one with TLS for port %d", port, g.port, p.cfg.Listen)
		}
		port = g.port
		host := g.host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		list = append(list, host+":"+strconv.Itoa(p.cfg.Listen))
	}
	return list, nil
}

// refuseRival refuses a virtual host whose twin would stand behind that of another one for the same names.
func (p *planner) refuseRival(k *pick, others []*pick) error {
	addrs, err := p.twinAddresses(k.Site)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.TLS {
			continue
		}
		taken, err := p.twinAddresses(other.Site)
		if err != nil {
			return err
		}
		for _, name := range k.Names {
			if slices.Contains(other.Names, name) && slices.ContainsFunc(addrs, func(a string) bool { return slices.Contains(taken, a) }) {
				return k.Site.errorf("this virtual host answers for %s, and %s:%d on another port: write one with TLS for port %d",
					name, other.Site.file, other.Site.line, p.cfg.Listen)
			}
		}
	}
	return nil
}

// plainGroups are where a virtual host is found without TLS: on port 80, or else on its other ports.
func (m *model) plainGroups(v *vhost, tlsPort int) []*group {
	var on80, others []*group
	for _, g := range m.groups {
		switch {
		case !slices.Contains(g.vhosts, v) || g.port == tlsPort:
		case m.reaches(g, httpPort):
			on80 = append(on80, g)
		default:
			others = append(others, g)
		}
	}
	if len(on80) > 0 {
		return on80
	}
	return others
}

// twinNames are names for the twin of a virtual host that has none: without them it would only answer if it came first.
func (p *planner) twinNames(k *pick) []string {
	if !k.Site.catchAll {
		return nil
	}
	var names []string
	for _, id := range p.names {
		if id.Type == certs.DNS && slices.Contains(k.Names, id.Value) {
			names = append(names, id.Value)
		}
	}
	if len(names) == 0 {
		return nil
	}
	lines := []string{"ServerName " + names[0]}
	if len(names) > 1 {
		lines = append(lines, "ServerAlias "+strings.Join(names[1:], " "))
	}
	return lines
}

// twinNote comments out what must not be in a twin. A WSGI daemon can be made once for each name and is shared by the
// twin; that TLS is off is only true without it.
func (d *directive) twinNote() string {
	switch {
	case d.is("WSGIDaemonProcess"):
		return "# (shared with the virtual host without TLS) "
	case d.is("SSLEngine"):
		return "# (for the virtual host without TLS) "
	}
	return ""
}

// namedPort is where a ServerName says a port. In a twin it would send clients to https on that of plain HTTP.
func (d *directive) namedPort() (from, to int) {
	name, _ := word(d.args)
	at := strings.LastIndexByte(name, ':')
	if !d.is("ServerName") || at < 0 || strings.Trim(name[at+1:], "0123456789") != "" {
		return 0, 0
	}
	start := strings.Index(string(d.src.text[d.start:d.end]), name)
	if start < 0 {
		return 0, 0
	}
	return d.start + start + at, d.start + start + len(name)
}

// twinBody is what is inside a virtual host.
func twinBody(v *vhost) string {
	d := v.d
	var edits []change.Edit
	for _, c := range v.body {
		if from, to := c.namedPort(); to > from && c.src == d.src {
			edits = append(edits, change.Edit{Start: from - d.end, End: to - d.end})
		}
		if note := c.twinNote(); note != "" && c.src == d.src {
			edits = append(edits, change.Edit{Start: c.start - d.end, End: c.start - d.end, Text: note})
		}
	}
	body, err := change.Splice(d.src.text[d.end:d.close], edits)
	if err != nil {
		return string(d.src.text[d.end:d.close])
	}
	return string(body)
}
