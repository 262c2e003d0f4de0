package nginx

import (
	"errors"
	"os"
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
	f.Add([]byte("a { b_by_lua_block { [[ } ]] } }"))
	f.Fuzz(func(t *testing.T, text []byte) {
		src, err := parse("fuzz.conf", text)
		if err != nil {
			return
		}
		checkSpans(t, src, src.root)
		if got := reassemble(src, src.root, 0, len(text)); got != string(text) {
			t.Errorf("got %q, want %q", got, text)
		}
	})
}

// FuzzPlan plans an installation in any text, plans it again and takes it out again.
func FuzzPlan(f *testing.F) {
	for _, path := range corpus(f) {
		if text := readFile(f, path); len(text) < 4<<10 {
			f.Add("http { " + text + "\n}")
		}
	}
	f.Add("http{server{server_name a.example;}}")
	f.Add("http { server { listen 80; listen 443 ssl; server_name .example; ssl_certificate x; ssl_certificate_key y; return 204; } }")
	b := installertest.Bundle(f, "a.example")
	name, _, err := certs.ParseIdentifier("a.example")
	if err != nil {
		f.Fatal(err)
	}
	const path = "/nowhere/nginx.conf"
	read := func(text string) (*planner, error) {
		tree, err := load(path, map[string][]byte{path: []byte(text)})
		if err != nil {
			return nil, err
		}
		m, err := buildModel(tree, func(host string) []string { return []string{host} })
		return &planner{
			cfg:    Config{Redirect: true, HSTS: time.Hour, HTTP2: true}.withDefaults(),
			target: installers.Target{Certificate: "www", FullChain: "/live/fullchain.pem", Key: "/live/privkey.pem"},
			names:  []certs.Identifier{name}, bundle: b, tree: tree, m: m, http2: http2Param,
		}, err
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "include", "inclvde"), "acmed", "adcme")
		p, err := read(text)
		if err != nil {
			return
		}
		made, err := p.make()
		if err != nil || len(made.files) == 0 {
			return
		}
		edited := string(made.files[0].Content)
		again, err := read(edited)
		if err != nil {
			t.Fatalf("the edited text cannot be read: %v\n%s", err, edited)
		}
		if made, err := again.make(); err != nil || len(made.files) != 0 {
			t.Fatalf("a second run is not empty: %v\n%s\n%+v", err, edited, made)
		}
		n := &Installer{target: p.target, cfg: p.cfg}
		got, err := n.unmerge(path, []byte(text), []byte(edited))
		if refused := (*SyntaxError)(nil); err != nil && !errors.As(err, &refused) || err == nil && string(got) != text {
			t.Fatalf("taken out again: %v\ngot  %q\nwant %q", err, got, text)
		}
	})
}
