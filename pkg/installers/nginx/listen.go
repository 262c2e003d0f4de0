package nginx

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// listen is one listen directive of a server block.
type listen struct {
	d       *directive // nil for the address of a server block without any listen directive
	written string     // the address as it is written, without the port: "", "*", "[::]", "127.0.0.1", "localhost"
	host    string     // IP address or host name; "0.0.0.0" and "::" for all addresses; "unix:/path"
	port    int        // 0 for a unix socket
	last    int        // last port of a range
	params  []string
}

// parseListen reads the arguments of a listen directive as ngx_parse_url does.
func parseListen(d *directive) (listen, error) {
	args := d.args()
	l := listen{d: d, port: 80, params: args[1:]}
	addr := args[0]
	if strings.HasPrefix(addr, "unix:") {
		l.written, l.host, l.port = addr, addr, 0
		return l, nil
	}
	port := ""
	switch {
	case strings.HasPrefix(addr, "["):
		end := strings.IndexByte(addr, ']')
		if end < 0 {
			return l, d.errorf("cannot read the address %q", clip(addr))
		}
		l.written, port = addr[:end+1], strings.TrimPrefix(addr[end+1:], ":")
		l.host = addr[1:end]
	case strings.Contains(addr, ":"):
		l.written, port, _ = strings.Cut(addr, ":")
		l.host = l.written
	case isPort(addr):
		port = addr
	default:
		l.written, l.host = addr, addr
	}
	if l.host == "" || l.host == "*" {
		l.host = "0.0.0.0"
	}
	if ip, err := netip.ParseAddr(l.host); err == nil {
		l.host = ip.String()
	}
	return l, l.setPort(port)
}

// isPort reports whether an address without a colon is a port or a range of ports.
func isPort(addr string) bool {
	return strings.Trim(addr, "0123456789-") == "" && addr != ""
}

func (l *listen) setPort(text string) error {
	l.last = l.port
	if text == "" {
		return nil
	}
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if err != nil || err2 != nil || first == 0 || last < first {
		return l.d.errorf("cannot read the port of %q", clip(text))
	}
	l.port, l.last = int(first), int(last)
	return nil
}

// defaultListen is what a server block without a listen directive listens on when nginx runs as root.
func defaultListen() listen { return listen{host: "0.0.0.0", port: 80, last: 80} }

func (l *listen) has(param string) bool { return slices.Contains(l.params, param) }

// param is the value of a "name=value" parameter with its name, or "".
func (l *listen) param(name string) string {
	for _, p := range l.params {
		if strings.HasPrefix(p, name+"=") {
			return p
		}
	}
	return ""
}

func (l *listen) isUnix() bool { return strings.HasPrefix(l.host, "unix:") }

func (l *listen) isDefault() bool { return l.has("default_server") || l.has("default") }

// hasPort reports whether the port is one of the ports listened on.
func (l *listen) hasPort(port int) bool { return l.port <= port && port <= l.last }

// addresses are the sockets that the directive stands for, each as "host:port".
func (l *listen) addresses() []string {
	if l.isUnix() {
		return []string{l.host}
	}
	var list []string
	for port := l.port; port <= l.last; port++ {
		list = append(list, net.JoinHostPort(l.host, strconv.Itoa(port)))
	}
	return list
}

// dial is an address of this machine at which the socket answers: loopback for all addresses. It is "" for a unix socket.
func dial(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.HasPrefix(address, "unix:") {
		return ""
	}
	switch host {
	case "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
