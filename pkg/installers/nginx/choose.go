package nginx

import (
	"maps"
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
// For a wildcard identifier ("*.example.com") it is the block that has this very wildcard.
func (g *group) choose(name string) (*server, match) {
	if s := g.names.find(name); s != nil {
		return s, byName
	}
	for _, s := range g.servers {
		if !strings.HasPrefix(name, "*.") && slices.ContainsFunc(s.names, func(n string) bool { return mayMatch(n, name) }) {
			return s, byRegex
		}
	}
	return g.fallback(), byDefault
}

// nameTable is the names of one socket as nginx keeps them (ngx_hash_add_key): of two equal names the first one counts.
type nameTable struct {
	taken map[string]bool    // exact names, also those of a ".name" that was ignored
	exact map[string]*server // "a.b", and "a.b" of ".a.b"
	front map[string]*server // "a.b" of "*.a.b" and ".a.b"
	end   map[string]*server // "a.b" of "a.b.*"
}

func newNameTable() nameTable {
	return nameTable{map[string]bool{}, map[string]*server{}, map[string]*server{}, map[string]*server{}}
}

func (t *nameTable) add(n string, s *server) {
	suffix, isFront := strings.CutPrefix(n, "*.")
	prefix, isEnd := strings.CutSuffix(n, ".*")
	bare, isBoth := strings.CutPrefix(n, ".")
	switch {
	case strings.HasPrefix(n, "~"):
	case isFront:
		addNew(t.front, suffix, s)
	case isEnd:
		addNew(t.end, prefix, s)
	case t.taken[bare]:
	case !isBoth:
		t.taken[n] = true
		t.exact[n] = s
	default:
		t.taken[bare] = true
		if addNew(t.front, bare, s) {
			t.exact[bare] = s
		}
	}
}

func addNew(m map[string]*server, name string, s *server) bool {
	if m[name] != nil {
		return false
	}
	m[name] = s
	return true
}

func (t *nameTable) find(name string) *server {
	if suffix, isWildcard := strings.CutPrefix(name, "*."); isWildcard {
		return t.front[suffix]
	}
	if s := t.exact[name]; s != nil {
		return s
	}
	for suffix := parent(name); suffix != ""; suffix = parent(suffix) {
		if s := t.front[suffix]; s != nil {
			return s
		}
	}
	for end := strings.LastIndexByte(name, '.'); end > 0; end = strings.LastIndexByte(name[:end], '.') {
		if s := t.end[name[:end]]; s != nil {
			return s
		}
	}
	return nil
}

// all lists the names that have a server block, wildcards in front as "*.name".
func (t *nameTable) all() []string {
	list := slices.Collect(maps.Keys(t.exact))
	for name := range t.front {
		list = append(list, "*."+name)
	}
	slices.Sort(list)
	return list
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
