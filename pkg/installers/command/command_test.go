package command

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// site is a program with the directory that it writes to and a server that reads from there.
type site struct {
	t      *testing.T
	dir    string
	script string
	pairs  []tls.Certificate
	addr   string
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: t.TempDir(), script: filepath.Join(t.TempDir(), "deploy.sh")}
	text, err := os.ReadFile("testdata/deploy.sh")
	if err != nil {
		t.Fatal(err)
	}
	s.write(s.script, string(text), 0o700)
	if err := os.Mkdir(filepath.Join(s.dir, "site"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s.pairs, err = installertest.KeyPairs(installertest.Bundle(t, "default.example")); err != nil {
		t.Fatal(err)
	}
	s.addr = installertest.Serve(t, s.load).Addr
	return s
}

func (s *site) write(path, text string, mode fs.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) load() ([]tls.Certificate, error) {
	at := func(name string) string { return filepath.Join(s.dir, "site", name) }
	if _, err := os.Stat(filepath.Join(s.dir, "frozen")); err == nil {
		return s.pairs, nil
	}
	pair, err := tls.LoadX509KeyPair(at("fullchain.pem"), at("key.pem"))
	if err != nil {
		return s.pairs, nil
	}
	return []tls.Certificate{pair}, nil
}

// mark makes or removes a file that the program or the server looks at.
func (s *site) mark(name string) func(bool) {
	return func(on bool) {
		if on {
			s.write(filepath.Join(s.dir, name), "", 0o600)
		} else if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) calls() int {
	text, err := os.ReadFile(filepath.Join(s.dir, "calls"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Error(err)
	}
	return bytes.Count(text, []byte("\n"))
}

func (s *site) config() Config { return Config{Run: []string{s.script, s.dir}} }

func (s *site) env() map[string]string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "env"))
	if err != nil {
		s.t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[key] = value
	}
	return env
}

func mustNew(t *testing.T, c Config, target installers.Target) *Installer {
	t.Helper()
	p, err := New(c, target)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConformance(t *testing.T) {
	installertest.Run(t, func(t *testing.T) installertest.Fixture {
		s := newSite(t)
		target, publish, state := installertest.Live(t, "www.example.com")
		c := s.config()
		c.Verify, c.VerifyTimeout = []string{s.addr}, time.Second
		return installertest.Fixture{
			Installer: mustNew(t, c, target), Names: []string{"www.example.com"}, Root: filepath.Join(s.dir, "site"), State: state,
			Publish: publish, Reloads: s.calls,
			Break: map[installertest.Step]func(bool){installertest.Reload: s.mark("broken")},
		}
	})
}

func TestEnvironment(t *testing.T) {
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("CLOUDFLARE_DNS_API_TOKEN", "s3cret")
	s := newSite(t)
	target, publish, _ := installertest.Live(t, "*.example.com", "192.0.2.1")
	b := installertest.Dual(t, "*.example.com", "192.0.2.1")
	b.Issuer = "letsencrypt"
	publish(b)
	if err := mustNew(t, s.config(), target).Install(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	got := s.env()
	lineage := filepath.Dir(target.Cert)
	want := map[string]string{
		"ACMED_EVENT": "install", "ACMED_CERTIFICATE": "test", "ACMED_NAMES": "*.example.com 192.0.2.1",
		"ACMED_CERT": target.Cert, "ACMED_CHAIN": target.Chain, "ACMED_FULLCHAIN": target.FullChain, "ACMED_KEY": target.Key,
		"ACMED_RSA_CERT": lineage + "/cert-rsa.pem", "ACMED_RSA_CHAIN": lineage + "/chain-rsa.pem",
		"ACMED_RSA_FULLCHAIN": lineage + "/fullchain-rsa.pem", "ACMED_RSA_KEY": lineage + "/privkey-rsa.pem",
		"ACMED_FINGERPRINT": b.Fingerprint(), "ACMED_SERIAL": b.Serial(), "ACMED_ISSUER": "letsencrypt",
		"ACMED_NOT_AFTER": b.Leaf.NotAfter.UTC().Format(time.RFC3339),
		"RENEWED_LINEAGE": filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(lineage))), "live", "test"), "RENEWED_DOMAINS": "*.example.com 192.0.2.1",
		"LEGO_CERT_DOMAIN": "*.example.com", "LEGO_CERT_PATH": target.FullChain, "LEGO_CERT_KEY_PATH": target.Key, "LEGO_ISSUER_CERT_PATH": target.Chain,
		"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "LC_ALL": "C",
	}
	for _, own := range []string{"PWD", "OLDPWD", "SHLVL", "_"} { // set by the shell that the script runs in
		delete(got, own)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the environment (-want +got):\n%s", d)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for key := range want {
		if (strings.HasPrefix(key, "ACMED_") || strings.HasPrefix(key, "RENEWED_") || strings.HasPrefix(key, "LEGO_")) && !bytes.Contains(doc, []byte("\t"+key)) {
			t.Errorf("%s is not documented", key)
		}
	}
	for _, path := range []string{"ACMED_RSA_KEY", "ACMED_KEY", "ACMED_CHAIN"} {
		if _, err := os.Stat(got[path]); err != nil {
			t.Error(err)
		}
	}
}

func TestKeyOfTheOperatorIsNotPassed(t *testing.T) {
	full := installertest.Bundle(t, "a.example")
	b, err := certs.NewBundle(full.FullChainPEM(), nil)
	if err != nil {
		t.Fatal(err)
	}
	target, _, _ := installertest.Live(t, "a.example")
	for _, entry := range environment(target, b, "install") {
		if strings.HasPrefix(entry, "ACMED_KEY=") {
			t.Error(entry)
		}
	}
}

// TestExitCodes: what the program does, and what becomes of it.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	target, publish, _ := installertest.Live(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	publish(b)
	for _, tt := range []struct {
		name, script string
		timeout      time.Duration
		later        bool
		message      string // in the error; "" means success
	}{
		{"success", "exit 0", 0, false, ""},
		{"failure", "echo no space left >&2; exit 1", 0, false, "exit status 1: no space left"},
		{"later", "echo the cluster is busy; exit 75", 0, true, "asked to be called later: "},
		{"hang", "sleep 60 & wait", time.Second, false, "did not end in time"},
		{"flood", "head -c 300000000 /dev/zero; exit 1", 0, false, "exit status 1"},
		{"escapes", `printf '\033[2Jgone\r\n'; exit 1`, 0, false, `\u001b[2Jgone`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.name)
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			err := mustNew(t, Config{Run: []string{path}, Timeout: tt.timeout}, target).Install(t.Context(), b)
			if (err == nil) != (tt.message == "") {
				t.Fatalf("Install = %v", err)
			}
			var later *installers.LaterError
			if errors.As(err, &later) != tt.later {
				t.Errorf("%T", err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.message) || len(err.Error()) > 13_000) {
				t.Errorf("the error has %d bytes: %.300s", len(err.Error()), err)
			}
		})
	}
}

// TestNotServed: the program succeeds and the endpoint serves something else; the next try runs the program again.
func TestNotServed(t *testing.T) {
	s := newSite(t)
	target, publish, _ := installertest.Live(t, "www.example.com")
	b := installertest.Bundle(t, "www.example.com")
	publish(b)
	c := s.config()
	c.Verify, c.VerifyTimeout = []string{s.addr}, time.Second
	p := mustNew(t, c, target)
	s.mark("frozen")(true)
	for calls := 1; calls <= 2; calls++ {
		if err := p.Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), "expected serial "+b.Serial()) || s.calls() != calls {
			t.Errorf("Install = %v after %d calls", err, s.calls())
		}
	}
	s.mark("frozen")(false)
	if err := p.Install(t.Context(), b); err != nil || s.calls() != 2 {
		t.Errorf("Install = %v after %d calls: it is served already", err, s.calls())
	}
}

// TestNoShell: what looks like a command line is one argument.
func TestNoShell(t *testing.T) {
	s := newSite(t)
	target, publish, _ := installertest.Live(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	publish(b)
	witness := filepath.Join(s.dir, "witness")
	for _, argument := range []string{"a; touch " + witness, "$(touch " + witness + ")", "`touch " + witness + "`", "| touch " + witness} {
		if err := mustNew(t, Config{Run: []string{"/bin/true", argument}}, target).Install(t.Context(), b); err != nil {
			t.Error(err)
		}
		if err := mustNew(t, Config{Run: []string{"/bin/true " + argument}}, target).Install(t.Context(), b); err == nil {
			t.Errorf("%q was run", "/bin/true "+argument)
		}
	}
	if _, err := os.Stat(witness); err == nil {
		t.Error("a shell was involved")
	}
}

func TestCheck(t *testing.T) {
	s := newSite(t)
	target, publish, _ := installertest.Live(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	publish(b)
	c := s.config()
	c.Check = []string{"/bin/sh", "-c", `test "$ACMED_EVENT" = check && cmp -s "$ACMED_FULLCHAIN" "$0/site/fullchain.pem"`, s.dir}
	p := mustNew(t, c, target)
	if err := p.Verify(t.Context(), b); err == nil {
		t.Error("Verify before Install returned nil")
	}
	for range 2 {
		if err := p.Install(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Verify(t.Context(), b); err != nil || s.calls() != 1 {
		t.Errorf("Verify = %v after %d calls, want one", err, s.calls())
	}
	publish(installertest.Bundle(t, "a.example"))
	if err := p.Verify(t.Context(), b); err == nil {
		t.Error("Verify of a certificate that is not deployed returned nil")
	}
}

// TestExamine: programs that are missing or not allowed to run are found without running one.
func TestExamine(t *testing.T) {
	s := newSite(t)
	open := filepath.Join(t.TempDir(), "open.sh")
	s.write(open, "#!/bin/sh\n", 0o755)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ run, check, want string }{
		{s.script, "", ""}, {s.script, s.script, ""}, {s.script + "x", "", "no such file"}, {s.script, s.script + "x", "no such file"}, {open, "", "is not run"},
	} {
		c := Config{Run: []string{tt.run}}
		if tt.check != "" {
			c.Check = []string{tt.check}
		}
		p, err := New(c, installers.Target{})
		if err != nil {
			t.Fatal(err)
		}
		err = p.Examine(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if s.calls() != 0 {
		t.Error("a program was run")
	}
}

func TestHook(t *testing.T) {
	s := newSite(t)
	target, publish, _ := installertest.Live(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	publish(b)
	h := &Hook{Argv: []string{s.script, s.dir}, Target: target, Event: "post"}
	if err := h.Run(t.Context(), b); err != nil || s.env()["ACMED_EVENT"] != "post" {
		t.Errorf("%v, event %s", err, s.env()["ACMED_EVENT"])
	}
	h.Event = "pre"
	if err := h.Run(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, known := s.env()["ACMED_FINGERPRINT"]; known || s.env()["ACMED_NAMES"] != "a.example" {
		t.Errorf("before the first order: %v", s.env())
	}
	s.mark("busy")(true)
	var later *installers.LaterError
	if err := h.Run(t.Context(), b); !errors.As(err, &later) || !strings.Contains(err.Error(), "another deployment runs") {
		t.Errorf("a busy hook: %v", err)
	}
}

func TestValidate(t *testing.T) {
	c := Config{Run: []string{"deploy"}, Check: []string{"./check"}, Verify: []string{"example.com"}, Timeout: time.Millisecond, VerifyTimeout: -1}
	err := c.Validate()
	for _, want := range []string{`run: "deploy" is not an absolute path`, `check: "./check"`, "verify: endpoint", "timeout: 1ms is shorter", "verify_timeout: -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if err := (&Config{}).Validate(); err == nil || !strings.Contains(err.Error(), "run: the program is missing") {
		t.Error(err)
	}
	if err := (&Config{Run: []string{"/bin/true"}}).Validate(); err != nil {
		t.Error(err)
	}
}
