package apache

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// realTree is the configuration of a whole Debian server.
const realTree = "testdata/certbot/trees/two_vhost_80/apache2"

// corpus lists the files that every test of the editor goes through: the project's own, and those of real sites.
func corpus(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{"testdata/corpus", "testdata/certbot/files", "testdata/certbot/trees"} {
		var files []string
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, path)
			}
			return err
		}))
		if len(files) == 0 {
			t.Fatalf("%s is empty", dir)
		}
		all = append(all, files...)
	}
	return all
}

// added is what editAll writes into each virtual host.
var added = []string{"SSLEngine on", "SSLCertificateFile /x"}

func switchedOff(d *directive) bool {
	return d.is("SSLCertificateFile") || d.is("SSLCertificateKeyFile")
}

// editAll does to every virtual host what an installation does: a block, and certificate directives switched off.
func editAll(t testing.TB, src *source, certificate string) []byte {
	t.Helper()
	var edits []change.Edit
	var visit func(ds []*directive)
	visit = func(ds []*directive) {
		for _, d := range ds {
			visit(d.children)
			if switchedOff(d) {
				edits = append(edits, switchOff(d, certificate))
			}
			if d.isSection("VirtualHost") {
				edits = append(edits, block(d, d.close, certificate, added))
			}
		}
	}
	visit(src.root)
	out, err := change.Splice(src.text, edits)
	must(t, err)
	return out
}

// editedOutline is what Apache reads of a file after editAll.
func editedOutline(ds []*directive) [][]string {
	var out [][]string
	for _, d := range ds {
		switch {
		case switchedOff(d):
			continue
		case d.section:
			out = append(out, append([]string{"<" + d.name + ">"}, words(d.args)...))
			out = append(out, editedOutline(d.children)...)
		default:
			out = append(out, append([]string{d.name}, words(d.args)...))
		}
		if d.isSection("VirtualHost") {
			for _, line := range added {
				out = append(out, words(line))
			}
		}
	}
	return out
}

// firstLost is the first line of before that is not in after, in the order of before; a mark in front that switches it
// off does not count.
func firstLost(before, after []byte, certificate string) (lost string, ok bool) {
	for line := range bytes.Lines(before) {
		found := false
		for !found && len(after) > 0 {
			end := bytes.IndexByte(after, '\n') + 1
			if end == 0 {
				end = len(after)
			}
			found = bytes.Equal(bytes.Replace(after[:end], []byte(markOff+certificate+": "), nil, 1), line)
			after = after[end:]
		}
		if !found {
			return string(line), true
		}
	}
	return "", false
}

// TestCorpus reads every file, edits it and takes the edit back. None of them may be refused.
func TestCorpus(t *testing.T) {
	files := corpus(t)
	vhosts := 0
	for _, path := range files {
		text, err := os.ReadFile(path)
		must(t, err)
		src := newSource(path, text, "www")
		must(t, src.err)
		vhosts += strings.Count(string(editAll(t, src, "www")), markBegin)
		checkRoundTrip(t, src, text)
	}
	t.Logf("%d files are byte-identical, and %d virtual hosts were edited", len(files), vhosts)
}

// checkRoundTrip edits a file, reads it as Apache would, and takes the edit back.
func checkRoundTrip(t *testing.T, src *source, text []byte) {
	t.Helper()
	checkSpans(t, src, src.root, 0, len(src.text))
	if string(src.text) != string(text) {
		t.Fatalf("%s is not the same after reading", src.path)
	}
	out := editAll(t, src, "www")
	if line, ok := firstLost(text, out, "www"); ok {
		t.Errorf("%s lost the line %q", src.path, line)
	}
	read := newSource(src.path, out, "nobody")
	if read.err != nil {
		t.Fatalf("the edited file cannot be read: %v\n%q", read.err, out)
	}
	if diff := cmp.Diff(editedOutline(src.root), outline(read.root)); diff != "" {
		t.Errorf("%s is edited to something else (-want +got):\n%s", src.path, diff)
	}
	back := newSource(src.path, out, "www")
	must(t, back.err)
	if string(back.text) != string(text) {
		t.Errorf("%s is not the same after an edit was taken back", src.path)
	}
}

// TestTree installs into a whole real configuration, as Apache reads it, for all of its names and takes it back.
func TestTree(t *testing.T) {
	a := newInstance(t, nil)
	must(t, os.RemoveAll(a.conf))
	must(t, os.CopyFS(a.conf, os.DirFS(realTree)))
	links := 0
	for _, dir := range []string{"mods-enabled", "sites-enabled", "conf-enabled"} {
		names, err := filepath.Glob(a.path(dir + "/*"))
		must(t, err)
		for _, name := range names {
			target, err := os.ReadFile(name)
			must(t, err)
			must(t, os.Remove(name))
			must(t, os.Symlink(strings.TrimSpace(string(target)), name))
			links++
		}
	}
	if links == 0 {
		t.Fatal("the tree has nothing that is enabled")
	}
	wrapper := filepath.Join(a.run, "apache.sh")
	must(t, os.WriteFile(wrapper, []byte(a.expand("#!/bin/sh\nexport APACHE_LOG_DIR={run} APACHE_RUN_DIR={run} APACHE_LOCK_DIR={run} APACHE_PID_FILE={run}/pid "+
		"APACHE_RUN_USER=www-data APACHE_RUN_GROUP=www-data\nexec {apache} \"$@\"\n")), 0o755))
	before := a.files()
	names := []string{"encryption-example.demo", "letsencrypt.demo", "ip-172-30-0-17"}
	l := newLineage(t, names...)
	b := installertest.Bundle(t, names...)
	l.publish(b)
	cfg := Config{Binary: wrapper, Root: a.conf, Config: a.path("apache2.conf"), PIDFile: filepath.Join(a.run, "pid"), Reload: []string{"/bin/true"},
		Listen: acmetest.FreePort(t), Redirect: true, HSTS: time.Hour}
	i := a.installer(cfg, l)
	text, err := i.Preview(t.Context(), b)
	must(t, err)
	if strings.Count(text, "SSLEngine on") != 3 {
		t.Errorf("Preview does not show three twins:\n%s", text)
	}
	wantStopped := func() {
		t.Helper()
		if err, stopped := i.Install(t.Context(), b), (*installers.NotRunningError)(nil); !errors.As(err, &stopped) {
			t.Errorf("Install on a stopped server = %v", err)
		}
	}
	wantStopped()
	after := a.files()
	if lost := lostLines(before, after); lost != nil {
		t.Errorf("lines are gone: %q", lost)
	}
	for name, old := range before {
		if line, ok := firstLost([]byte(old), []byte(after[name]), "test"); ok {
			t.Errorf("%s lost the line %q", name, line)
		}
	}
	if cmp.Equal(before, after) {
		t.Error("nothing was installed")
	}
	wantStopped()
	a.wantFiles(after, "a second Install edited something")
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}
