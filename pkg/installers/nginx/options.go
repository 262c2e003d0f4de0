package nginx

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/acmed/acmed/pkg/installers"
)

// http2Form is how this nginx is told to speak HTTP/2.
type http2Form int

const (
	http2Directive http2Form = iota // "http2 on;", since nginx 1.25.1
	http2Param                      // "listen 443 ssl http2;"
)

// http2Lines switches HTTP/2 on where it was asked for and is off. An older nginx takes it from any listen directive of
// the socket; there acmed's own have it already, and the operator's get it.
func (p *planner) http2Lines(k *pick) ([]string, error) {
	if !p.cfg.HTTP2 {
		return nil, nil
	}
	own := slices.DeleteFunc(slices.Clone(k.Site.listens), p.added)
	if p.http2 == http2Param {
		if err := p.checkHTTP2(k); err != nil {
			return nil, err
		}
		p.addHTTP2(k, own)
		return nil, nil
	}
	isOn := slices.ContainsFunc(own, func(l listen) bool { return l.has("http2") })
	if d := k.Site.last("http2"); isOn || d != nil && !p.isManaged(d) {
		return nil, nil
	}
	return []string{"http2 on;"}, nil
}

// checkHTTP2 refuses to switch HTTP/2 on for other sites too: an older nginx has it for all that share a socket, or for none.
func (p *planner) checkHTTP2(k *pick) error {
	for _, host := range p.tlsHosts(k) {
		g := p.m.sockets[socket{host, p.cfg.Listen}]
		if g == nil || g.has("http2") {
			continue
		}
		for _, s := range g.servers {
			if !slices.ContainsFunc(p.picks, func(k *pick) bool { return k.Site == s }) {
				return s.d.errorf("this nginx would speak HTTP/2 for this site too, which shares %s: add \"http2\" to its listen directive, "+
					"or set \"http2\" to false", g.socket)
			}
		}
	}
	return nil
}

// http2Word is what an older nginx wants in a listen directive.
const http2Word = " http2"

func (p *planner) addHTTP2(k *pick, listens []listen) {
	for _, l := range listens {
		if k.TLS && l.hasPort(p.cfg.Listen) && !l.has("quic") && !p.m.sockets[l.sockets()[0]].has("http2") {
			end := l.d.words[len(l.d.words)-1].end
			p.edit(l.d.src, change.Edit{Start: end, End: end, Text: http2Word})
		}
	}
}

// headerLines adds Strict-Transport-Security. Over plain HTTP a server must not send it (RFC 6797 section 7.2), and
// nginx sends no header whose value is empty.
func (p *planner) headerLines(s *server) ([]string, error) {
	if p.cfg.HSTS == 0 {
		return nil, nil
	}
	isHSTS := func(d *directive) bool { return strings.EqualFold(d.words[1].value, "Strict-Transport-Security") }
	own, inherited := p.native(s.own("add_header")), named(s.http.body, "add_header")
	if slices.ContainsFunc(own, isHSTS) || len(own) == 0 && slices.ContainsFunc(inherited, isHSTS) {
		return nil, nil
	}
	if len(own) == 0 && len(inherited) > 0 {
		return nil, inherited[0].errorf("a header in %s would take this one away from the server block: write Strict-Transport-Security "+
			"here, or this header into the server block", s.d.place())
	}
	if d := headersOf(s.body); d != nil && !slices.ContainsFunc(d.children, isHSTS) {
		return nil, d.errorf("the headers in this location would take Strict-Transport-Security away: write it here, or set \"hsts\" to 0")
	}
	value := "max-age=" + strconv.FormatInt(int64(p.cfg.HSTS/time.Second), 10)
	if len(s.plainListens()) == 0 {
		return []string{"add_header Strict-Transport-Security " + value + " always;"}, nil
	}
	return []string{
		`set $acmed_hsts "";`,
		"if ($https) { set $acmed_hsts " + value + "; }",
		"add_header Strict-Transport-Security $acmed_hsts always;",
	}, nil
}

// headersOf is a location among ds with headers, which therefore inherits none, or nil.
func headersOf(ds []*directive) *directive {
	for _, d := range ds {
		if !d.isBlock("location") {
			continue
		}
		if len(named(d.children, "add_header")) > 0 {
			return d
		}
		if inner := headersOf(d.children); inner != nil {
			return inner
		}
	}
	return nil
}

// settings are the protocol and session settings of tls_defaults, in the order of the file: Mozilla's "intermediate"
// level, which every client since 2015 can speak. Each is left out where a server block has its own.
func settings() [][2]string {
	return [][2]string{
		{"ssl_protocols", "TLSv1.2 TLSv1.3"},
		{"ssl_ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:" +
			"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"},
		{"ssl_prefer_server_ciphers", "off"},
		{"ssl_session_timeout", "1d"},
		{"ssl_session_cache", "shared:acmed:10m"},
		{"ssl_session_tickets", "off"},
	}
}

// settingsPath is the file of tls_defaults. Each certificate has its own, so that one can be taken away without the
// others.
func (p *planner) settingsPath() string {
	return filepath.Join(p.tree.prefix, "acmed-"+p.target.Certificate+".inc")
}

func (p *planner) settingsLines() []string {
	path, ok := quote(p.settingsPath())
	if !p.cfg.TLSDefaults || !ok {
		return nil
	}
	return []string{"include " + path + ";"}
}

// settingsHeader begins the file of tls_defaults.
const settingsHeader = "# Written by acmed for the certificate "

// settingsFile is the file of tls_defaults when it has to be written or taken away, or nil.
func (p *planner) settingsFile() *change.File {
	file := &change.File{Path: p.settingsPath(), Was: change.Absent}
	old, err := installers.ReadRegular(file.Path)
	exists := err == nil && strings.HasPrefix(string(old), settingsHeader)
	if exists {
		file.Was = change.Hash(old)
	}
	if !p.cfg.TLSDefaults {
		file.Remove = true
		if !exists {
			return nil
		}
		return file
	}
	text := settingsHeader + p.target.Certificate + ".\n"
	for _, setting := range settings() {
		if d := p.decider(); setting[0] == "ssl_protocols" && d != nil {
			text += "# ssl_protocols of the default server at " + d.place() + " are in force.\n"
			continue
		}
		taken := slices.ContainsFunc(p.picks, func(k *pick) bool { return len(p.native(k.Site.own(setting[0]))) > 0 })
		if value := p.withinHTTP(setting[0], setting[1]); !taken && value != "" {
			text += setting[0] + " " + value + ";\n"
		}
	}
	if text == string(old) {
		return nil
	}
	file.Content = []byte(text)
	return file
}

// decider is another site's server block whose protocols are in force at a socket of the certificate's: before nginx looks at
// the name, the default server of the socket decides.
func (p *planner) decider() *directive {
	for _, k := range p.picks {
		for _, host := range p.tlsHosts(k) {
			g := p.m.sockets[socket{host, p.cfg.Listen}]
			if g != nil && !slices.ContainsFunc(p.picks, func(k *pick) bool { return k.Site == g.fallback() }) {
				return g.fallback().d
			}
		}
	}
	return nil
}

// tlsHosts are the addresses at which a block answers with TLS, or will.
func (p *planner) tlsHosts(k *pick) (hosts []string) {
	for _, l := range k.Site.listens {
		if l.hasPort(p.cfg.Listen) && !l.has("quic") {
			hosts = append(hosts, l.hosts...)
		}
	}
	if len(hosts) > 0 {
		return hosts
	}
	for _, l := range k.Site.plainListens() {
		hosts = append(hosts, l.hosts...)
	}
	return hosts
}

// withinHTTP leaves out the protocol versions that the operator's http block does not have.
func (p *planner) withinHTTP(name, value string) string {
	if name != "ssl_protocols" {
		return value
	}
	words := strings.Fields(value)
	for _, k := range p.picks {
		for _, d := range named(k.Site.http.body, name) {
			words = slices.DeleteFunc(words, func(w string) bool { return !slices.Contains(d.args(), w) })
		}
	}
	return strings.Join(words, " ")
}
