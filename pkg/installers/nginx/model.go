package nginx

import (
	"slices"
	"strings"
)

// server is one server block of the http block.
type server struct {
	d       *directive
	index   int // its place in nginx's order, which edits do not change
	http    *httpBlock
	body    []*directive // its directives, with includes replaced by what they include
	listens []listen
	names   []string // lower case, as written: "a.b", "*.b", ".b", "a.*", "~regex", ""
}

// httpBlock is what the http block says about every server block.
type httpBlock struct {
	body []*directive // its own directives except server blocks, includes replaced
}

// group is the server blocks that share one socket.
type group struct {
	address string // "0.0.0.0:443", "[::]:443", "127.0.0.1:443", "unix:/path"
	port    int
	servers []*server // in nginx's order
	listens []listen  // theirs, in the same order
	exact   map[string]*server
}

// model is a configuration as nginx chooses server blocks by it.
type model struct {
	servers []*server
	groups  map[string]*group
	order   []string          // addresses in nginx's order
	foreign []*directive      // listen directives of stream and mail servers
	users   map[*source]users // which server blocks take directives from an included file
}

type users map[*server]bool

// buildModel reads the http, stream and mail blocks of a tree.
func buildModel(t *tree) (*model, error) {
	m := &model{groups: map[string]*group{}, users: map[*source]users{}}
	err := t.walk(t.main.root, func(d *directive) error {
		switch {
		case d.isBlock("http"):
			return m.addHTTP(t, d)
		case d.isBlock("stream"), d.isBlock("mail"):
			return m.addForeign(t, d)
		}
		return nil
	})
	return m, err
}

func (m *model) addForeign(t *tree, block *directive) error {
	return t.walk(block.children, func(d *directive) error {
		if !d.isBlock("server") {
			return nil
		}
		return t.walk(d.children, func(d *directive) error {
			if d.is("listen") {
				m.foreign = append(m.foreign, d)
			}
			return nil
		})
	})
}

func (m *model) addHTTP(t *tree, block *directive) error {
	h := &httpBlock{}
	return t.walk(block.children, func(d *directive) error {
		if !d.isBlock("server") {
			h.body = append(h.body, d)
			return nil
		}
		s := &server{d: d, http: h}
		if err := t.walk(d.children, s.add); err != nil {
			return err
		}
		m.addServer(s)
		return nil
	})
}

// add takes one directive of the block.
func (s *server) add(d *directive) error {
	s.body = append(s.body, d)
	switch {
	case d.is("listen"):
		l, err := parseListen(d)
		if err != nil {
			return err
		}
		s.listens = append(s.listens, l)
	case d.is("server_name"):
		for _, name := range d.args() {
			if !strings.HasPrefix(name, "~") {
				name = strings.ToLower(name)
			}
			s.names = append(s.names, name)
		}
	}
	return nil
}

func (m *model) addServer(s *server) {
	if len(s.listens) == 0 {
		s.listens = []listen{defaultListen()}
	}
	if len(s.names) == 0 {
		s.names = []string{""}
	}
	s.index = len(m.servers)
	m.servers = append(m.servers, s)
	for _, d := range s.body {
		if m.users[d.src] == nil {
			m.users[d.src] = users{}
		}
		m.users[d.src][s] = true
	}
	for _, l := range s.listens {
		for i, address := range l.addresses() {
			g := m.groups[address]
			if g == nil {
				g = &group{address: address, exact: map[string]*server{}}
				if !l.isUnix() {
					g.port = l.port + i
				}
				m.groups[address] = g
				m.order = append(m.order, address)
			}
			g.add(s, l)
		}
	}
}

// add joins a server block to the socket. Of two blocks with the same name the first one counts.
func (g *group) add(s *server, l listen) {
	g.servers = append(g.servers, s)
	g.listens = append(g.listens, l)
	for _, n := range s.names {
		if name := exactName(n); g.exact[name] == nil {
			g.exact[name] = s
		}
	}
}

// tls reports whether the socket speaks TLS: by the ssl parameter of any of its listen directives, or by "ssl on" in
// the server block that answers.
func (g *group) tls(s *server) bool {
	return slices.ContainsFunc(g.listens, func(l listen) bool { return l.has("ssl") }) || s.sslOn()
}

// has reports whether any listen directive of the socket has the parameter.
func (g *group) has(param string) bool {
	return slices.ContainsFunc(g.listens, func(l listen) bool { return l.has(param) })
}

// sslOn reports the ssl directive, which nginx knew before 1.25.1.
func (s *server) sslOn() bool {
	d := s.last("ssl")
	return d != nil && d.words[1].value == "on"
}

// last is the last directive of that name in the block, or else in the http block, or nil.
func (s *server) last(name string) *directive {
	for _, body := range [][]*directive{s.body, s.http.body} {
		for _, d := range slices.Backward(body) {
			if d.is(name) {
				return d
			}
		}
	}
	return nil
}

// own are the directives of that name in the block itself.
func (s *server) own(name string) []*directive { return named(s.body, name) }

func named(ds []*directive, name string) []*directive {
	var list []*directive
	for _, d := range ds {
		if d.is(name) {
			list = append(list, d)
		}
	}
	return list
}

// tlsGroups are the sockets at which the block speaks TLS over TCP.
func (m *model) tlsGroups(s *server) []*group {
	var list []*group
	for _, address := range m.order {
		if g := m.groups[address]; slices.Contains(g.servers, s) && g.tls(s) {
			list = append(list, g)
		}
	}
	return list
}
