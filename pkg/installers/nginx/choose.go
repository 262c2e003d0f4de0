package nginx

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

// match says by what nginx chose a server block for a name.
type match int

// The ways of choosing, in the order in which nginx prefers them.
const (
	byName    match = iota // exactly, or by a wildcard
	byRegex                // a regular expression may match, which only nginx can say
	byDefault              // nothing matches: the default server of the socket
)

// choose is the server block that answers for a name at a socket, as ngx_http_find_virtual_server chooses: an exact
// name, the longest wildcard at the front, the longest wildcard at the end, a regular expression, the default server.
// For a wildcard identifier ("*.example.com") it is the block
// that has this very wildcard.
func (g *group) choose(name string) (*server, match) {
	if strings.HasPrefix(name, "*.") {
		if s := g.find(func(n string) bool { return n == name || "*"+n == name }); s != nil {
			return s, byName
		}
		return g.fallback(), byDefault
	}
	if s := g.exact[name]; s != nil {
		return s, byName
	}
	if s := g.longest(func(n string) bool { return frontWildcard(n, name) }); s != nil {
		return s, byName
	}
	if s := g.longest(func(n string) bool { return endWildcard(n, name) }); s != nil {
		return s, byName
	}
	if s := g.find(func(n string) bool { return mayMatch(n, name) }); s != nil {
		return s, byRegex
	}
	return g.fallback(), byDefault
}

// find is the first server block with a name that fits.
func (g *group) find(fits func(string) bool) *server {
	for _, s := range g.servers {
		if slices.ContainsFunc(s.names, fits) {
			return s
		}
	}
	return nil
}

// longest is the server block with the longest name that fits, the first one of several.
func (g *group) longest(fits func(string) bool) *server {
	var best *server
	length := -1
	for _, s := range g.servers {
		for _, n := range s.names {
			if size := len(strings.TrimPrefix(n, "*")); size > length && fits(n) {
				best, length = s, size
			}
		}
	}
	return best
}

// fallback is the default server: the one with default_server, or the first.
func (g *group) fallback() *server {
	s, _ := g.defaultServer()
	return s
}

// defaultServer is the default server, and whether it was made one by the operator: by default_server, or because there
// is no other.
func (g *group) defaultServer() (s *server, chosen bool) {
	for i, l := range g.listens {
		if l.isDefault() {
			return g.servers[i], true
		}
	}
	alone := !slices.ContainsFunc(g.servers, func(s *server) bool { return s != g.servers[0] })
	return g.servers[0], alone
}

// exactName is the one name that a server_name stands for exactly; ".example.com" stands for example.com too.
func exactName(n string) string {
	if n == "$hostname" {
		host, err := os.Hostname()
		if err != nil {
			return n
		}
		return strings.ToLower(host)
	}
	return strings.TrimPrefix(n, ".")
}

// frontWildcard matches "*.example.com" and ".example.com" against any number of labels in front.
func frontWildcard(n, name string) bool {
	suffix := strings.TrimPrefix(n, "*")
	return strings.HasPrefix(suffix, ".") && len(name) > len(suffix) && strings.HasSuffix(name, suffix)
}

// endWildcard matches "www.example.*".
func endWildcard(n, name string) bool {
	prefix, ok := strings.CutSuffix(n, "*")
	return ok && strings.HasSuffix(prefix, ".") && len(name) > len(prefix) && strings.HasPrefix(name, prefix)
}

// mayMatch reports whether a regular expression may match the name. Go's syntax is a subset of PCRE's with the same
// meaning, so an expression that it reads and does not match is out; one that it cannot read may match.
func mayMatch(n, name string) bool {
	expr, ok := strings.CutPrefix(n, "~")
	if !ok {
		return false
	}
	re, err := regexp.Compile("(?i)" + expr)
	return err != nil || re.MatchString(name)
}

// parent is a name without its first label.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}
