//go:build linux && amd64

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// worker is one machine: a CA, an nginx, and acmed's files, which it puts back to where they were before each run.
type worker struct {
	acmed, root, dir string
	sum              *tally
	ca               *acmetest.CA
	plain, tls       int
	upstream         int
	original         string // nginx.conf before acmed
}

// newWorker makes the machine, and below root the files from which the runs of each scenario begin. A worker that is
// returned with an error has to be closed as well.
func newWorker(acmed, root string, sum *tally) (*worker, error) {
	ca, err := acmetest.New()
	if err != nil {
		return nil, err
	}
	w := &worker{acmed: acmed, root: root, dir: filepath.Join(root, "site"), sum: sum, ca: ca}
	for _, port := range []*int{&w.plain, &w.tls, &w.upstream} {
		if *port, err = freePort(); err != nil {
			return w, err
		}
	}
	if err := errors.Join(w.files(), w.nginx(), w.keep("base")); err != nil {
		return w, err
	}
	for _, s := range scenarios() {
		if err := w.restore(s.from); err != nil {
			return w, err
		}
		if err := s.before(w); err != nil {
			return w, fmt.Errorf("before %s: %w", s.name, err)
		}
		if err := errors.Join(w.keep(s.name), w.unharmed(s.name)); err != nil {
			return w, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return w, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (w *worker) files() error {
	config := fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:%[3]d" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
certificates:
  - name: www
    names: [www.example.com]
    install:
      - file: { dir: %[1]s/out, combined: server.pem }
      - nginx: { config: %[1]s/nginx.conf, prefix: %[1]s, pid_file: %[4]s/nginx.pid, listen: %[5]d, verify_timeout: 5s }
`, w.dir, w.ca.Directory, w.ca.HTTPPort, w.root, w.tls)
	nginx := fmt.Sprintf(`pid %s/nginx.pid;
error_log /dev/null;
events {}
http {
	access_log off;
	server {
		listen 127.0.0.1:%d;
		server_name www.example.com;
		location / { return 200 "hello\n"; }
	}
}
`, w.root, w.plain)
	w.original = nginx
	return errors.Join(
		os.MkdirAll(filepath.Join(w.dir, "state"), 0o750),
		os.Mkdir(filepath.Join(w.dir, "out"), 0o755),
		os.WriteFile(filepath.Join(w.dir, "ca.pem"), w.ca.RootPEM, 0o600),
		os.WriteFile(filepath.Join(w.dir, "acmed.yaml"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(w.dir, "nginx.conf"), []byte(nginx), 0o644),
	)
}

// nginx starts it, or signals the one that runs.
func (w *worker) nginx(args ...string) error {
	out, err := exec.Command("nginx", append([]string{"-p", w.dir, "-c", w.dir + "/nginx.conf", "-e", "/dev/null"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nginx %v: %w: %s", args, err, out)
	}
	return nil
}

func (w *worker) close() error { return errors.Join(w.nginx("-s", "stop"), w.ca.Close()) }

// keep makes the present files those from which a scenario begins.
func (w *worker) keep(scenario string) error {
	if err := os.WriteFile(filepath.Join(w.root, scenario+".nginx"), []byte(w.original), 0o600); err != nil {
		return err
	}
	return exec.Command("cp", "-a", w.dir, filepath.Join(w.root, scenario)).Run()
}

// restore puts the files of a scenario back.
func (w *worker) restore(scenario string) error {
	original, err := os.ReadFile(filepath.Join(w.root, scenario+".nginx"))
	w.original = string(original)
	return errors.Join(err, os.RemoveAll(w.dir), exec.Command("cp", "-a", filepath.Join(w.root, scenario), w.dir).Run(), w.reload())
}

// reload makes nginx read its configuration, and waits until it listens where that says.
func (w *worker) reload() error {
	if err := w.nginx("-s", "reload"); err != nil {
		return err
	}
	var err error
	for range 500 {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", w.door(), 5*time.Second); err == nil {
			return conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("nginx: %w", err)
}

// door is where nginx answers without TLS.
func (w *worker) door() string {
	_, after, _ := strings.Cut(w.original, "listen ")
	address, _, _ := strings.Cut(after, ";")
	return address
}

func (w *worker) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "ACMED_CONFIG="+filepath.Join(w.dir, "acmed.yaml"))
	return cmd
}

// traced runs the scenario's command, asking before each change of a file what to do, and returns what the command said.
func (w *worker) traced(scenario string, before func(point string) injury) ([]byte, error) {
	cmd := w.command(w.acmed, find(scenario).command(w)...)
	file, err := os.Create(filepath.Join(w.root, "output"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = file, file
	if err := errors.Join(trace(cmd, w.dir, before), file.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(file.Name())
}

// unharmed notes where a run changes files if nothing happens to it.
func (w *worker) unharmed(scenario string) error {
	if err := w.restore(scenario); err != nil {
		return err
	}
	out, err := w.traced(scenario, func(point string) injury {
		w.sum.unharmed(scenario, point)
		return injury{}
	})
	if err != nil {
		return err
	}
	if err := find(scenario).done(w); err != nil {
		return fmt.Errorf("an unharmed run: %w: %s", err, out)
	}
	return nil
}

func (w *worker) work(tasks <-chan task) error {
	var failed error
	for t := range tasks {
		if failed == nil {
			failed = w.do(t)
		}
	}
	return failed
}

// do harms one change, which may not come in every run: some depend on what happens to take longer.
func (w *worker) do(k task) error {
	for range 10 {
		if err := w.restore(k.scenario); err != nil {
			return err
		}
		harmed := false
		out, err := w.traced(k.scenario, func(point string) injury {
			if point != k.point {
				return injury{}
			}
			harmed = true
			return k.injury()
		})
		if err != nil {
			return err
		}
		if harmed {
			if err = w.verdict(k.scenario); err != nil {
				err = fmt.Errorf("%w\nthe harmed run said: %s", err, out)
			}
			w.sum.ran(k, err)
			return nil
		}
	}
	w.sum.miss(k)
	return nil
}

// verdict looks at what a server reads, then repeats the command, and looks again. An acmed that runs in between changes
// nothing for the worse.
func (w *worker) verdict(scenario string) error {
	s := find(scenario)
	if err := errors.Join(w.answers(), s.sound(w)); err != nil {
		return fmt.Errorf("right after: %w", err)
	}
	if s.name == "import" {
		if err := w.run("renew"); err != nil {
			return fmt.Errorf("a run in between: %w", err)
		}
	}
	out, err := w.command(w.acmed, s.command(w)...).CombinedOutput()
	over := s.name == "disable" && strings.Contains(string(out), "no certificate is called")
	if err != nil && !over {
		return fmt.Errorf("the same command again: %w: %s", err, out)
	}
	return s.done(w)
}

// answers reports whether nginx accepts its configuration, and connections.
func (w *worker) answers() error {
	if err := w.nginx("-t"); err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", w.door(), 5*time.Second)
	if err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	return conn.Close()
}

// partly reports whether all that is there is well: there may be nothing.
func (w *worker) partly() error {
	var errs []error
	if live := filepath.Join(w.dir, "state/certs/www/current"); exists(live) {
		errs = append(errs, pair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem")))
	}
	if out := filepath.Join(w.dir, "out/server.pem"); exists(out) {
		errs = append(errs, pair(out, out))
	}
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// intact reports whether the active files and the installed file each hold a complete, matching and valid pair, and nginx
// serves one.
func (w *worker) intact() error {
	live, out := filepath.Join(w.dir, "state/certs/www/current"), filepath.Join(w.dir, "out/server.pem")
	return errors.Join(pair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem")), pair(out, out), w.served())
}

func (w *worker) served() error {
	d := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(d, "tcp", fmt.Sprintf("127.0.0.1:%d", w.tls), &tls.Config{ServerName: "www.example.com", RootCAs: w.ca.IssuingRoots()})
	if err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	return conn.Close()
}

func pair(cert, key string) error {
	p, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s: %w", cert, err)
	}
	leaf, err := x509.ParseCertificate(p.Certificate[0])
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", cert, err)
	case len(p.Certificate) < 2:
		return fmt.Errorf("%s: the chain is cut off", cert)
	case time.Now().After(leaf.NotAfter):
		return fmt.Errorf("%s: expired", cert)
	}
	return nil
}
