package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/internal/acmetest/canary"
)

// watcher collects what a spy reports.
type watcher struct {
	t     *testing.T
	mu    sync.Mutex
	seen  map[event]bool
	procs map[string]event // by number, with the last arguments seen
	argvs map[string]bool
	pass  chan struct{}
}

// watch starts a spy as the user nobody on a directory.
func watch(t *testing.T, dir string) *watcher {
	t.Helper()
	binary := filepath.Join(dir, "spy")
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(binary, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	cmd := exec.CommandContext(t.Context(), binary, dir)
	cmd.Env = []string{spying + "=1", "TMPDIR=" + os.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, seen: map[event]bool{}, procs: map[string]event{}, argvs: map[string]bool{}, pass: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.collect(stdout)
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-done
		_ = cmd.Wait()
	})
	return w
}

func (w *watcher) collect(from io.Reader) {
	for lines := json.NewDecoder(from); ; {
		var e event
		if err := lines.Decode(&e); err != nil {
			return
		}
		if e.Verb == "pass" {
			select {
			case w.pass <- struct{}{}:
			default:
			}
			continue
		}
		w.mu.Lock()
		w.seen[e] = true
		if e.Verb == "process" {
			w.procs[e.What] = e
			w.argvs[e.Text] = true
		}
		w.mu.Unlock()
	}
}

// look waits until the spy has tried everything once more, from the start.
func (w *watcher) look() {
	w.t.Helper()
	for range 2 {
		await.Value(w.t, "the spy has tried everything", w.pass)
	}
}

// all returns what was seen so far.
func (w *watcher) all() map[event]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.seen)
}

// role says whose process it is: acmed's, started by acmed, or "" for those of the test.
func (w *watcher) role(pid string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for depth := 0; depth < 10; depth++ {
		p, ok := w.procs[pid]
		switch {
		case !ok:
			return ""
		case strings.HasPrefix(p.Text, acmed+" ") && depth == 0:
			return "acmed"
		case strings.HasPrefix(p.Text, acmed+" "):
			return "a program that acmed runs"
		}
		pid = fmt.Sprint(p.Of)
	}
	return ""
}

// documented matches a row of the list in docs/SECURITY.md.
var documented = regexp.MustCompile("(?m)^\\| (read|write|list|connect|signal) \\| `([^`]+)` \\|")

var variable = strings.NewReplacer("example.com.yaml", "<name>.yaml", "mail.yaml", "<name>.yaml")

// issuerFile is what enable writes for a private CA.
var issuerFile = regexp.MustCompile(`conf\.d/ca-[\w.-]+\.yaml`)

// TestOtherUsers: everything that another user of the machine could read, list, write, connect to or signal while a
// certificate is enabled, renewed, revoked and deleted is what docs/SECURITY.md lists, no more and no less. The umask is
// the most open one.
func TestOtherUsers(t *testing.T) {
	if !seclude(t, "-p", "-f", "-m", "--mount-proc") {
		return
	}
	ownDirectories(t)
	m := newMinute(t, "nginx")
	l := newLife(m)
	l.enable()
	l.daemon()
	l.end()

	found, roles := map[string]bool{}, map[string]bool{}
	for e := range l.spy.all() {
		if e.Verb == "process" {
			roles[l.spy.role(e.What)] = true
		}
		if line := l.line(e); line != "" {
			found[line] = true
		}
	}
	if !roles["acmed"] || !roles["a program that acmed runs"] {
		t.Errorf("the spy saw no process of acmed: %v", roles)
	}
	want := map[string]bool{}
	text, err := os.ReadFile("../../docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range documented.FindAllStringSubmatch(string(text), -1) {
		want[row[1]+" "+row[2]] = true
	}
	for _, line := range slices.Sorted(maps.Keys(found)) {
		if !want[line] {
			t.Errorf("another user can %s; docs/SECURITY.md does not list it", line)
		}
	}
	for _, line := range slices.Sorted(maps.Keys(want)) {
		if !found[line] && !strings.Contains(line, "/proc/") { // which kernels fill in differently
			t.Errorf("docs/SECURITY.md lists %q, which another user could not do", line)
		}
	}
	for argv := range l.spy.argvs {
		if err := canary.Heard(argv); err != nil {
			t.Error(err)
		}
	}
	l.heard(string(text))
}

// othersLife is one machine on which everything happens while a spy watches.
type othersLife struct {
	*minute
	spy     *watcher
	journal *recorder
	secrets []string // the beginning of each private key that there was
	before  map[event]bool
	web     int
}

const hookSecret = "kG3vT9sW2xQ8zR5m"

func newLife(m *minute) *othersLife {
	m.t.Helper()
	l := &othersLife{minute: m, web: acmetest.FreePort(m.t), journal: record(m.t), secrets: []string{hookSecret}}
	for _, dir := range []string{"tmp", "tls", "secrets"} {
		if err := os.Mkdir(filepath.Join(m.dir, dir), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	l.must(os.Chmod(filepath.Join(m.dir, "tmp"), 0o777|os.ModeSticky))
	m.t.Setenv("TMPDIR", filepath.Join(m.dir, "tmp"))
	m.t.Setenv("ACMED_TEST_ENVIRONMENT", hookSecret)
	m.write("secrets/keystore", hookSecret+"\n")
	l.must(os.Chmod(filepath.Join(m.dir, "secrets/keystore"), 0o600))
	m.write("hook", fmt.Sprintf("#!/bin/sh\n: >%[1]s/hook.runs\nuntil [ -e %[1]s/hook.ends ]; do sleep 0.05; done\n", m.dir))
	l.must(os.Chmod(filepath.Join(m.dir, "hook"), 0o755))
	l.must(os.Chmod(filepath.Dir(acmed), 0o755))
	syscall.Umask(0)
	l.spy = watch(m.t, m.dir)
	l.spy.look()
	l.before = l.spy.all()
	return l
}

func (l *othersLife) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// command runs acmed and fails the test if it fails.
func (l *othersLife) command(args ...string) {
	l.t.Helper()
	if out, code := l.run(args...); code != 0 {
		l.t.Fatalf("%v: exit %d:\n%s", args, code, out)
	}
	l.spy.look()
	l.keep()
}

// enable lets the spy look in the middle of the order, while the challenge can be answered.
func (l *othersLife) enable() {
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.ca.Use(acmetest.At(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			once.Do(func() {
				close(reached)
				<-release
			})
			next.ServeHTTP(w, r)
		})
	}, acmetest.Challenge))
	done := make(chan struct{})
	go func() {
		defer close(done)
		args := []string{"enable", "--yes", "-d", "example.com", "--email", "ops@example.com", "--directory", l.ca.Directory, "--ca-file", l.dir + "/ca.pem",
			"--state-dir", l.dir + "/state", "--socket", l.dir + "/acmed.sock"}
		if out, code := l.run(append(args, l.flags...)...); code != 0 {
			l.t.Errorf("enable: exit %d:\n%s", code, out)
		}
	}()
	select {
	case <-reached:
	case <-done:
	}
	l.spy.look()
	l.noCores()
	close(release)
	<-done
	l.ca.Use()
	if l.t.Failed() {
		l.t.FailNow()
	}
	l.spy.look()
}

// noCores checks that no process of acmed, or that it runs, leaves its memory on disk. Those that run have begun.
func (l *othersLife) noCores() {
	l.t.Helper()
	found := false
	for e := range l.spy.all() {
		limits, err := os.ReadFile("/proc/" + e.What + "/limits")
		if e.Verb != "process" || err != nil || len(limits) == 0 || l.spy.role(e.What) == "" {
			continue
		}
		found = true
		if !coreLimit.Match(limits) {
			l.t.Errorf("%s may leave its memory on disk", e.Text)
		}
	}
	if !found {
		l.t.Error("no process of acmed was looked at")
	}
}

// daemon is the life of a second certificate, which has files and hooks, under the daemon.
func (l *othersLife) daemon() {
	main := l.read("acmed.yaml")
	l.write("acmed.yaml", main+fmt.Sprintf("web: { listen: \"127.0.0.1:%d\" }\n", l.web))
	issuers, err := filepath.Glob(filepath.Join(l.dir, "conf.d/ca-*.yaml"))
	if err != nil || len(issuers) != 1 {
		l.t.Fatal(issuers, err)
	}
	issuer := strings.TrimSuffix(filepath.Base(issuers[0]), ".yaml")
	l.write("conf.d/mail.yaml", fmt.Sprintf(`solvers:
  - { name: alone, http-01: { webroot: %[1]s/html } }
certificates:
  - name: mail
    names: [www.example.com]
    issuers: [%[2]s]
    solvers: [alone]
    hooks: { pre: [%[1]s/hook], timeout: 5m }
    install:
      - file: { dir: %[1]s/tls, cert: cert.pem, combined: all.pem, pkcs12: key.p12, password_file: %[1]s/secrets/keystore }
`, l.dir, issuer))
	l.site.daemon = exec.Command(acmed, "-c", filepath.Join(l.dir, "acmed.yaml"), "run")
	l.journal.attach(l.site.daemon)
	l.must(l.site.daemon.Start())
	l.waitForFile("hook.runs")
	l.noCores()
	l.spy.look()
	l.write("hook.ends", "")
	up(l.t, fmt.Sprintf("http://127.0.0.1:%d/", l.web))
	l.command("renew", "mail")
	l.command("renew", "--force", "--yes", "mail", "example.com")
	l.command("revoke", "mail", "--yes", "--reason", "keyCompromise")
	l.command("status")
	l.command("account", "rollover", issuer)
}

func (l *othersLife) end() {
	l.command("disable", "example.com", "--yes", "--purge")
	l.command("uninstall", "mail")
	l.must(os.Remove(filepath.Join(l.dir, "conf.d/mail.yaml")))
	l.command("reload")
	l.command("delete", "mail", "--yes")
	l.kill(syscall.SIGTERM)
	l.spy.look()
}

var (
	coreLimit   = regexp.MustCompile(`(?m)^Max core file size +0 +0 `)
	processFile = regexp.MustCompile(`^/proc/(\d+)/(.+)$`)
	temporary   = regexp.MustCompile(`^((conf\.d|tls)/)?\.acmed-\w+\.tmp$`) // of a file that can be read; the spy finds keys in it
	token       = regexp.MustCompile(`acme-challenge/[\w-]+`)
)

// line is how the documentation writes what was seen; "" for what has nothing to do with acmed.
func (l *othersLife) line(e event) string {
	what := e.What
	if m := processFile.FindStringSubmatch(e.What); m != nil {
		if l.spy.role(m[1]) == "" {
			return ""
		}
		return e.Verb + " /proc/<pid>/" + m[2]
	}
	switch e.Verb {
	case "process":
		return ""
	case "signal":
		if role := l.spy.role(e.What); role != "" {
			return e.Verb + " " + role
		}
		return ""
	}
	if l.before[e] {
		return ""
	}
	if path, ok := strings.CutPrefix(what, l.dir+"/"); ok {
		if slices.Contains([]string{"hook.runs", "hook.ends", "error.log"}, path) || e.Verb == "read" && temporary.MatchString(path) {
			return ""
		}
		return e.Verb + " " + issuerFile.ReplaceAllString(token.ReplaceAllString(variable.Replace(path), "acme-challenge/<token>"), "conf.d/<name>.yaml")
	}
	what = strings.NewReplacer(fmt.Sprintf("127.0.0.1:%d", l.web), "<status page>", fmt.Sprintf("127.0.0.1:%d", l.tls), "<web server>").Replace(what)
	return e.Verb + " " + what
}
