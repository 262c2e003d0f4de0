package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// site is a CA that reaches all nodes through a balancer, the store, and the nodes.
type site struct {
	acmed, dir string
	ca         *acmetest.CA
	orders     *orders
	plain, tls *acmetest.Balancer
	store      *store
	watch      *watcher
	nodes      []*node
}

// node is one machine with its own files.
type node struct {
	site              *site
	name, dir         string
	plain, tls, https int
	nginx             bool

	mu     sync.Mutex // held by who does something to the process
	daemon *exec.Cmd
	log    *os.File
}

// cert is one certificate of all nodes.
type cert struct {
	name    string
	extra   string // further names, each after a comma
	profile string
	solver  string
	nginx   bool
}

func newSite(acmed, dir string, nodes int, slow time.Duration, opts ...acmetest.Option) (s *site, err error) {
	s = &site{dir: dir, orders: newOrders(slow)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.acmed, err = filepath.Abs(acmed); err != nil {
		return s, err
	}
	if s.ca, err = acmetest.New(append(opts, acmetest.WithRetryAfter(0, 0), acmetest.WithMiddleware(s.orders.see),
		acmetest.WithOnlyProfile("long", 90*24*time.Hour), acmetest.WithProfile("short", 6*24*time.Hour))...); err != nil {
		return s, err
	}
	if s.plain, err = acmetest.NewBalancer(s.ca.HTTPPort); err != nil {
		return s, err
	}
	if s.tls, err = acmetest.NewBalancer(s.ca.TLSPort); err != nil {
		return s, err
	}
	if s.store, err = newStore(dir); err != nil {
		return s, err
	}
	if err = os.WriteFile(filepath.Join(dir, "ca.pem"), s.ca.RootPEM, 0o600); err != nil {
		return s, err
	}
	for i := range nodes {
		if err = s.add(i); err != nil {
			return s, err
		}
	}
	s.watch = newWatcher(s.store)
	return s, nil
}

func (s *site) add(i int) error {
	n := &node{site: s, name: fmt.Sprint("n", i), dir: filepath.Join(s.dir, fmt.Sprint("n", i))}
	s.nodes = append(s.nodes, n)
	for _, port := range []*int{&n.plain, &n.tls, &n.https} {
		var err error
		if *port, err = acmetest.Port(); err != nil {
			return err
		}
	}
	if err := errors.Join(os.MkdirAll(n.dir+"/state", 0o750), os.MkdirAll(n.dir+"/site", 0o750)); err != nil {
		return err
	}
	var err error
	n.log, err = os.Create(n.dir + "/log")
	return err
}

func (s *site) close() (err error) {
	for _, n := range s.nodes {
		n.kill(syscall.SIGKILL)
		if n.nginx {
			err = errors.Join(err, n.nginxDo("-s", "stop"))
		}
		if n.log != nil {
			_ = n.log.Close()
		}
	}
	if s.store != nil {
		err = errors.Join(err, s.store.stop())
	}
	for _, b := range []*acmetest.Balancer{s.plain, s.tls} {
		if b != nil {
			err = errors.Join(err, b.Close())
		}
	}
	if s.ca != nil {
		err = errors.Join(err, s.ca.Close())
	}
	return err
}

// balance makes the CA reach all nodes.
func (s *site) balance() {
	var plain, tls []int
	for _, n := range s.nodes {
		plain, tls = append(plain, n.plain), append(tls, n.tls)
	}
	s.plain.Use(plain...)
	s.tls.Use(tls...)
}

// found makes the fleet, with the seal key of the first node on all of them.
func (s *site) found() error {
	if _, err := s.nodes[0].run("fleet", "init"); err != nil {
		return err
	}
	key, err := os.ReadFile(s.nodes[0].dir + "/seal")
	for _, n := range s.nodes[1:] {
		err = errors.Join(err, os.WriteFile(n.dir+"/seal", key, 0o600))
	}
	return err
}

// configure writes the configuration of a node.
func (n *node) configure(list []cert) error {
	var b strings.Builder
	fmt.Fprintf(&b, `state_dir: %[1]s/state
socket: %[1]s/acmed.sock
log: { level: info }
renewal: { splay: 0s }
fleet: { name: web, node: %[2]s, seal_files: [%[1]s/seal], etcd: { endpoints: ['%[3]s'] } }
issuers:
  - { name: test-ca, directory: "%[4]s", ca_file: %[5]s/ca.pem, private: true }
solvers:
  - { name: http, http-01: { listen: "127.0.0.1:%[6]d" } }
  - { name: alpn, tls-alpn-01: { listen: "127.0.0.1:%[7]d" } }
defaults: { issuers: [test-ca] }
certificates:
`, n.dir, n.name, strings.Join(n.site.store.endpoints(), "', '"), n.site.ca.Directory, n.site.dir, n.plain, n.tls)
	for _, c := range list {
		install := fmt.Sprintf("file: { dir: %s/site/%s }", n.dir, c.name)
		if c.nginx {
			install = fmt.Sprintf("nginx: { config: %[1]s/nginx.conf, prefix: %[1]s, pid_file: %[1]s/nginx.pid, listen: %[2]d }", n.dir, n.https)
		}
		if err := os.MkdirAll(filepath.Join(n.dir, "site", c.name), 0o750); err != nil {
			return err
		}
		fmt.Fprintf(&b, "  - { name: %[1]s, names: [%[1]s.example.com%[2]s], profile: %[3]s, solvers: [%[4]s], install: [{ %[5]s }] }\n", c.name, c.extra, c.profile, c.solver, install)
	}
	return os.WriteFile(n.dir+"/acmed.yaml", []byte(b.String()), 0o600)
}

func (n *node) start() error {
	n.daemon = exec.Command(n.site.acmed, "-c", n.dir+"/acmed.yaml", "run")
	n.daemon.Stderr = n.log
	return n.daemon.Start()
}

func (n *node) kill(sig syscall.Signal) {
	if n.daemon != nil {
		_ = n.daemon.Process.Signal(sig)
		_ = n.daemon.Wait()
		n.daemon = nil
	}
}

// run runs a command on the node. An exit code that only tells of certificates which fail is no error.
func (n *node) run(args ...string) (string, error) {
	cmd := exec.Command(n.site.acmed, append([]string{"-c", n.dir + "/acmed.yaml"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() != 3 {
		return string(out), fmt.Errorf("acmed %q on %s: %w\n%s", args, n.name, err, out)
	}
	return string(out), nil
}

// leaf is what the node's server reads of a certificate, nil if there is nothing.
func (n *node) leaf(name string) *x509.Certificate {
	text, _ := os.ReadFile(filepath.Join(n.dir, "state/certs", name, "current/cert.pem"))
	installed, _ := os.ReadFile(filepath.Join(n.dir, "site", name, "fullchain.pem"))
	if len(installed) > 0 && !bytes.HasPrefix(installed, bytes.TrimSpace(text)) {
		return nil
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// agree waits until every node serves one leaf of each certificate that satisfies ok.
func (s *site) agree(what string, list []cert, ok func(c cert, leaf *x509.Certificate) bool) error {
	behind, slow := "", &node{}
	err := await(what, func() bool {
		for _, c := range list {
			first := s.nodes[0].leaf(c.name)
			for _, n := range s.nodes {
				leaf := n.leaf(c.name)
				if leaf == nil || !leaf.Equal(first) || !ok(c, leaf) {
					behind, slow = c.name, n
					return false
				}
			}
		}
		return true
	})
	if err != nil {
		out, _ := slow.run("status", behind)
		shared, _ := slow.run("fleet", "status")
		slow.kill(syscall.SIGQUIT) // its log then tells where it stands
		return fmt.Errorf("%w: %s on %s\n%s\n%s", err, behind, slow.name, out, shared)
	}
	return nil
}

// leaves are the present ones, by serial number.
func (s *site) leaves(list []cert) map[string]string {
	m := map[string]string{}
	for _, c := range list {
		if leaf := s.nodes[0].leaf(c.name); leaf != nil {
			m[c.name] = leaf.SerialNumber.String()
		}
	}
	return m
}

func (n *node) nginxDo(args ...string) error {
	out, err := exec.Command("nginx", append([]string{"-p", n.dir, "-c", n.dir + "/nginx.conf", "-e", n.dir + "/error.log"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nginx of %s: %w\n%s", n.name, err, out)
	}
	return nil
}

// serve starts a web server with a site for each certificate that it is to have.
func (n *node) serve(list []cert) error {
	port, err := acmetest.Port()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "worker_processes 1;\npid %[1]s/nginx.pid;\nerror_log %[1]s/error.log;\nevents {}\nhttp {\naccess_log off;\n", n.dir)
	for _, c := range list {
		if c.nginx {
			fmt.Fprintf(&b, "server { listen 127.0.0.1:%d; server_name %s.example.com; location / { return 200 ok; } }\n", port, c.name)
		}
	}
	b.WriteString("}\n")
	if err := os.WriteFile(n.dir+"/nginx.conf", []byte(b.String()), 0o644); err != nil {
		return err
	}
	n.nginx = true
	return n.nginxDo()
}
