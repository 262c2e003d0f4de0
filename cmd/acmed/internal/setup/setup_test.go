package setup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/cmd/acmed/internal/imports"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/change"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestSealed(t *testing.T) {
	d := Dropin{Notes: []string{"look\nhere"}, Certificates: []Certificate{{Name: "www", Names: []string{"example.com"}}}}
	text, err := d.Text()
	if err != nil {
		t.Fatal(err)
	}
	if !Sealed(text) || !strings.Contains(string(text), "# look\n# here\n") {
		t.Errorf("not sealed, or without its notes:\n%s", text)
	}
	for i := range text {
		edited := []byte(string(text))
		edited[i] ^= 1
		if Sealed(edited) {
			t.Fatalf("an edit of byte %d is not noticed", i)
		}
	}
	for _, other := range []string{"", "certificates: []\n", string(text[:len(text)-1]), string(text) + "\n"} {
		if Sealed([]byte(other)) {
			t.Errorf("%q is sealed", other)
		}
	}
}

// TestChange: all or nothing, and back.
func TestChange(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, "etc", name) }
	sealed := func(name string) []byte {
		text, err := (&Dropin{Certificates: []Certificate{{Name: name}}}).Text()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	files := []File{{Path: at("main"), Content: []byte("main")}, {Path: at("a"), Content: sealed("a"), Certificate: "a"}, {Path: at("b"), Content: sealed("b"), Certificate: "b"}}
	journal := filepath.Join(dir, "journal")
	c := &Change{Dirs: []Dir{{at(""), 0o755}}, Files: files, journal: journal}
	if err := c.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.RevertCertificate(t.Context(), "b"); err != nil || exists(at("b")) || !exists(at("a")) {
		t.Errorf("one certificate: %v", err)
	}
	if err := c.Revert(t.Context()); err != nil || exists(filepath.Dir(at("main"))) {
		t.Errorf("revert: %v", err)
	}

	// A file of somebody else stops everything before anything is written.
	write(t, at("b"), "mine")
	var taken *TakenError
	c = &Change{Files: files, journal: journal}
	if err := c.Apply(t.Context()); !errors.As(err, &taken) || taken.Path != at("b") || exists(at("a")) {
		t.Errorf("got %v", err)
	}

	// What acmed wrote is replaced, and comes back.
	write(t, at("b"), string(sealed("old")))
	c = &Change{Files: files, journal: journal}
	if err := c.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Revert(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(at("b")); err != nil || string(text) != string(sealed("old")) {
		t.Errorf("got %s, %v", text, err)
	}
	c = &Change{Files: []File{{Path: at("b")}, {Path: at("absent")}}, journal: journal}
	if err := c.Remove(t.Context()); err != nil || exists(at("b")) {
		t.Errorf("remove: %v", err)
	}
	if err := c.Revert(t.Context()); err != nil || !exists(at("b")) {
		t.Errorf("bring back: %v", err)
	}
}

// TestChangeFails: a directory that cannot be made takes back what was done before it.
func TestChangeFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	c := &Change{Dirs: []Dir{{filepath.Join(dir, "a"), 0o755}, {filepath.Join(dir, "file", "b"), 0o755}}, journal: filepath.Join(dir, "journal")}
	if err := c.Apply(t.Context()); err == nil || exists(filepath.Join(dir, "a")) {
		t.Errorf("got %v", err)
	}
}

// TestChangeWithin: what is done within a change decides whether its files stay, and sees them.
func TestChangeWithin(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "acmed.yaml")
	boom := errors.New("the state directory is locked")
	for _, fails := range []error{boom, nil} {
		c := &Change{Files: []File{{Path: main, Content: []byte("main")}}, journal: journalDir(main)}
		c.within = func(context.Context) error {
			if !exists(main) {
				t.Error("the file is not there yet")
			}
			return fails
		}
		if err := c.Apply(t.Context()); !errors.Is(err, fails) {
			t.Errorf("got %v, want %v", err, fails)
		}
		if exists(main) != (fails == nil) || exists(journalDir(main)) {
			t.Errorf("with %v: the file is there: %v, the journal: %v", fails, exists(main), exists(journalDir(main)))
		}
	}
}

// TestRecover: what a killed command left pending is undone when the next one opens the configuration.
func TestRecover(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "acmed.yaml")
	write(t, main, "agree_tos: true\ninclude: conf.d/*.yaml\n")
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "conf.d", "www.yaml")
	killed := change.Change{
		Journal: journalDir(main), Files: []change.File{{Path: left, Content: []byte("broken: yes\n"), Was: change.Absent}},
		Probe: func(context.Context) error { // as far as a kill here leaves it
			err := exec.Command("sh", "-c", "cp -a "+journalDir(main)+" "+dir+"/kept && cp "+left+" "+dir+"/kept.yaml").Run()
			return errors.Join(err, errors.New("killed"))
		},
	}
	if _, err := killed.Apply(t.Context()); err == nil || !exists(filepath.Join(dir, "kept", "journal")) {
		t.Fatalf("got %v", err)
	}
	for from, to := range map[string]string{"kept": ".acmed-setup", "kept.yaml": "conf.d/www.yaml"} {
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, to)), os.Rename(filepath.Join(dir, from), filepath.Join(dir, to))); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(t.Context(), main)
	if err != nil || m.Config == nil || exists(left) || exists(journalDir(main)) {
		t.Errorf("got %v; the file is there: %v, the journal: %v", err, exists(left), exists(journalDir(main)))
	}
}

func TestMachine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "acmed.yaml")
	m, err := Open(t.Context(), path)
	if err != nil || m.Config != nil || m.Dropin("www") != filepath.Join(dir, "conf.d", "www.yaml") {
		t.Fatalf("got %+v, %v", m, err)
	}
	main := Main{Email: "ops@example.com", AgreeTOS: true, StateDir: filepath.Join(dir, "var", "state")}
	c, err := m.Begin(main)
	if err != nil {
		t.Fatal(err)
	}
	for directory, want := range map[string]string{
		"https://acme-v02.api.letsencrypt.org/directory": "letsencrypt",
		"https://CA.internal:9000/dir":                   "ca-ca.internal",
		"https://[::1]/dir":                              "ca---1",
	} {
		if got, err := m.CA(c, directory, ""); err != nil || got != want {
			t.Errorf("%s: got %q, %v", directory, got, err)
		}
	}
	if _, err := m.CA(c, "http://ca.internal/dir", ""); err == nil {
		t.Error("plain HTTP was taken")
	}
	d := &Dropin{Certificates: []Certificate{{Name: "www", Names: []string{"example.com"}}}}
	if err := errors.Join(m.Add(c, "www", d), c.Apply(t.Context())); err != nil {
		t.Fatal(err)
	}
	if m, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if c := m.Covering("example.com"); c == nil || c.Name != "www" || !m.Mine("www") || m.Covering("example.org") != nil {
		t.Errorf("got %+v", m.Config)
	}
	write(t, path, "agree_tos: true\n")
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "include: conf.d/*.yaml") {
		t.Errorf("got %v", err)
	}
	write(t, path, "agree_tos: true\ninclude: "+dir+"/conf.d/*.yaml\n")
	if m, err := Open(t.Context(), path); err != nil || m.Dropin("x") != filepath.Join(dir, "conf.d/x.yaml") {
		t.Errorf("got %v", err)
	}
}

func TestMerge(t *testing.T) {
	got := merge(Server{Kind: Nginx}, []block{
		{names: []string{"a.example", "www.a.example"}, place: "a:1", root: "/plain"},
		{names: []string{"b.example"}, place: "b:1", root: "/b"},
		{names: []string{"a.example"}, place: "a:9", root: "/secure", tls: true},
	})
	want := []Site{
		{Server: Server{Kind: Nginx}, Names: []string{"b.example"}, Place: "b:1", Roots: map[string]string{"b.example": "/b"}},
		{Server: Server{Kind: Nginx}, Names: []string{"a.example", "www.a.example"}, Place: "a:1", TLS: true,
			Roots: map[string]string{"a.example": "/plain", "www.a.example": "/plain"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s := Serves(merge(Server{}, []block{{names: []string{"*.c.example"}, root: "/c"}}), "x.c.example"); len(s) != 1 || s[0].Root("x.c.example") != "/c" {
		t.Errorf("got %+v", s)
	}
}

func TestSettings(t *testing.T) {
	got, err := Settings([]string{"listen=8443", "config=/x", "verify=[127.0.0.1:8443]", "redirect=true"})
	want := map[string]any{"listen": 8443, "config": "/x", "verify": []any{"127.0.0.1:8443"}, "redirect": true}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{"listen", "=x", "verify=[x"} {
		if _, err := Settings([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := Find(t.Context(), Nginx, map[string]any{"binary": "/usr/sbin/nginx", "liste": 8443}); err == nil || !strings.Contains(err.Error(), "liste") {
		t.Errorf("got %v", err)
	}
}

// TestTranslate is the table of certbot's plugins.
func TestTranslate(t *testing.T) {
	for _, test := range []struct {
		name     string
		params   map[string]string
		solver   Solver // the first one
		uses     []string
		deferred bool
		note     string
	}{
		{name: "standalone", params: map[string]string{"authenticator": "standalone"}, uses: []string{"http-01"}},
		{name: "another port", params: map[string]string{"authenticator": "standalone", "http01_port": "8080", "http01_address": "::1"},
			solver: Solver{Name: "www-listen", HTTP01: &HTTP01{Listen: "[::1]:8080"}}, uses: []string{"www-listen"}},
		{name: "webroot", params: map[string]string{"authenticator": "webroot", "webroot_path": "/srv/x, /srv/y,"},
			solver: Solver{Name: "www-webroot", HTTP01: &HTTP01{Webroot: "/srv/y"}}, uses: []string{"www-webroot"}},
		{name: "webroot without path", params: map[string]string{"authenticator": "webroot"}, deferred: true, note: "no directory is known"},
		{name: "cloudflare", params: map[string]string{"authenticator": "dns-cloudflare", "dns_cloudflare_credentials": "/root/cf.ini"},
			solver: Solver{Name: "www-dns", DNS01: map[string]any{"provider": "cloudflare", "env_file": "/etc/acmed/secrets/cloudflare.env"}},
			uses:   []string{"www-dns"}, deferred: true, note: "with the values of /root/cf.ini, one on each line: CLOUDFLARE_DNS_API_TOKEN="},
		{name: "rfc2136", params: map[string]string{"authenticator": "dns-rfc2136"}, deferred: true, note: "rfc2136"},
		{name: "unknown DNS", params: map[string]string{"authenticator": "dns-nobody"}, deferred: true, note: "acmed dns list"},
		{name: "manual", params: map[string]string{"authenticator": "manual", "manual_auth_hook": "/root/x"}, deferred: true, note: "manual_auth_hook = /root/x"},
		{name: "hooks", params: map[string]string{"authenticator": "standalone", "pre_hook": "systemctl stop x"}, uses: []string{"http-01"}, note: "as pre_hook: systemctl stop x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := imports.CertbotLineage("www", "/etc/letsencrypt", test.params, nil)
			tr := &translation{importer: &importer{m: &Machine{Path: "/etc/acmed/acmed.yaml"}, tree: &imports.Tree{Program: "certbot"}, out: &Import{}},
				l: l, names: []string{"example.com"}, cert: Certificate{Name: "www"}, moved: Moved{Notes: l.Notes}}
			if err := tr.challenge(); err != nil {
				t.Fatal(err)
			}
			var first Solver
			if len(tr.solvers) > 0 {
				first = tr.solvers[0]
			}
			if diff := cmp.Diff(test.solver, first); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.uses, tr.cert.Solvers); diff != "" {
				t.Error(diff)
			}
			if all := strings.Join(tr.moved.Notes, "\n"); tr.moved.Deferred != test.deferred || !strings.Contains(all, test.note) {
				t.Errorf("deferred %v, notes:\n%s", tr.moved.Deferred, all)
			}
		})
	}
}

// TestHelper: the helper's file comes and goes with the certificate's, and its main file is made once.
func TestHelper(t *testing.T) {
	dir := t.TempDir()
	m, err := Open(t.Context(), filepath.Join(dir, "acmed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	target := HelperTarget{Name: "www", Names: []string{"a.example"}, Install: Install{"nginx": {"redirect": true}}}
	enable := func() (*Helper, *Change) {
		t.Helper()
		h, err := m.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c := &Change{journal: journalDir(h.Path)}
		if err := errors.Join(h.Add(c, "www", target), c.Apply(t.Context())); err != nil {
			t.Fatal(err)
		}
		return h, c
	}
	h, c := enable()
	got, _, err := config.LoadHelper(h.Path)
	if err != nil || len(got.Targets) != 1 || got.Targets[0].Name != "www" || !got.Targets[0].Install.Nginx.Redirect || !h.Mine("www") {
		t.Fatalf("the helper reads %+v, %v", got, err)
	}
	if err := c.Revert(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	_, _ = enable()
	target.Names = []string{"b.example"}
	if _, c := enable(); len(c.Files) != 1 {
		t.Errorf("a second certificate writes %d files", len(c.Files))
	}
	if err := os.WriteFile(h.Dropin("www"), []byte("targets: []\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if h.Mine("www") {
		t.Error("an edited file is taken for acmed's own")
	}
	if err := os.WriteFile(h.Path, []byte("user: acmed\ntargets: [{name: x, names: [x.example], install: {nginx: {}}}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Helper(); err == nil || !strings.Contains(err.Error(), "include: installd.d/*.yaml") {
		t.Errorf("no place for further files: %v", err)
	}
}
