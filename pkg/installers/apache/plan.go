package apache

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/installers/change"
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
	m      *model
	files  *layout
	enable []module // modules that Apache does not load yet
	picks  []*pick
	edits  map[*source][]change.Edit
}

// make plans all edits.
func (p *planner) make() ([]change.File, error) {
	found, err := pickAll(p.m, &p.cfg, p.names)
	if err != nil {
		return nil, err
	}
	p.picks, p.names = found.Sites, found.Names
	if err := p.m.checkPairs(p.picks); err != nil {
		return nil, err
	}
	p.edits = map[*source][]change.Edit{}
	var errs []error
	for _, k := range p.picks {
		if k.TLS {
			errs = append(errs, p.secure(k))
		}
	}
	errs = append(errs, p.addRedirects())
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	twins, err := p.twinFiles()
	if err != nil {
		return nil, err
	}
	shared, err := p.sharedFiles()
	if err != nil {
		return nil, err
	}
	edited, err := p.editedFiles()
	if err != nil {
		return nil, err
	}
	return slices.Concat(shared, edited, twins), nil
}

// secure makes a virtual host on the TLS port serve the bundle.
func (p *planner) secure(k *pick) error {
	if err := p.refuse(k); err != nil {
		return err
	}
	lines, err := p.pairLines(k.Site)
	if err != nil {
		return err
	}
	if k.Site.engine == "" {
		lines = append([]string{"SSLEngine on"}, lines...)
	}
	header, err := p.headerLines(k.Site)
	if err != nil {
		return err
	}
	lines = append(lines, header...)
	if p.files.isTwins(k.Site.file) {
		lines = append(lines, p.twinNames(k)...)
	}
	if len(lines) > 0 {
		p.edit(k.Site.d.src, block(k.Site.d, k.Site.d.close, p.target.Certificate, lines))
	}
	return nil
}

func (p *planner) edit(src *source, e change.Edit) {
	if !slices.Contains(p.edits[src], e) {
		p.edits[src] = append(p.edits[src], e)
	}
}

// refuse names what acmed cannot take over.
func (p *planner) refuse(k *pick) error {
	v := k.Site
	if other := v.manager(p.target.Certificate); other != "" {
		return v.errorf("this virtual host answers for %s, and acmed serves the certificate %q here: put the names into one certificate",
			strings.Join(k.Names, ", "), other)
	}
	for _, d := range v.own("SSLEngine") {
		if value := p.m.value(d); !strings.EqualFold(value, "on") {
			return d.errorf("this virtual host answers for %s on port %d, and SSLEngine is %q here: make it \"on\"",
				strings.Join(k.Names, ", "), p.cfg.Listen, text.Short(value, text.Value))
		}
	}
	if p.m.tls(v) {
		return nil
	}
	for _, g := range p.m.groups {
		if slices.Contains(g.vhosts, v) && g.port != p.cfg.Listen {
			return v.errorf("this virtual host answers on port %d and, without TLS, on others: split it in two", p.cfg.Listen)
		}
	}
	return nil
}

// manager is another certificate that acmed serves in a virtual host, or "".
func (v *vhost) manager(certificate string) string {
	text := string(v.d.src.text[v.d.end:v.d.close])
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), markBegin)
		if ok && name != certificate {
			return name
		}
	}
	return ""
}

// certificateDirectives are those that decide which certificates and chains a virtual host serves.
func certificateDirectives() []string {
	return []string{"SSLCertificateFile", "SSLCertificateKeyFile", "SSLCertificateChainFile"}
}

// pairLines are the lines that point the virtual host at the bundle. Apache serves all certificates that it is given, so
// those that are there are switched off. When they are the right ones already there is nothing to do.
func (p *planner) pairLines(v *vhost) ([]string, error) {
	old := v.own(certificateDirectives()...)
	if p.isServed(old) {
		return nil, nil
	}
	if global := named(p.m.global, certificateDirectives()...); len(global) > 0 {
		return nil, global[0].errorf("this line is for all virtual hosts, and Apache would serve its certificate at %s:%d too: move it into those that it is for",
			v.file, v.line)
	}
	if err := errors.Join(p.checkOld(v, old), p.checkCiphers(v)); err != nil {
		return nil, err
	}
	copies, gone, err := p.detach(v, old)
	if err != nil {
		return nil, err
	}
	for _, d := range old {
		if !gone[d] {
			p.edit(d.src, switchOff(d, p.target.Certificate))
		}
	}
	lines, err := p.newPairs()
	return append(lines, copies...), err
}

func (p *planner) newPairs() ([]string, error) {
	var lines []string
	for _, pair := range p.target.Pairs(p.bundle.RSA != nil) {
		cert, ok := quote(pair.Cert)
		key, ok2 := quote(pair.Key)
		if !ok || !ok2 {
			return nil, fmt.Errorf("the path %q cannot be written into an Apache configuration", pair.Cert)
		}
		lines = append(lines, "SSLCertificateFile "+cert, "SSLCertificateKeyFile "+key)
	}
	return lines, nil
}

// isServed reports whether the operator's own directives are those that acmed would write.
func (p *planner) isServed(old []*directive) bool {
	var have, want []string
	for _, d := range old {
		have = append(have, strings.ToLower(d.name)+" "+p.m.path(d))
	}
	for _, pair := range p.target.Pairs(p.bundle.RSA != nil) {
		want = append(want, "sslcertificatefile "+pair.Cert, "sslcertificatekeyfile "+pair.Key)
	}
	return slices.Equal(have, want)
}

// checkCiphers refuses a virtual host whose cipher list has nothing for the keys of the bundle, unless acmed's own lines are
// there already: then a look at who can connect decides.
func (p *planner) checkCiphers(v *vhost) error {
	if bytes.Contains(v.d.src.disk, []byte(markBegin+p.target.Certificate+"\n")) {
		return nil
	}
	protocols := p.m.last(v, "SSLProtocol")
	if protocols != nil && !slices.ContainsFunc(words(protocols.args), func(w string) bool {
		return !slices.Contains([]string{"-all", "tlsv1.3", "+tlsv1.3"}, strings.ToLower(w))
	}) {
		return nil
	}
	list := p.m.last(v, "SSLCipherSuite")
	if list == nil {
		return nil
	}
	args := words(list.args)
	if len(args) == 2 && strings.EqualFold(args[0], "SSL") {
		args = args[1:]
	}
	if len(args) == 1 && webserver.Unfit(p.m.expand(args[0]), p.bundle) {
		return advice.Tag(advice.ClientsLockedOut, list.errorf("%s", webserver.UnfitReason))
	}
	return nil
}

// last is the last directive of that name in the virtual host, or else of the main server, or nil.
func (m *model) last(v *vhost, name string) *directive {
	for _, body := range [][]*directive{v.body, m.global} {
		if list := named(body, name); len(list) > 0 {
			return list[len(list)-1]
		}
	}
	return nil
}

// checkOld refuses to take over certificates that OpenSSL's own commands choose, or that cover names of this virtual host
// which the new one does not.
func (p *planner) checkOld(v *vhost, old []*directive) error {
	for _, d := range v.own("SSLOpenSSLConfCmd") {
		if name := strings.ToLower(p.m.value(d)); name == "certificate" || name == "privatekey" {
			return d.errorf("SSLOpenSSLConfCmd chooses the certificate of this virtual host")
		}
	}
	for _, d := range old {
		if !d.is("SSLCertificateFile") {
			continue
		}
		if name := webserver.Lost(v.names, p.m.path(d), p.bundle.Leaf); name != "" {
			return d.errorf("the certificate here covers %q, which %q does not: add the name to the certificate or take it out of the virtual host",
				name, p.target.Certificate)
		}
	}
	return nil
}

// absentFile is what Apache says about a certificate or key file that is not there, with the place of the directive.
var absentFile = regexp.MustCompile(`Syntax error on line (\d+) of (.+?):(?:\\n|\s)+SSLCertificate(?:Key|Chain)?File: file `)

// cures reports whether Apache refuses the configuration because of a pair that the plan replaces: files that were never
// there, or that are gone, such as the twin of a bundle that has none any more.
func (p *planner) cures(failure string) bool {
	found := absentFile.FindStringSubmatch(failure)
	if found == nil || p.m.sources[found[2]] == nil {
		return false
	}
	src := p.m.sources[found[2]]
	number, _ := strconv.Atoi(found[1]) // digits
	line := src.clean(number)
	return line == 0 && src.hasMarks() || slices.ContainsFunc(p.picks, func(k *pick) bool {
		return k.TLS && slices.ContainsFunc(k.Site.own(certificateDirectives()...), func(d *directive) bool { return d.src == src && d.line == line })
	})
}

// editedFiles turns the edits of files that exist into files of a change.
func (p *planner) editedFiles() ([]change.File, error) {
	var files []change.File
	done := map[string]bool{}
	for _, src := range p.m.order {
		if !src.hasMarks() && len(p.edits[src]) == 0 || p.files.isOwn(src.path) {
			continue
		}
		if src.err != nil {
			return nil, src.err
		}
		content, err := change.Splice(src.text, p.edits[src])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", src.path, err)
		}
		if string(content) == string(src.disk) {
			continue
		}
		if done[src.real] {
			return nil, &SyntaxError{File: src.path, Line: 1, Reason: "Apache includes this file by two names: include it once"}
		}
		done[src.real] = true
		files = append(files, change.File{
			Path: filepath.Clean(src.path), Content: content, Was: change.Hash(src.disk), Follow: true,
		})
	}
	return files, nil
}
