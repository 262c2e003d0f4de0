package apache

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWordsAsApache lets Apache read what the parser reads, and compares the values.
func TestWordsAsApache(t *testing.T) {
	a := newInstance(t, nil)
	var text strings.Builder
	for i, value := range []string{
		`plain`, `"quoted value"`, `'single "quotes"'`, `"esc\"aped"`, `"back\\slash\x"`, `back\\slash\x`, `"open quote`, `in"side`, `a#b`,
		"con\\\ntinued", "\\\n  next", "two\\\\\ncontinued", "and\\\\\n\nempty", "  spaces\t ", "\"tab\there\"", "crlf\\\r\ncontinued\r", "Gr\xfc\xdfe", "#\\\ncomment",
	} {
		fmt.Fprintf(&text, "Define V%d %s\n", i, value)
	}
	text.WriteString("# Define \\\nNOT set\nDefine LAST \\")
	a.write("conf-enabled/words.conf", text.String())
	f, err := a.configFor().ask(t.Context())
	must(t, err)
	src := newSource("words.conf", []byte(text.String()), "")
	must(t, src.err)
	want := map[string]string{}
	for _, d := range src.root {
		if w := words(d.args); len(w) == 2 {
			want[w[0]] = w[1]
		}
	}
	maps.DeleteFunc(f.defines, func(name, _ string) bool { return strings.HasPrefix(name, "DUMP_") })
	if diff := cmp.Diff(f.defines, want); diff != "" {
		t.Errorf("(-Apache +parser):\n%s", diff)
	}
}

func (a *instance) configFor() *Config {
	c := a.config().withDefaults()
	return &c
}

// TestModelAsApache has what makes virtual hosts hard to find, and compares with what Apache serves.
func TestModelAsApache(t *testing.T) {
	a := newInstance(t, map[string]string{
		"sites-available/a.conf": `Define HOST shop
<IfDefine HOST>
# a comment \
<VirtualHost *:{plain}>
<VirtualHost \
    *:{plain} \
    127.0.0.1:{tls}>
  ServerName "${HOST}.example"
  Include snippets
  <IfModule nothing_module>
    ServerAlias hidden.example
  </IfModule>
  <IfModule !mod_nothing.c>
    ServerAlias *.wild.example
  </IfModule>
</VirtualHost>
</IfDefine>
<IfDefine !HOST>
<VirtualHost *:{plain}>
  ServerName never.example
</VirtualHost>
</IfDefine>
<VirtualHost *:{plain}>
  ServerName later.example
  ServerAlias x.wild.example
</VirtualHost>
<Macro Site $name>
<VirtualHost *:{plain}>
  ServerName $name
</VirtualHost>
</Macro>
Use Site macro.example
`,
		"snippets/one.conf": "ServerAlias included.example\n",
		"snippets/two.conf": "IncludeOptional snippets/deep/*.conf\nIncludeOptional nowhere/*.conf\n",
		"snippets/deep/x":   "ServerAlias deep.example\n",
	})
	a.enableModule("macro")
	f, err := a.configFor().ask(t.Context())
	must(t, err)
	m, err := buildModel(f, "test", nil)
	must(t, err)
	got := map[string][]string{}
	for _, v := range m.vhosts {
		got[v.server] = v.names
		if macro := v.server == "macro.example"; macro != (v.err != nil) {
			t.Errorf("%s: %v", v.server, v.err)
		}
	}
	want := map[string][]string{
		"shop.example":  {"shop.example", "deep.example", "included.example", "*.wild.example"},
		"later.example": {"later.example", "x.wild.example"},
		"macro.example": {"macro.example"},
	}
	for _, names := range got {
		slices.Sort(names[1:])
	}
	for _, names := range want {
		slices.Sort(names[1:])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var listed []string
	for _, l := range m.listens() {
		listed = append(listed, l.line())
	}
	if diff := cmp.Diff([]string{a.expand("Listen 127.0.0.1:{plain} https")}, listed); diff != "" {
		t.Error(diff)
	}
	choice := map[string]string{}
	for _, name := range []string{"shop.example", "x.wild.example", "x.y.wild.example", "unknown.example", "macro.example"} {
		v, _ := m.group("*", a.plain).answer(name)
		choice[name] = v.server
	}
	// What Apache answers is a virtual host's own text.
	for _, v := range []string{"shop", "later", "macro"} {
		a.write("sites-available/a.conf", strings.Replace(a.read("sites-available/a.conf"), "ServerName "+map[string]string{
			"shop": `"${HOST}.example"`, "later": "later.example", "macro": "$name"}[v], "ErrorDocument 404 \""+v+".example \"\n  ServerName "+
			map[string]string{"shop": `"${HOST}.example"`, "later": "later.example", "macro": "$name"}[v], 1))
	}
	a.start()
	for name, want := range choice {
		if _, body := a.get("http", name, "/"); strings.TrimSpace(body) != want {
			t.Errorf("%s is answered by %q, want %q", name, body, want)
		}
	}
}

// TestAllPorts has a virtual host for all ports beside one for a port: which of them Apache answers with does not depend
// on their order.
func TestAllPorts(t *testing.T) {
	named := func(address, body string) string {
		return "<VirtualHost " + address + ">\nServerName a.example\nErrorDocument 404 " + body + "\n</VirtualHost>\n"
	}
	for name, text := range map[string]string{
		"all first": named("*", `"all"`) + named("*:{plain}", `"one"`),
		"all last":  named("*:{plain}", `"one"`) + named("*", `"all"`),
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t, map[string]string{"sites-available/a.conf": text})
			f, err := a.configFor().ask(t.Context())
			must(t, err)
			m, err := buildModel(f, "test", nil)
			must(t, err)
			v, _ := m.at("127.0.0.1", a.plain).answer("a.example")
			want := words(v.own("ErrorDocument")[0].args)[1]
			if _, body := a.get("http", "a.example", "/"); body != want || want != "one" {
				t.Errorf("Apache answers %q, and the model %q", body, want)
			}
		})
	}
}
