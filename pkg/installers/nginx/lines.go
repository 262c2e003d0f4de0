package nginx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/webserver"

	"github.com/acmed/acmed/pkg/installers"
)

// listenLines are the listen directives that a block needs to answer with TLS: the plain ones again, on the TLS port.
// A block that answers with TLS by itself needs none.
func (p *planner) listenLines(k *pick) ([]string, error) {
	var added []string // addresses that have their twin already
	plain, lines := []listen{defaultListen()}, []string{"listen 80;"}
	for _, l := range k.Site.listens {
		switch {
		case p.added(l):
			added = append(added, l.written)
		case p.answersTLS(k, l):
			return nil, nil
		case l.d != nil:
			// Only a block without any listen directive listens on port 80 by itself.
			plain, lines = withoutProxied(k.Site.plainListens()), nil
		}
	}
	var seen []string
	for _, l := range plain {
		if slices.Contains(seen, l.written) {
			continue
		}
		seen = append(seen, l.written)
		if !slices.Contains(added, l.written) {
			if err := p.checkTwin(k, l); err != nil {
				return nil, err
			}
		}
		lines = append(lines, p.twin(k, l))
	}
	if len(lines) == 0 {
		return nil, k.Site.d.errorf("this server block has no listen directive that could get a twin with TLS: add \"listen %d ssl\"", p.cfg.Listen)
	}
	return lines, nil
}

// withoutProxied leaves out what only a proxy connects to, if there is anything else.
func withoutProxied(list []listen) []listen {
	isProxied := func(l listen) bool { return l.has("proxy_protocol") }
	if rest := slices.DeleteFunc(slices.Clone(list), isProxied); len(rest) > 0 {
		return rest
	}
	return list
}

// answersTLS reports whether the operator's own directive is where a block answers with TLS.
func (p *planner) answersTLS(k *pick, l listen) bool {
	return l.d != nil && l.hasPort(p.cfg.Listen) && !l.has("quic") && k.TLS
}

// twin is the listen directive with TLS beside a plain one.
func (p *planner) twin(k *pick, l listen) string {
	line := "listen " + strconv.Itoa(p.cfg.Listen)
	if l.written != "" {
		line = "listen " + l.written + ":" + strconv.Itoa(p.cfg.Listen)
	}
	line += " ssl"
	if p.cfg.HTTP2 && p.http2 == http2Param {
		line += " http2"
	}
	var others []listen
	for _, host := range l.hosts {
		if g := p.m.sockets[socket{host, p.cfg.Listen}]; g != nil {
			others = append(others, slices.DeleteFunc(slices.Clone(g.listens), p.added)...)
		}
	}
	if k.IsDefault && !slices.ContainsFunc(others, listen.isDefault) {
		line += " default_server"
	}
	if only := l.param("ipv6only"); only != "" && len(others) == 0 {
		line += " " + only
	}
	return line + ";"
}

// checkTwin refuses a socket that speaks something else already, or through which nobody would reach the block.
func (p *planner) checkTwin(k *pick, l listen) error {
	at := k.Site.d
	if l.d != nil {
		at = l.d
	}
	if l.has("proxy_protocol") {
		return at.errorf("a proxy connects to this server block with the PROXY protocol: add the listen directive for TLS that it should use")
	}
	for _, d := range p.m.foreign {
		other, err := parseListen(d, p.m.find)
		if err == nil && other.hasPort(p.cfg.Listen) && !other.has("udp") {
			return at.errorf("port %d belongs to a stream or mail server at %s: set \"listen\" to the port that it passes on to", p.cfg.Listen, d.place())
		}
	}
	for _, host := range l.hosts {
		if err := p.checkSocket(k.Site, at, socket{host, p.cfg.Listen}); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) checkSocket(s *server, at *directive, own socket) error {
	if g := p.m.sockets[own]; g != nil && !g.tls(g.servers[0]) {
		return at.errorf("cannot add TLS on %s, which serves plain HTTP at %s", own, g.servers[0].d.place())
	}
	if !own.isAny() || len(p.cfg.Verify) > 0 {
		return nil
	}
	for _, g := range p.m.groups {
		if g.socket != own && g.socket.port == own.port && g.socket.is6() == own.is6() && !p.m.avoids(s, g.socket.host) {
			return at.errorf("connections to %s go to %s and would not reach this server block: give it a listen directive "+
				"for TLS, or set \"verify\" to the address that clients use", g.socket, g.servers[0].d.place())
		}
	}
	return nil
}

// pairs are the certificate and key files of the bundle; a dual unit has its twin's beside them.
func (p *planner) pairs() []installers.Pair { return p.target.Pairs(p.bundle.RSA != nil) }

// pairLines points the block's own certificate directives at the bundle and returns the lines for what it has none of.
// Pairs that are too many go: a second certificate of the old kind would still be served to some clients.
func (p *planner) pairLines(k *pick) ([]string, error) {
	chains, keys := p.native(k.Site.own("ssl_certificate")), p.native(k.Site.own("ssl_certificate_key"))
	if p.isServed(chains, keys) {
		return nil, nil
	}
	if len(chains) != len(keys) {
		return nil, k.Site.d.errorf("this server block has %d ssl_certificate and %d ssl_certificate_key directives", len(chains), len(keys))
	}
	if err := p.checkPairs(k, chains, keys); err != nil {
		return nil, err
	}
	if err := p.checkCiphers(k, chains); err != nil {
		return nil, err
	}
	own, err := p.detach(k, slices.Concat(chains, keys))
	if err != nil {
		return nil, err
	}
	chains, keys = named(own, "ssl_certificate"), named(own, "ssl_certificate_key")
	if len(chains) != len(keys) {
		return nil, k.Site.d.errorf("a certificate of this server block is in a file for several sites and its key is not: put both into the server block")
	}
	var lines []string
	for i, want := range p.pairs() {
		cert, ok := quote(want.Cert)
		key, ok2 := quote(want.Key)
		if !ok || !ok2 {
			return nil, fmt.Errorf("the path %q cannot be written into an nginx configuration", want.Cert)
		}
		if i >= len(chains) {
			lines = append(lines, "ssl_certificate "+cert+";", "ssl_certificate_key "+key+";")
			continue
		}
		p.setArgument(chains[i], want.Cert, cert)
		p.setArgument(keys[i], want.Key, key)
	}
	for i := len(p.pairs()); i < len(chains); i++ {
		p.edit(chains[i].src, removeDirective(chains[i]))
		p.edit(keys[i].src, removeDirective(keys[i]))
	}
	return lines, nil
}

// isServed reports whether the directives of a block are those that acmed would write, wherever they stand.
func (p *planner) isServed(chains, keys []*directive) bool {
	pairs := p.pairs()
	if len(chains) != len(pairs) || len(keys) != len(pairs) {
		return false
	}
	for i, want := range pairs {
		if chains[i].words[1].value != want.Cert || keys[i].words[1].value != want.Key {
			return false
		}
	}
	return true
}

func (p *planner) setArgument(d *directive, value, quoted string) {
	if w := d.words[1]; w.value != value {
		p.edit(d.src, change.Edit{Start: w.start, End: w.end, Text: quoted})
	}
}

// checkCiphers refuses a block whose cipher list has nothing for the keys of the bundle, unless it serves the lineage
// already: then a look at who can connect decides.
func (p *planner) checkCiphers(k *pick, chains []*directive) error {
	isOurs := func(d *directive) bool { return d.words[1].value == p.target.FullChain }
	if slices.ContainsFunc(slices.Concat(chains, k.Site.own("ssl_certificate")), isOurs) {
		return nil
	}
	if d := k.Site.last("ssl_protocols"); d != nil && !slices.ContainsFunc(d.args(), func(v string) bool { return v != "TLSv1.3" }) {
		return nil
	}
	if d := k.Site.last("ssl_ciphers"); d != nil && webserver.Unfit(d.words[1].value, p.bundle) {
		return advice.Tag(advice.ClientsLockedOut, d.errorf("%s", webserver.UnfitReason))
	}
	return nil
}

// checkPairs refuses to take over certificates that a variable chooses, or that cover names of this block which the new one
// does not.
func (p *planner) checkPairs(k *pick, chains, keys []*directive) error {
	for _, d := range slices.Concat(chains, keys) {
		if strings.Contains(d.words[1].value, "$") {
			return d.errorf("a variable chooses the certificate")
		}
	}
	for _, d := range chains {
		if name := webserver.Lost(k.Site.names, under(p.tree.prefix, d.words[1].value), p.bundle.Leaf); name != "" {
			return d.errorf("the certificate here covers %q, which %q does not: add the name to the certificate or take it out of the server block",
				name, p.target.Certificate)
		}
	}
	return nil
}
