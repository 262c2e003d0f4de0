package nginx

import (
	"os"
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
	socket  socket
	servers []*server // in nginx's order
	listens []listen  // theirs, in the same order
	names   nameTable
}

// model is a configuration as nginx chooses server blocks by it.
type model struct {
	servers []*server
	groups  []*group // in nginx's order
	sockets map[socket]*group
	foreign []*directive // listen directives of stream and mail servers
	find    lookup
	users   map[*source]users // which server blocks take directives from an included file
}

type users map[*server]bool

// buildModel reads the http, stream and mail blocks of a tree.
func buildModel(t *tree, find lookup) (*model, error) {
	m := &model{sockets: map[socket]*group{}, find: find, users: map[*source]users{}}
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
		if err := t.walk(d.children, func(d *directive) error { return s.add(d, m.find) }); err != nil {
			return err
		}
		m.addServer(s)
		return nil
	})
}

// add takes one directive of the block.
func (s *server) add(d *directive, find lookup) error {
	s.body = append(s.body, d)
	switch {
	case d.is("listen"):
		l, err := parseListen(d, find)
		if err != nil {
			return err
		}
		s.listens = append(s.listens, l)
	case d.is("server_name"):
		for _, name := range d.args() {
			s.names = append(s.names, plainName(name))
		}
	}
	return nil
}

// plainName is a server_name as nginx compares it.
func plainName(name string) string {
	if strings.HasPrefix(name, "~") {
		return name
	}
	if name == "$hostname" {
		if host, err := os.Hostname(); err == nil {
			name = host
		}
	}
	return strings.ToLower(name)
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
		if l.has("quic") {
			continue // UDP; a client gets there from the TCP side
		}
		for _, at := range l.sockets() {
			g := m.sockets[at]
			if g == nil {
				g = &group{socket: at, names: newNameTable()}
				m.sockets[at] = g
				m.groups = append(m.groups, g)
			}
			g.add(s, l)
		}
	}
}

// add joins a server block to the socket.
func (g *group) add(s *server, l listen) {
	g.servers = append(g.servers, s)
	g.listens = append(g.listens, l)
	for _, n := range s.names {
		g.names.add(n, s)
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
	for _, g := range m.groups {
		if slices.Contains(g.servers, s) && g.tls(s) {
			list = append(list, g)
		}
	}
	return list
}
