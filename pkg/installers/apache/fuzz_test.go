package apache

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

func FuzzParse(f *testing.F) {
	for _, path := range corpus(f) {
		if text, err := os.ReadFile(path); err == nil && len(text) < 8<<10 {
			f.Add(text)
		}
	}
	f.Add([]byte("<VirtualHost *>\nSSLCertificateFile \\\n a</VirtualHost>\n</VirtualHost>\\\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		src := newSource("fuzz.conf", text, "www")
		if src.err != nil || src.hasMarks() || strings.Contains(string(text), "# acmed ") {
			return
		}
		checkRoundTrip(t, src, text)
	})
}

func FuzzDump(f *testing.F) {
	f.Add("Included configuration files:\n  (*) /a\n    (3) /b\nVirtualHost configuration:\n*:80 a (/b:1)\n[::1]:443 is a NameVirtualHost\n" +
		"         default server a (/b:1)\n         port 443 namevhost a (/b:1)\n                 wild alias *.a\nServerRoot: \"/\"\nDefine: A=b\nLoaded Modules:\n so_module (static)\n")
	f.Fuzz(func(t *testing.T, text string) {
		facts, err := parseDump(text)
		if err == nil && facts.main == nil {
			t.Error("no main file and no error")
		}
	})
}

// factsOf stands in for Apache: what it would say of these files, one after the other, with every module at hand and
// nothing defined.
func factsOf(dir string, paths ...string) (*facts, error) {
	f := &facts{root: dir, defines: map[string]string{}, modules: map[string]bool{"ssl_module": true, "headers_module": true, "rewrite_module": true}}
	m := &model{facts: f}
	for _, path := range paths {
		src, err := readSource(path, "nobody")
		if err != nil {
			return nil, err
		}
		if src.err != nil {
			return nil, src.err
		}
		inc := &include{path: path}
		if f.main == nil {
			f.main = inc
		} else {
			f.main.children = append(f.main.children, inc)
		}
		f.addVhosts(m, path, src.root)
	}
	return f, nil
}

func (f *facts) addVhosts(m *model, path string, ds []*directive) {
	for _, d := range ds {
		switch {
		case d.isCondition() && m.holds(d) != no:
			f.addVhosts(m, path, d.children)
		case d.isSection("VirtualHost"):
			v := &vhost{file: path, line: d.line, server: "main.example"}
			for _, n := range named(m.walk(&include{}, d.children, nil), "ServerName") {
				v.server = strings.ToLower(m.value(n))
			}
			v.addName(v.server)
			f.vhosts = append(f.vhosts, v)
			for _, address := range words(d.args) {
				f.addTo(address, v)
			}
		}
	}
}

func (f *facts) addTo(address string, v *vhost) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "0"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return
	}
	g := (&model{facts: f}).group(host, int(n))
	if g == nil {
		g = &group{host: host, port: int(n)}
		f.groups = append(f.groups, g)
	}
	if !slices.Contains(g.vhosts, v) {
		g.vhosts = append(g.vhosts, v)
	}
}

// FuzzPlan installs into whatever the parser can read. Nothing is lost, the result can be read, a second run has nothing
// to do, and taking acmed's lines away gives back the file.
func FuzzPlan(f *testing.F) {
	const head = "Listen 80\nListen 443\n"
	server := regexp.MustCompile(`(?i)(ServerName\s+)\S+`)
	for _, path := range corpus(f) {
		text, err := os.ReadFile(path)
		must(f, err)
		if bytes.Contains(text, []byte("<VirtualHost")) && len(text) < 4<<10 {
			f.Add(server.ReplaceAllString(string(text), "${1}a.example"))
		}
	}
	f.Add("<VirtualHost *:80>\nServerName a.example\n</VirtualHost>\n")
	f.Add("<VirtualHost *:80>\r\n\tServerAlias *.example\r\n<IfModule mod_ssl.c>\r\n</IfModule></VirtualHost>\r\n</VirtualHost>")
	f.Add("<VirtualHost *:80 [::1]:80>\n</VirtualHost>\n<VirtualHost *:443>\nServerName \\\na.example\nSSLEngine on\nSSLCertificateFile \\\n /x\n SSLCertificateKeyFile y\n  \\\n</VirtualHost>")
	b := installertest.Bundle(f, "a.example")
	name, _, err := certs.ParseIdentifier("a.example")
	must(f, err)
	dir := f.TempDir()
	main := filepath.Join(dir, "apache2.conf")
	read := func(paths ...string) (*planner, error) {
		facts, err := factsOf(dir, paths...)
		if err != nil {
			return nil, err
		}
		p := &planner{
			cfg:    Config{Redirect: true, HSTS: time.Hour}.withDefaults(),
			target: installers.Target{Certificate: "www", FullChain: "/live/fullchain.pem", Key: "/live/privkey.pem"},
			names:  []certs.Identifier{name}, bundle: b, files: &layout{kind: layoutDebian, dir: dir, certificate: "www"},
		}
		p.m, err = buildModel(facts, "www", nil)
		return p, err
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = head + strings.ReplaceAll(text, "acmed", "adcme")
		if newSource(main, []byte(text), "www").err != nil {
			return
		}
		must(t, os.WriteFile(main, []byte(text), 0o600))
		p, err := read(main)
		if err != nil {
			return
		}
		files, err := p.make()
		if err != nil {
			return
		}
		paths := []string{main}
		for i, file := range files {
			switch {
			case file.Path == main:
				must(t, os.WriteFile(main, file.Content, 0o600))
			case file.Link == "":
				twins := filepath.Join(dir, "sites-enabled", filepath.Base(file.Path))
				must(t, os.MkdirAll(filepath.Dir(twins), 0o700))
				must(t, os.WriteFile(twins, files[i].Content, 0o600))
				defer os.Remove(twins)
				paths = append(paths, twins)
			}
		}
		checkPlan(t, text, paths, read)
	})
}

func checkPlan(t *testing.T, text string, paths []string, read func(...string) (*planner, error)) {
	t.Helper()
	now, err := os.ReadFile(paths[0])
	must(t, err)
	if line, ok := firstLost([]byte(text), now, "www"); ok {
		t.Errorf("the line %q is lost in\n%s", line, now)
	}
	back, _, err := withdraw(paths[0], now, "www")
	if err != nil || string(back) != text {
		t.Errorf("taken out again: %v\ngot  %q\nwant %q", err, back, text)
	}
	again, err := read(paths...)
	if err != nil {
		t.Fatalf("the edited text cannot be read: %v\n%s", err, now)
	}
	if files, err := again.make(); err != nil || len(files) != 0 {
		t.Fatalf("a second run is not empty: %v\n%s\n%d files", err, now, len(files))
	}
}
