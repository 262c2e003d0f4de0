package nginx

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers"
)

// complaint is what nginx -t says about a file.
func complaint(t *testing.T, path string) string {
	t.Helper()
	_, err := installers.Command{Argv: []string{defaultBinary, "-t", "-p", filepath.Dir(path), "-c", path}}.Run(t.Context())
	var failed *installers.CommandError
	if !errors.As(err, &failed) {
		t.Fatalf("nginx -t: %v", err)
	}
	return failed.Output
}

// agree reads the first statements of a text as nginx does. Each time nginx stops at the first statement of what it is
// given, because it does not know the directive, and says what it took for its name and on which line that ends.
func agree(t *testing.T, path, text string) {
	t.Helper()
	says := func(text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, said, _ := strings.Cut(complaint(t, path), "[emerg] ")
		_, said, _ = strings.Cut(said, ": ") // the process
		return said
	}
	l := &lexer{path: path, text: []byte(text)}
	for range 5 {
		rest := text[l.pos:]
		from := l.pos
		s, err := l.next()
		switch {
		case err != nil:
			if said := says(rest); !strings.HasPrefix(said, "unexpected ") && !strings.HasPrefix(said, "too long parameter") {
				t.Errorf("%q: refused (%v), and nginx says %s", clip(rest), err, clip(said))
			}
			return
		case s.term == 0:
			if said := says(rest); !strings.HasPrefix(said, "no \"events\" section") {
				t.Errorf("%q: read as empty, and nginx says %s", clip(rest), clip(said))
			}
			return
		case s.term == '}':
			if said := says(rest); !strings.HasPrefix(said, `unexpected "}"`) {
				t.Errorf("%q: read as a closing brace, and nginx says %s", clip(rest), clip(said))
			}
			continue
		}
		line := 2 + strings.Count(rest[:s.pos-from], "\n")
		if said := says("zz\n" + rest); !strings.HasPrefix(said, fmt.Sprintf("unknown directive \"zz\" in %s:%d\n", path, line)) {
			t.Errorf("%q: read as a statement that ends on line %d, and nginx says %s", clip("zz\n"+rest), line, clip(said))
		}
		for _, w := range s.words[:min(len(s.words), 3)] {
			if regexp.MustCompile(`^\w+$`).MatchString(w.value) {
				continue // nginx may know it
			}
			want := fmt.Sprintf("unknown directive \"%s\" in ", w.value)
			want = want[:min(len(want), 1000)] // nginx cuts its messages
			if said := says(text[w.start:]); !strings.HasPrefix(said, want) {
				t.Errorf("%q: read as %q, and nginx says %s", clip(text[w.start:]), clip(w.value), clip(said))
			}
		}
	}
}

// needNginx skips a test on a machine without nginx.
func needNginx(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(defaultBinary); err != nil {
		t.Skip("nginx is not installed")
	}
}

// TestLexerAsNginx reads random text as nginx does.
func TestLexerAsNginx(t *testing.T) {
	t.Parallel()
	needNginx(t)
	path := filepath.Join(t.TempDir(), "x.conf")
	pieces := []string{"a", "b", " ", "\t", "\r\n", "\n", ";", "{", "}", "${", "$", `"`, "'", `\`, "#", ")", "(", `\n`, "q;", "w {"}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var text strings.Builder
		for range 1 + rng.IntN(12) {
			text.WriteString(pieces[rng.IntN(len(pieces))])
		}
		agree(t, path, text.String())
	}
	for _, n := range []int{maxParameter - 2, maxParameter - 1, maxParameter, maxParameter + 1} {
		long := strings.Repeat("x", n)
		for _, text := range []string{
			"a " + long + ";", "a '" + long + "';", "a '" + long + "' ;", "#" + long + "\na;", "#" + long, " a;#" + long + "\nb;", long + ";",
			"a " + long, strings.Repeat(" ", n) + "a;", "a\\" + long + ";",
		} {
			agree(t, path, text)
		}
	}
}

// TestIncludesAsNginx compares the files of a configuration, in order, with what nginx -T prints.
func TestIncludesAsNginx(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"nginx.conf": "pid {run}/nginx.pid;\nerror_log {run}/error.log;\ninclude {conf}/main.d/[!x]*.conf;\nevents { }\ninclude http/http.conf;\n",
	}
	for _, name := range []string{"B.conf", "a.conf", "_c.conf", "x.conf", ".hidden.conf", "a.conf.bak", "10.conf", "2.conf", "ä.conf"} {
		files["main.d/"+name] = "# empty\n"
	}
	files["http/http.conf"] = "http {\n include sites/*/site.c[o-p]nf;\n include none/*.conf;\n include sites/?.conf;\n include http/../snippets/one.inc;\n}\n"
	for _, dir := range []string{"b", "a", "C"} {
		files["sites/"+dir+"/site.conf"] = "server { listen 127.0.0.1:{plain}; server_name " + dir + ".example; include snippets/*.inc; }\n"
	}
	files["sites/z.conf"] = "server { listen 127.0.0.1:{plain}; include links/*; }\n"
	files["snippets/one.inc"] = "# one\n"
	files["snippets/two.inc"] = "server_tokens off;\n"
	files["real/linked"] = "server_name z.example;\n"
	n := newInstance(t, files)
	if err := os.MkdirAll(n.path("links"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../real/linked", n.path("links/z")); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^# configuration file (.*):$`).FindAllStringSubmatch(n.nginx("-T"), -1) {
		want = append(want, m[1])
	}
	tree, err := load(n.path("nginx.conf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{tree.main.path}
	collect(t, tree, tree.main.root, &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-nginx +acmed):\n%s", diff)
	}
	m, err := buildModel(tree, resolver(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, s := range m.servers {
		names += s.names[0] + " "
	}
	if names != "C.example a.example b.example z.example " && names != "c.example a.example b.example z.example " {
		t.Errorf("server blocks in the order %s", names)
	}
}

// collect lists included files in the order in which they are first read.
func collect(t *testing.T, tree *tree, ds []*directive, files *[]string) {
	t.Helper()
	for _, d := range ds {
		if d.is("include") {
			if err := tree.resolve(d); err != nil {
				t.Fatal(err)
			}
			for _, src := range tree.found[d] {
				if !slices.Contains(*files, src.path) {
					*files = append(*files, src.path)
				}
				collect(t, tree, src.root, files)
			}
		}
		collect(t, tree, d.children, files)
	}
}

func TestIncludeRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := (installers.Command{Argv: []string{"/usr/bin/mkfifo", filepath.Join(dir, "fifo")}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	write("self.inc", "\ninclude self.inc;")
	write("ping.inc", "include pong.inc;")
	write("pong.inc", "\n\ninclude ping.inc;")
	write("bad.inc", "\nlisten 80")
	for i := range maxIncludes + 2 {
		write(fmt.Sprintf("deep%d.inc", i), fmt.Sprintf("include deep%d.inc;", i+1))
	}
	for _, tt := range []struct{ include, want string }{
		{"/dev/zero", "nginx.conf:2: include: read the nginx configuration: /dev/zero is not a regular file"},
		{"fifo", "fifo is not a regular file"},
		{".", "is not a regular file"},
		{"absent.conf", "nginx.conf:2: include: read the nginx configuration: "},
		{"self.inc", "self.inc:2: "},
		{"ping.inc", "pong.inc:3: "},
		{"bad.inc", `bad.inc:2: "80" has no terminating`},
		{"deep0.inc", "includes are nested more than"},
		{"a[.conf", "the pattern cannot be resolved"},
		{"[[:alpha:]].conf", "the pattern cannot be resolved"},
		{"a b", "nginx.conf:2: include takes one file"},
	} {
		tree, err := load(write("nginx.conf", "http {\ninclude "+tt.include+";\n}\n"), nil)
		if err == nil {
			_, err = buildModel(tree, resolver(t.Context()))
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("include %s: got %v, want %s", tt.include, err, tt.want)
		}
	}
}

// TestChooseAsNginx asks a real nginx which of many random server blocks answers for a name at an address.
func TestChooseAsNginx(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 3 {
		n := newInstance(t, nil)
		addresses := []string{"127.0.0.1:{plain}", "127.0.0.2:{plain}", "{plain}", "localhost:{plain}", "[::1]:{plain}", "*:{tls}", "127.0.0.1:{tls}"}
		if !hasIPv6() {
			addresses = slices.Delete(addresses, 4, 5)
		}
		var text strings.Builder
		defaults := map[string]bool{}
		for i := range 25 {
			text.WriteString("server {\n")
			for _, j := range rng.Perm(len(addresses))[:1+rng.IntN(3)] {
				address := addresses[j]
				if block := lastBlock(text.String()); strings.Contains(block, "localhost") || address == "localhost:{plain}" && strings.Contains(block, "1:{plain}") {
					continue // nginx refuses the same socket twice in one block
				}
				text.WriteString("listen " + address)
				socket := strings.Replace(address, "localhost", "127.0.0.1", 1)
				if !defaults[socket] && rng.IntN(8) == 0 {
					defaults[socket] = true
					text.WriteString(" default_server")
				}
				text.WriteString(";\n")
			}
			text.WriteString("server_name")
			for range 1 + rng.IntN(3) {
				text.WriteString(" " + randomServerName(rng))
			}
			fmt.Fprintf(&text, ";\nlocation / { return 200 \"%d\"; }\n}\n", i)
		}
		n.write("sites/a.conf", text.String())
		n.nginx()
		compareChoices(t, n)
		n.stop()
		if t.Failed() {
			t.Fatalf("round %d:\n%s", round, n.read("sites/a.conf"))
		}
	}
}

func lastBlock(text string) string { return text[strings.LastIndex(text, "server {"):] }

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func randomServerName(rng *rand.Rand) string {
	names := []string{
		"a.example", "b.example", "x.a.example", "y.x.a.example", "www.b.example", "A.Example", "*.a.example", ".a.example", "*.x.a.example",
		".b.example", "*.example", "www.*", "a.*", "x.a.*", "www.b.*", `""`, "_", "localhost",
	}
	return names[rng.IntN(len(names))]
}

func compareChoices(t *testing.T, n *instance) {
	t.Helper()
	tree, err := load(n.path("nginx.conf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := buildModel(tree, resolver(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{
		"a.example", "b.example", "x.a.example", "y.x.a.example", "z.y.x.a.example", "www.b.example", "www.c.example", "c.example", "a.test",
		"x.a.test", "www.b.test", "www.test", "other.test", "localhost",
	}
	for _, g := range m.groups {
		at := g.socket.dial()
		if other := m.sockets[at]; other != nil && other != g {
			continue // the more specific socket answers there
		}
		for _, name := range names {
			want, _ := g.choose(name)
			if got := askPlain(t, at.String(), name); got != strconv.Itoa(want.index) {
				t.Errorf("%s at %s: nginx answers from block %s, chosen was %d", name, g.socket, got, want.index)
			}
		}
	}
}

func askPlain(t *testing.T, addr, name string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", name)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func clip(s string) string { return text.Cut(s, text.Value) }
