//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// scenario is one command that is broken, the files from which it begins, and what has to be true afterwards.
type scenario struct {
	name string
	// command is the one that is broken. It is run again after the harm, and has to work then.
	command func(w *worker) []string
	// before makes the files from which the runs begin out of those of the scenario named from.
	from   string
	before func(w *worker) error
	// sound looks right after the harm, done after the command was repeated.
	sound, done func(w *worker) error
}

const enabled = "conf.d/www.example.com.yaml"

// scenarios are what is broken: the first certificate, which edits nginx's configuration; its renewal; every way back; and
// the commands that write acmed's own configuration.
func scenarios() []scenario {
	words := func(args ...string) func(*worker) []string { return func(*worker) []string { return args } }
	nothing := func(*worker) error { return nil }
	run := func(args ...string) func(*worker) error { return func(w *worker) error { return w.run(args...) } }
	return []scenario{
		{name: "first", from: "base", before: nothing, command: words("renew", "--force", "--yes"), sound: (*worker).partly, done: (*worker).goesOn},
		{name: "renewal", from: "base", before: run("renew"), command: words("renew", "--force", "--yes", "www"), sound: (*worker).intact, done: (*worker).goesOn},
		{name: "uninstall", from: "renewal", before: nothing, command: words("uninstall", "www"), sound: (*worker).partly, done: (*worker).uninstalled},
		{name: "rollback", from: "renewal", before: (*worker).another, command: (*worker).back, sound: (*worker).intact, done: (*worker).rolledBack},
		{name: "activate", from: "rollback", before: (*worker).goBack, command: words("activate", "www"), sound: (*worker).intact, done: (*worker).goesOn},
		{name: "enable", from: "base", before: (*worker).unconfigured, command: (*worker).enable, sound: nothing, done: (*worker).enabledWell},
		{name: "disable", from: "enable", before: func(w *worker) error { return w.run(w.enable()...) },
			command: words("disable", "--yes", "www.example.com"), sound: nothing, done: (*worker).disabled},
		{name: "import", from: "renewal", before: (*worker).leave, command: (*worker).imports, sound: nothing, done: (*worker).imported},
	}
}

func find(name string) scenario {
	for _, s := range scenarios() {
		if s.name == name {
			return s
		}
	}
	return scenario{name: name}
}

// run runs acmed, unharmed.
func (w *worker) run(args ...string) error {
	if out, err := w.command(w.acmed, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("acmed %s: %w: %s", args[0], err, out)
	}
	return nil
}

// goesOn reports whether acmed works as if nothing had happened.
func (w *worker) goesOn() error {
	if err := w.run("renew"); err != nil {
		return fmt.Errorf("the next run: %w", err)
	}
	return errors.Join(w.run("renew", "--force", "--yes"), w.healthy(), w.intact())
}

// healthy reports whether status says so of the certificate. That no daemon runs is another matter.
func (w *worker) healthy() error {
	out, err := w.command(w.acmed, "status").CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return err
	}
	if !regexp.MustCompile(`(?m)^www +ok `).Match(out) {
		return fmt.Errorf("status: %s", out)
	}
	return nil
}

// uninstalled reports whether nginx has its bytes back, and whether an install works.
func (w *worker) uninstalled() error {
	err := w.asBefore()
	if out := filepath.Join(w.dir, "out/server.pem"); exists(out) {
		err = errors.Join(err, fmt.Errorf("%s is left", out))
	}
	return errors.Join(err, w.run("install", "www"), w.intact())
}

// asBefore compares nginx's configuration with the one before acmed, to the byte.
func (w *worker) asBefore() error {
	now, err := os.ReadFile(filepath.Join(w.dir, "nginx.conf"))
	if err == nil && string(now) != w.original {
		err = fmt.Errorf("nginx.conf is not as it was:\n%s", now)
	}
	return err
}

// another obtains a second version, and keeps the first one's name.
func (w *worker) another() error {
	first, err := os.Readlink(filepath.Join(w.dir, "state/certs/www/current"))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(w.dir, "earlier"), []byte(filepath.Base(first)), 0o600), w.run("renew", "--force", "--yes", "www"))
}

func (w *worker) earlier() string {
	name, _ := os.ReadFile(filepath.Join(w.dir, "earlier"))
	return string(name)
}

func (w *worker) back() []string { return []string{"rollback", "www", "--to", w.earlier()} }

func (w *worker) goBack() error { return w.run(w.back()...) }

// rolledBack reports whether the earlier version is active and served, and whether the way forward is open.
func (w *worker) rolledBack() error {
	now, err := os.Readlink(filepath.Join(w.dir, "state/certs/www/current"))
	if err == nil && filepath.Base(now) != w.earlier() {
		err = fmt.Errorf("%s is active, not %s", now, w.earlier())
	}
	return errors.Join(err, w.intact(), w.run("activate", "www"), w.intact())
}

// unconfigured is a machine on which no certificate is configured yet. Nginx answers where the CA asks, and serves no
// files, so that it gets a route for challenges.
func (w *worker) unconfigured() error {
	w.original = strings.Replace(w.original, fmt.Sprintf("127.0.0.1:%d", w.plain), fmt.Sprintf("127.0.0.1:%d", w.ca.HTTPPort), 1)
	return errors.Join(
		os.RemoveAll(filepath.Join(w.dir, "state")), os.Mkdir(filepath.Join(w.dir, "state"), 0o750), os.MkdirAll(filepath.Join(w.dir, "conf.d"), 0o755),
		os.WriteFile(filepath.Join(w.dir, "acmed.yaml"), fmt.Appendf(nil, `state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: forwarded, http-01: { listen: "127.0.0.1:%[3]d" } }
include: conf.d/*.yaml
`, w.dir, w.ca.Directory, w.upstream), 0o600),
		os.WriteFile(filepath.Join(w.dir, "nginx.conf"), []byte(w.original), 0o644), w.reload())
}

func (w *worker) enable() []string {
	return []string{"enable", "--yes", "-d", "www.example.com", "--directory", w.ca.Directory, "--server", "nginx", "--set", "config=" + w.dir + "/nginx.conf",
		"--set", "prefix=" + w.dir, "--set", "pid_file=" + w.root + "/nginx.pid", "--set", fmt.Sprintf("listen=%d", w.tls), "--set", "verify_timeout=5s"}
}

// enabledWell reports whether the site is served, and whether all of it can be undone.
func (w *worker) enabledWell() error {
	if err := w.served(); err != nil {
		return err
	}
	if err := w.run("disable", "--yes", "www.example.com"); err != nil {
		return err
	}
	return w.disabled()
}

// disabled reports whether nothing of acmed is left beside its state.
func (w *worker) disabled() error {
	err := w.asBefore()
	for _, name := range []string{enabled, ".acmed-setup"} {
		if exists(filepath.Join(w.dir, name)) {
			err = errors.Join(err, fmt.Errorf("%s is left", name))
		}
	}
	return errors.Join(err, w.nginx("-t"))
}

// leave makes certbot's files of the certificate, and a machine to which they are to be moved.
func (w *worker) leave() error {
	le := filepath.Join(w.dir, "le")
	for _, dir := range []string{"archive/www", "live/www", "renewal"} {
		if err := os.MkdirAll(filepath.Join(le, dir), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"cert", "chain", "fullchain", "privkey"} {
		text, err := os.ReadFile(filepath.Join(w.dir, "state/certs/www/current", name+".pem"))
		err = errors.Join(err, os.WriteFile(filepath.Join(le, "archive/www", name+"1.pem"), text, 0o600),
			os.Symlink("../../archive/www/"+name+"1.pem", filepath.Join(le, "live/www", name+".pem")))
		if err != nil {
			return err
		}
	}
	conf := fmt.Sprintf(`version = 2.1.0
archive_dir = %[1]s/archive/www
cert = %[1]s/live/www/cert.pem
privkey = %[1]s/live/www/privkey.pem
chain = %[1]s/live/www/chain.pem
fullchain = %[1]s/live/www/fullchain.pem
[renewalparams]
account = none
authenticator = standalone
http01_address = 127.0.0.1
http01_port = %[2]d
server = %[3]s
key_type = ecdsa
`, le, w.ca.HTTPPort, w.ca.Directory)
	return errors.Join(w.unconfigured(), os.WriteFile(filepath.Join(le, "renewal/www.conf"), []byte(conf), 0o644))
}

func (w *worker) imports() []string {
	return []string{"import", "certbot", "--dir", w.dir + "/le", "--write", "--yes"}
}

// imported reports whether the certificate is certbot's own: nothing was ordered in its place.
func (w *worker) imported() error {
	same := exec.Command("cmp", filepath.Join(w.dir, "le/archive/www/cert1.pem"), filepath.Join(w.dir, "state/certs/www/current/cert.pem"))
	if out, err := same.CombinedOutput(); err != nil {
		return fmt.Errorf("another certificate than certbot's: %w: %s", err, out)
	}
	return w.healthy()
}
