package nginx

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/webserver"

	"github.com/acmed/acmed/pkg/certs"
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
func (p *planner) http2Lines(k *pick) []string {
	if !p.cfg.HTTP2 {
		return nil
	}
	own := slices.DeleteFunc(slices.Clone(k.Site.listens), p.added)
	if p.http2 == http2Param {
		p.addHTTP2(k, own)
		return nil
	}
	isOn := slices.ContainsFunc(own, func(l listen) bool { return l.has("http2") })
	if d := k.Site.last("http2"); isOn || d != nil && !p.isManaged(d) {
		return nil
	}
	return []string{"http2 on;"}
}

// http2Word is what an older nginx wants in a listen directive.
const http2Word = " http2"

func (p *planner) addHTTP2(k *pick, listens []listen) {
	for _, l := range listens {
		if k.TLS && l.hasPort(p.cfg.Listen) && !p.m.sockets[l.sockets()[0]].has("http2") {
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

// redirectVariable holds what a request asked for. Only the rewrite module's own directives are safe within "if", and
// one variable in one pattern says it all: scheme, host and path.
const redirectVariable = "$acmed_redirect"

// addRedirects adds, to the blocks that answer for the names without TLS, a redirect to the same name with TLS. The
// target is the name as it is written here, never what the client sent, so nobody is sent elsewhere. ACME validation
// stays where it is.
func (p *planner) addRedirects(lines map[*server][]string) {
	hosts := map[*server][]string{}
	finder := picker{m: p.m, port: p.cfg.Listen}
	for _, id := range p.names {
		if id.Type != certs.DNS || id.IsWildcard() {
			continue
		}
		for _, s := range finder.plainServers(id) {
			if p.redirects(s) == nil {
				hosts[s] = append(hosts[s], id.Value)
			}
		}
	}
	port := ""
	if p.cfg.Listen != webserver.DefaultPort {
		port = ":" + strconv.Itoa(p.cfg.Listen)
	}
	for s, names := range hosts {
		lines[s] = append(lines[s], "set "+redirectVariable+` "$scheme://$host$uri";`)
		for _, name := range names {
			lines[s] = append(lines[s], fmt.Sprintf(`if (%s ~ "^http://%s/(?!\.well-known/acme-challenge/)") { return 301 https://%s%s$request_uri; }`,
				redirectVariable, strings.ReplaceAll(name, ".", `\.`), name, port))
		}
	}
}

// plainServers are the blocks that answer for a name without TLS on the port of plain HTTP.
func (p *picker) plainServers(id certs.Identifier) []*server {
	for _, wanted := range []func(int) bool{
		func(port int) bool { return port == 80 },
		func(port int) bool { return port != 80 && port != p.port },
	} {
		if l := p.look(id, false, wanted); len(l.named)+len(l.defaults) > 0 {
			return append(l.named, l.defaults...)
		}
	}
	return nil
}

// redirects is a directive of the operator's own that sends requests of this block to HTTPS, or nil.
func (p *planner) redirects(s *server) *directive {
	for _, d := range p.native(s.body) {
		if toHTTPS(d) != "" {
			return d
		}
		isRoot := d.isBlock("location") && slices.Contains(d.args(), "/")
		if (d.isBlock("if") || isRoot) && slices.ContainsFunc(d.children, func(c *directive) bool { return toHTTPS(c) != "" }) {
			return d
		}
	}
	return nil
}

// toHTTPS is the target of a redirect to HTTPS, or "".
func toHTTPS(d *directive) string {
	if !d.is("return") && !d.is("rewrite") {
		return ""
	}
	for _, a := range d.args() {
		if strings.HasPrefix(a, "https://") {
			return a
		}
	}
	return ""
}

// loop is a redirect to HTTPS that would answer a request over HTTPS with the same redirect again, or nil.
func (p *planner) loop(s *server) *directive {
	d := p.redirects(s)
	if d == nil || d.isBlock("if") && askedForScheme(d) {
		return nil
	}
	targets := []string{toHTTPS(d)}
	for _, c := range d.children {
		targets = append(targets, toHTTPS(c))
	}
	for _, target := range targets {
		host, _, _ := strings.Cut(strings.TrimPrefix(target, "https://"), "/")
		if i := strings.IndexAny(host, "$:"); i > 0 {
			host = host[:i]
		}
		if target != "" && (strings.HasPrefix(host, "$") || slices.Contains(s.names, host)) {
			return d
		}
	}
	return nil
}

// askedForScheme reports whether a condition is about how the request came in.
func askedForScheme(d *directive) bool {
	condition := strings.Join(d.args(), " ")
	return slices.ContainsFunc([]string{"scheme", "https", "server_port", "forwarded_proto", "ssl"}, func(s string) bool {
		return strings.Contains(condition, s)
	})
}
