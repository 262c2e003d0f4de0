// Package snippet writes the few lines by which another web server or proxy lets challenges through to acmed, or
// answers them by itself.
//
// It promises text that the servers accept as it is, made only of its own words and of values that were checked. It
// reads and changes no configuration: an operator pastes or includes the text. The files of deploy/proxies are made by
// it.
package snippet

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/acmed/acmed/pkg/challenges/http01"
)

// Server is a program that there are snippets for.
type Server string

// The servers.
const (
	Nginx   Server = "nginx"
	Apache  Server = "apache"
	HAProxy Server = "haproxy"
	Caddy   Server = "caddy"
	Varnish Server = "varnish"
)

// Servers lists every server.
func Servers() []Server { return []Server{Nginx, Apache, HAProxy, Caddy, Varnish} }

// Mode is what the server does with a challenge.
type Mode string

// The modes.
const (
	Proxy     Mode = "proxy"     // http-01: pass it on to acmed's responder
	Stateless Mode = "stateless" // http-01: answer with token.thumbprint; acmed need not be reachable
	ALPN      Mode = "tls-alpn"  // tls-alpn-01: pass the connection on unopened, everything else to the web server
)

// Modes lists what a server can do. Only nginx and HAProxy can look into a TLS connection without opening it.
func Modes(s Server) []Mode {
	if s == Nginx || s == HAProxy {
		return []Mode{Proxy, Stateless, ALPN}
	}
	return []Mode{Proxy, Stateless}
}

// Options are the values in a snippet.
type Options struct {
	Upstream   string // Proxy, ALPN: acmed's responder, host:port or unix:/path; default 127.0.0.1:5080 or :5443
	Web        string // ALPN: the web server that has TLS for everything else, as Upstream; default 127.0.0.1:8443
	Port       int    // ALPN: where to listen; default 443
	Thumbprint string // Stateless: of the account key; "" leaves a word to be replaced
}

const (
	defaultHTTP = "127.0.0.1:5080"
	defaultALPN = "127.0.0.1:5443"
	defaultWeb  = "127.0.0.1:8443"
	defaultPort = 443

	// placeholder is what an operator has to replace. It has no place in a key authorization, so it fails loudly.
	placeholder = "REPLACE-WITH-THE-THUMBPRINT"
)

//go:embed templates/*.tmpl
var templates embed.FS

// Text returns the snippet. The error says which option is wrong, or that the server cannot do it.
func Text(s Server, m Mode, o Options) (string, error) {
	if !slices.Contains(Servers(), s) {
		return "", fmt.Errorf("no snippet for %q; there are some for %v", s, Servers())
	}
	if !slices.Contains(Modes(s), m) {
		return "", fmt.Errorf("no %q snippet for %s; there are %v", m, s, Modes(s))
	}
	v, err := o.values(m)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s.tmpl", s, m)
	t, err := template.ParseFS(templates, path.Join("templates", name))
	if err != nil {
		return "", fmt.Errorf("snippet %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, v); err != nil {
		return "", fmt.Errorf("snippet %s: %w", name, err)
	}
	return b.String(), nil
}

// values are what the templates use.
type values struct {
	Upstream, Web endpoint
	Port          int
	Path          string // the prefix of a challenge's path
	Pattern       string // the same as a regular expression that needs no quoting anywhere
	Token         string // a regular expression for a well-formed token
	Thumbprint    string
}

func (o Options) values(m Mode) (values, error) {
	v := values{
		Port: o.Port, Thumbprint: o.Thumbprint, Token: "[-_a-zA-Z0-9]{22,128}",
		Path: http01.PathPrefix, Pattern: strings.ReplaceAll(http01.PathPrefix, ".", "[.]"),
	}
	upstream := defaultHTTP
	if m == ALPN {
		upstream = defaultALPN
	}
	var err error
	if v.Upstream, err = parseEndpoint(o.Upstream, upstream); err != nil {
		return v, fmt.Errorf("upstream %w", err)
	}
	if v.Web, err = parseEndpoint(o.Web, defaultWeb); err != nil {
		return v, fmt.Errorf("web server %w", err)
	}
	if v.Port == 0 {
		v.Port = defaultPort
	}
	if v.Port < 0 || v.Port > 65535 {
		return v, fmt.Errorf("port %d is not a port", v.Port)
	}
	switch {
	case v.Thumbprint == "":
		v.Thumbprint = placeholder
	case !regexp.MustCompile(`^[-_a-zA-Z0-9]{43}$`).MatchString(v.Thumbprint):
		return v, fmt.Errorf("thumbprint %q is not the SHA-256 thumbprint of a key in base64url (43 characters)", v.Thumbprint)
	}
	return v, nil
}

// endpoint is where a server connects to: either Host and Port, or Socket.
type endpoint struct {
	Host, Port string
	Socket     string
}

// String returns host:port with brackets around IPv6, for TCP endpoints.
func (e endpoint) String() string {
	if strings.Contains(e.Host, ":") {
		return "[" + e.Host + "]:" + e.Port
	}
	return e.Host + ":" + e.Port
}

func parseEndpoint(text, otherwise string) (endpoint, error) {
	if text == "" {
		text = otherwise
	}
	if socket, ok := strings.CutPrefix(text, "unix:"); ok {
		if !regexp.MustCompile(`^(/[-_.a-zA-Z0-9]+)+$`).MatchString(socket) {
			return endpoint{}, fmt.Errorf("%q: want unix: and an absolute path of letters, digits and . _ -", text)
		}
		return endpoint{Socket: socket}, nil
	}
	if addr, err := netip.ParseAddrPort(text); err == nil && addr.Port() != 0 && addr.Addr().Zone() == "" {
		return endpoint{Host: addr.Addr().String(), Port: strconv.Itoa(int(addr.Port()))}, nil
	}
	host, port, _ := strings.Cut(text, ":")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !regexp.MustCompile(`^[a-zA-Z0-9][-.a-zA-Z0-9]*$`).MatchString(host) {
		return endpoint{}, fmt.Errorf("%q: want host:port or unix:/path", text)
	}
	return endpoint{Host: host, Port: port}, nil
}
