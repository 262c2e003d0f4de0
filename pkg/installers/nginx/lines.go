package nginx

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// listenLines are the listen directives that a block needs to answer with TLS: the plain ones again, on the TLS port.
// A block that answers with TLS by itself needs none, and those that acmed added once stay as they are.
func (p *planner) listenLines(k *pick) ([]string, error) {
	var added []string
	for _, l := range k.s.listens {
		if l.d == nil || !l.hasPort(p.cfg.Listen) {
			continue
		}
		if !p.isManaged(l.d) && k.tls {
			return nil, nil
		}
		if p.isManaged(l.d) {
			added = append(added, l.written)
		}
	}
	var lines, seen []string
	plain := k.s.plainListens()
	if !slices.ContainsFunc(k.s.listens, func(l listen) bool { return l.d != nil && !p.isManaged(l.d) }) {
		// A block without a listen directive listens on port 80 only as long as it has none.
		plain, lines = []listen{defaultListen()}, []string{"listen 80;"}
	}
	for _, l := range plain {
		if slices.Contains(seen, l.written) {
			continue
		}
		seen = append(seen, l.written)
		line, err := p.twin(k, &l, slices.Contains(added, l.written))
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil, k.s.d.errorf("this server block has no listen directive that could get a twin with TLS: add \"listen %d ssl\"", p.cfg.Listen)
	}
	return lines, nil
}

// twin is the listen directive with TLS beside a plain one.
func (p *planner) twin(k *pick, l *listen, exists bool) (string, error) {
	at := k.s.d
	if l.d != nil {
		at = l.d
	}
	var others []listen
	for _, host := range l.hosts {
		g := p.m.sockets[socket{host, p.cfg.Listen}]
		if g == nil {
			continue
		}
		others = append(others, slices.DeleteFunc(slices.Clone(g.listens), func(o listen) bool { return o.d != nil && p.isManaged(o.d) })...)
		if !exists && !g.tls(g.servers[0]) {
			return "", at.errorf("cannot add TLS on %s, which serves plain HTTP at %s:%d", g.socket, g.servers[0].d.src.path, g.servers[0].d.line())
		}
	}
	if !exists {
		if err := p.checkPort(at, l); err != nil {
			return "", err
		}
	}
	line := "listen " + strconv.Itoa(p.cfg.Listen) + " ssl"
	if l.written != "" {
		line = "listen " + l.written + ":" + strconv.Itoa(p.cfg.Listen) + " ssl"
	}
	if p.cfg.HTTP2 && p.http2 == http2Param {
		line += " http2"
	}
	if k.isDefault && !slices.ContainsFunc(others, func(o listen) bool { return o.isDefault() }) {
		line += " default_server"
	}
	if only := l.param("ipv6only"); only != "" && len(others) == 0 {
		line += " " + only
	}
	return line + ";", nil
}

// checkPort refuses what would not reach the block, or not let nginx start.
func (p *planner) checkPort(at *directive, l *listen) error {
	if l.has("proxy_protocol") {
		return at.errorf("a proxy speaks to this server block by the PROXY protocol: add the listen directive for TLS that it should use")
	}
	for _, d := range p.m.foreign {
		other, err := parseListen(d, p.m.find)
		if err == nil && other.hasPort(p.cfg.Listen) {
			return at.errorf("port %d belongs to a stream or mail server at %s:%d: set \"listen\" to the port that it passes on to",
				p.cfg.Listen, d.src.path, d.line())
		}
	}
	if len(p.cfg.Verify) > 0 {
		return nil
	}
	for _, g := range p.m.groups {
		hidden := slices.ContainsFunc(l.hosts, func(host string) bool {
			own := socket{host, p.cfg.Listen}
			return own.isAny() && g.socket.port == own.port && g.socket != own && g.socket.is6() == own.is6()
		})
		if hidden {
			return at.errorf("connections to %s go to %s:%d and would not reach this server block: give it a listen directive "+
				"for TLS, or set \"verify\" to the address that clients use", g.socket, g.servers[0].d.src.path, g.servers[0].d.line())
		}
	}
	return nil
}

// pairs are the certificate and key files of the bundle; a dual unit has its twin's beside them.
func (p *planner) pairs() []pair {
	list := []pair{{p.target.FullChain, p.target.Key}}
	if p.bundle.RSA != nil {
		list = append(list, pair{twinPath(p.target.FullChain), twinPath(p.target.Key)})
	}
	return list
}

// twinPath is where the store keeps the RSA twin of a file: "privkey.pem" has "privkey-rsa.pem" beside it.
func twinPath(path string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-rsa" + ext
}

// pairLines points the block's own certificate directives at the bundle and returns the lines for what it has none of.
// Pairs that are too many go: a second certificate of the old kind would still be served to some clients.
func (p *planner) pairLines(k *pick) ([]string, error) {
	chains, keys := p.native(k.s.own("ssl_certificate")), p.native(k.s.own("ssl_certificate_key"))
	if len(chains) != len(keys) {
		return nil, k.s.d.errorf("this server block has %d ssl_certificate and %d ssl_certificate_key directives", len(chains), len(keys))
	}
	if err := p.checkPairs(k, chains, keys); err != nil {
		return nil, err
	}
	var lines []string
	for i, want := range p.pairs() {
		cert, ok := quote(want.cert)
		key, ok2 := quote(want.key)
		if !ok || !ok2 {
			return nil, fmt.Errorf("the path %q cannot be written into an nginx configuration", want.cert)
		}
		if i >= len(chains) {
			lines = append(lines, "ssl_certificate "+cert+";", "ssl_certificate_key "+key+";")
			continue
		}
		p.setArgument(chains[i], want.cert, cert)
		p.setArgument(keys[i], want.key, key)
	}
	for i := len(p.pairs()); i < len(chains); i++ {
		p.edit(chains[i].src, removeDirective(chains[i]))
		p.edit(keys[i].src, removeDirective(keys[i]))
	}
	return lines, nil
}

func (p *planner) setArgument(d *directive, value, quoted string) {
	if w := d.words[1]; w.value != value {
		p.edit(d.src, edit{w.start, w.end, quoted})
	}
}

// checkPairs refuses to take over certificate directives that other server blocks use too, or whose certificate covers
// names of this block that the new one does not.
func (p *planner) checkPairs(k *pick, chains, keys []*directive) error {
	for _, d := range slices.Concat(chains, keys) {
		if strings.Contains(d.words[1].value, "$") {
			return d.errorf("a variable chooses the certificate")
		}
		for s := range p.m.users[d.src] {
			if d.src != k.s.d.src && !slices.ContainsFunc(p.picks, func(k *pick) bool { return k.s == s }) {
				return d.errorf("the server block at %s:%d includes this file too: give %s:%d certificate directives of its own",
					s.d.src.path, s.d.line(), k.s.d.src.path, k.s.d.line())
			}
		}
	}
	for _, d := range chains {
		old := p.oldLeaf(d.words[1].value)
		if old == nil || old.Equal(p.bundle.Leaf) {
			continue
		}
		for _, name := range k.s.names {
			sample := sampleName(name)
			if sample != "" && old.VerifyHostname(sample) == nil && p.bundle.Leaf.VerifyHostname(sample) != nil {
				return d.errorf("the certificate here covers %q, which %q does not: add the name to the certificate or take it out of the server block",
					name, p.target.Certificate)
			}
		}
	}
	return nil
}

// sampleName is a host name that a server_name answers for, or "" when there is none to be told.
func sampleName(name string) string {
	name = strings.TrimPrefix(name, "*")
	if strings.HasPrefix(name, ".") {
		return "acmed-probe" + name
	}
	if strings.ContainsAny(name, "~*$_") {
		return ""
	}
	return name
}

// oldLeaf reads the certificate that a block serves now. One that cannot be read covers nothing.
func (p *planner) oldLeaf(path string) *x509.Certificate {
	if !strings.HasPrefix(path, "/") {
		path = filepath.Join(p.tree.prefix, path)
	}
	text, err := readRegular(path)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}
