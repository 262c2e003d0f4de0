package apache

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/installers/webserver"
)

// listen is one Listen directive.
type listen struct {
	d    *directive
	host string // "" for all addresses
	port int    // 0 when it cannot be told
}

// parseListen reads "443", "*:443", "192.0.2.1:443", "[::]:443" or "localhost:443".
func (m *model) parseListen(d *directive) listen {
	l := listen{d: d}
	addr := m.value(d)
	port := addr
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		l.host, port = strings.Trim(addr[:i], "[]"), addr[i+1:]
	}
	if ip, err := netip.ParseAddr(l.host); l.host == "*" || err == nil && ip.IsUnspecified() {
		l.host = ""
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		l.port = int(n)
	}
	return l
}

// listens are the Listen directives in force.
func (m *model) listens() []listen {
	var list []listen
	for _, d := range named(m.global, "Listen") {
		list = append(list, m.parseListen(d))
	}
	return list
}

// covers reports whether connections to a host, "*" for any, arrive by the directive.
func (l *listen) covers(host string) bool {
	return l.host == "" || host == "*" || l.host == host || sameIP(l.host, host)
}

// missingListens are the Listen directives without which the virtual hosts with TLS would not be reached: those that
// bring connections to the plain virtual host, on the TLS port. A directive that overlaps another one, or a port that
// another program holds, would take Apache down at the next reload.
func (p *planner) missingListens() ([]string, error) {
	all := p.m.listens()
	var added []listen
	for _, k := range p.picks {
		for _, g := range p.groupsOf(k) {
			more, err := p.listensFor(k, g, all)
			if err != nil {
				return nil, err
			}
			added = append(added, more...)
		}
	}
	for _, src := range p.m.order {
		if src.err != nil && len(added) > 0 {
			return nil, fmt.Errorf("look for a Listen directive: %w", src.err)
		}
	}
	if i := slices.IndexFunc(added, func(l listen) bool { return l.host == "" }); i >= 0 {
		added = added[i : i+1]
	}
	var lines []string
	for _, l := range added {
		line := l.line()
		if slices.Contains(lines, line) {
			continue
		}
		if portTaken(l.host, l.port) {
			return nil, p.picks[0].Site.errorf("another program listens on port %d, and with \"%s\" Apache would go down at the next reload: stop it, "+
				"or set \"listen\" to another port", l.port, line)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// groupsOf are the addresses by which a virtual host is reached with TLS, or whose twins it will be.
func (p *planner) groupsOf(k *pick) []*group {
	if !k.TLS {
		return p.m.plainGroups(k.Site, p.cfg.Listen)
	}
	return slices.DeleteFunc(slices.Clone(p.m.groups), func(g *group) bool {
		return !slices.Contains(g.vhosts, k.Site) || !p.m.reaches(g, p.cfg.Listen)
	})
}

// listensFor are the missing directives for one address of a virtual host.
func (p *planner) listensFor(k *pick, g *group, all []listen) ([]listen, error) {
	isOn := func(port int) []listen {
		return slices.DeleteFunc(slices.Clone(all), func(l listen) bool { return l.port != port })
	}
	present := isOn(p.cfg.Listen)
	if slices.ContainsFunc(present, func(l listen) bool { return l.covers(g.host) }) {
		return nil, nil
	}
	for _, l := range all {
		if l.port == 0 {
			return nil, l.d.errorf("cannot tell what this listens on, so whether port %d is missing: write the port itself here", p.cfg.Listen)
		}
	}
	if len(present) > 0 {
		return []listen{{host: g.host, port: p.cfg.Listen}}, nil
	}
	var list []listen
	for _, l := range isOn(cmp.Or(g.port, httpPort)) {
		if !k.TLS && l.covers(g.host) {
			list = append(list, listen{host: l.host, port: p.cfg.Listen})
		}
	}
	if len(list) == 0 {
		list = []listen{{host: strings.TrimPrefix(g.host, "*"), port: p.cfg.Listen}}
	}
	return list, nil
}

// line is the directive. On another port than 443 Apache has to be told that it is for TLS.
func (l *listen) line() string {
	line := "Listen " + strconv.Itoa(l.port)
	if l.host != "" {
		line = "Listen " + net.JoinHostPort(l.host, strconv.Itoa(l.port))
	}
	if l.port != webserver.DefaultPort {
		line += " https"
	}
	return line
}

// portTaken reports whether a socket of this machine listens on the port at that address, "" for all. What cannot be read
// is left to the handshake.
func portTaken(host string, port int) bool {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err == nil && listensIn(text, host, port) {
			return true
		}
	}
	return false
}

// listensIn looks through a table as proc(5) describes it: "sl local_address rem_address st …", the address in
// hexadecimal, each of its 32-bit words in the machine's order, and state 0A for a listening socket.
func listensIn(table []byte, host string, port int) bool {
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != "0A" {
			continue
		}
		addr, hexPort, _ := strings.Cut(fields[1], ":")
		n, err := strconv.ParseUint(hexPort, 16, 16)
		ip, ok := procAddr(addr)
		if err != nil || !ok || int(n) != port {
			continue
		}
		if host == "" || ip.IsUnspecified() || sameIP(host, ip.String()) {
			return true
		}
	}
	return false
}

func procAddr(text string) (netip.Addr, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw)%4 != 0 {
		return netip.Addr{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	return netip.AddrFromSlice(raw)
}
