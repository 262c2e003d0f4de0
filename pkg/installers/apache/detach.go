package apache

import (
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers/webserver"
)

// A file that several virtual hosts include, or that a package brings, is not edited. The virtual host stops including it,
// and all that the file says besides certificates is copied into the virtual host.

// isShared reports whether a directive of a virtual host stands in a file that is not its own alone. A file that another one
// stopped including is for that one too.
func (p *planner) isShared(d *directive, v *vhost) bool {
	return d.src != v.d.src && (webserver.FromPackage(d.src.real) || slices.ContainsFunc(p.m.vhosts, func(other *vhost) bool {
		isPicked := slices.ContainsFunc(p.picks, func(k *pick) bool { return k.Site == other && k.TLS })
		uses := slices.Contains(p.m.users[d.src], other) && !isPicked
		return other != v && (uses || other.d != nil && other.switchedOff(p.target.Certificate))
	}))
}

// switchedOff reports whether acmed switched an include off in the file of the virtual host, for another certificate.
func (v *vhost) switchedOff(certificate string) bool {
	for line := range strings.Lines(string(v.d.src.disk)) {
		mark, rest, found := strings.Cut(strings.TrimSpace(line), ": ")
		if found && strings.HasPrefix(mark, markOff) && mark != markOff+certificate && strings.HasPrefix(strings.ToLower(rest), "include") {
			return true
		}
	}
	return false
}

// detach switches off the includes of shared files with a certificate, and returns their other lines and the directives that
// are gone with them.
func (p *planner) detach(v *vhost, old []*directive) (lines []string, gone map[*directive]bool, err error) {
	gone = map[*directive]bool{}
	for _, d := range old {
		if gone[d] || !p.isShared(d, v) {
			continue
		}
		include, files := p.includeOf(p.m.first[v.file], v.d.children, d.src)
		if include == nil {
			return nil, nil, d.errorf("this file is for several virtual hosts: give %s:%d its own certificate directives", v.file, v.line)
		}
		more, err := p.copiesOf(v, files, gone)
		if err != nil {
			return nil, nil, err
		}
		p.edit(include.src, switchOff(include, p.target.Certificate))
		lines = append(lines, more...)
	}
	return lines, gone, nil
}

// includeOf is the directive among ds that makes Apache read a file, and the files that it makes Apache read.
func (p *planner) includeOf(inc *include, ds []*directive, src *source) (*directive, []*include) {
	for _, d := range ds {
		if d.isCondition() {
			if found, files := p.includeOf(inc, d.children, src); found != nil {
				return found, files
			}
		}
		files := p.m.includedBy(inc, d)
		if slices.ContainsFunc(files, func(f *include) bool { return p.leadsTo(f, src) }) {
			return d, files
		}
	}
	return nil, nil
}

// includedBy are the files that an include directive makes Apache read.
func (m *model) includedBy(inc *include, d *directive) (files []*include) {
	for _, child := range inc.children {
		if (d.is("Include") || d.is("IncludeOptional")) && d.src.clean(child.line) == d.line {
			files = append(files, child)
		}
	}
	return files
}

func (p *planner) leadsTo(inc *include, src *source) bool {
	return p.m.sources[inc.path] == src || slices.ContainsFunc(inc.children, func(c *include) bool { return p.leadsTo(c, src) })
}

// copiesOf are the lines of files without certificates, which are noted as gone.
func (p *planner) copiesOf(v *vhost, files []*include, gone map[*directive]bool) (lines []string, err error) {
	for _, inc := range files {
		for _, d := range p.m.sources[inc.path].root {
			nested := p.m.includedBy(inc, d)
			switch {
			case slices.ContainsFunc(certificateDirectives(), d.is):
				gone[d] = true
			case slices.ContainsFunc(nested, p.hasCertificates):
				more, err := p.copiesOf(v, nested, gone)
				if err != nil {
					return nil, err
				}
				lines = append(lines, more...)
			case holdsCertificates(d.children):
				return nil, d.errorf("a certificate stands under a condition in this file, which is for several virtual hosts: give %s:%d its own "+
					"certificate directives", v.file, v.line)
			default:
				lines = append(lines, strings.TrimRight(string(d.src.text[d.start:max(d.end, d.closeEnd)]), "\r\n"))
			}
		}
	}
	return lines, nil
}

// hasCertificates reports whether a file leads to certificate directives.
func (p *planner) hasCertificates(inc *include) bool {
	return holdsCertificates(p.m.sources[inc.path].root) || slices.ContainsFunc(inc.children, p.hasCertificates)
}

// holdsCertificates reports whether there is a certificate directive among ds or in their sections.
func holdsCertificates(ds []*directive) bool {
	return slices.ContainsFunc(ds, func(d *directive) bool {
		return slices.ContainsFunc(certificateDirectives(), d.is) || holdsCertificates(d.children)
	})
}
