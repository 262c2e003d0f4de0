package nginx

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/internal/text"
)

// The hosts that stand for all addresses of this machine.
const (
	anyIPv4 = "0.0.0.0"
	anyIPv6 = "::"
)

// listen is one listen directive of a server block.
type listen struct {
	d       *directive // nil for the address of a server block without any listen directive
	written string     // the address as it is written, without the port: "", "*", "[::]", "127.0.0.1", "localhost"
	hosts   []string   // IP addresses; "0.0.0.0" and "::" for all addresses, "unix:/path" for a socket
	port    int        // 0 for a unix socket
	last    int        // last port of a range
	params  []string
}

// lookup finds the IP addresses of a host name in a listen directive, as nginx does when it reads it.
type lookup func(host string) []string

// parseListen reads the arguments of a listen directive as ngx_parse_url does.
func parseListen(d *directive, find lookup) (listen, error) {
	args := d.args()
	l := listen{d: d, port: 80, params: args[1:]}
	addr := args[0]
	if strings.HasPrefix(addr, "unix:") {
		l.written, l.hosts, l.port = addr, []string{addr}, 0
		return l, nil
	}
	var host, port string
	switch {
	case strings.HasPrefix(addr, "["):
		end := strings.IndexByte(addr, ']')
		if end < 0 {
			return l, d.errorf("cannot read the address %q", text.Cut(addr, text.Value))
		}
		l.written, port = addr[:end+1], strings.TrimPrefix(addr[end+1:], ":")
		host = addr[1:end]
	case strings.Contains(addr, ":"):
		l.written, port, _ = strings.Cut(addr, ":")
		host = l.written
	case isPort(addr):
		port = addr
	default:
		l.written, host = addr, addr
	}
	if host == "" || host == "*" {
		host = anyIPv4
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		l.hosts = []string{ip.String()}
	} else {
		l.hosts = find(host)
	}
	return l, l.setPort(port)
}

// isPort reports whether an address without a colon is a port or a range of ports.
func isPort(addr string) bool {
	return strings.Trim(addr, "0123456789-") == "" && addr != ""
}

func (l *listen) setPort(port string) error {
	l.last = l.port
	if port == "" {
		return nil
	}
	from, to, isRange := strings.Cut(port, "-")
	if !isRange {
		to = from
	}
	first, err := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if err != nil || err2 != nil || first == 0 || last < first {
		return l.d.errorf("cannot read the port of %q", text.Cut(port, text.Value))
	}
	l.port, l.last = int(first), int(last)
	return nil
}

// defaultListen is what a server block without a listen directive listens on when nginx runs as root.
func defaultListen() listen { return listen{hosts: []string{anyIPv4}, port: 80, last: 80} }

func (l listen) has(param string) bool { return slices.Contains(l.params, param) }

// param is the value of a "name=value" parameter with its name, or "".
func (l listen) param(name string) string {
	for _, p := range l.params {
		if strings.HasPrefix(p, name+"=") {
			return p
		}
	}
	return ""
}

func (l listen) isUnix() bool { return strings.HasPrefix(l.written, "unix:") }

func (l listen) isDefault() bool { return l.has("default_server") || l.has("default") }

// hasPort reports whether the port is one of the ports listened on.
func (l listen) hasPort(port int) bool { return l.port <= port && port <= l.last }

// sockets are the addresses that the directive stands for.
func (l listen) sockets() []socket {
	var list []socket
	for _, host := range l.hosts {
		for port := l.port; port <= l.last; port++ {
			list = append(list, socket{host, port})
		}
	}
	return list
}

// socket is where connections arrive: an IP address and a port, or "unix:/path" and 0.
type socket struct {
	host string
	port int
}

// String is "host:port", or the path of a unix socket.
func (s socket) String() string {
	if s.port == 0 {
		return s.host
	}
	return net.JoinHostPort(s.host, strconv.Itoa(s.port))
}

func (s socket) is6() bool { return strings.Contains(s.host, ":") }

func (s socket) isAny() bool { return s.host == anyIPv4 || s.host == anyIPv6 }

// dial is where this machine can connect to the socket: on loopback when it takes all addresses.
func (s socket) dial() socket {
	switch s.host {
	case anyIPv4:
		s.host = "127.0.0.1"
	case anyIPv6:
		s.host = "::1"
	}
	return s
}
