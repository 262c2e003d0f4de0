package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/internal/acmetest/canary"
)

// etcdServer is Debian's etcd as one process.
type etcdServer struct {
	t         *testing.T
	dir       string
	url, peer string
	cmd       *exec.Cmd
}

func startEtcd(t *testing.T) *etcdServer {
	t.Helper()
	e := &etcdServer{
		t: t, dir: filepath.Join(t.TempDir(), "etcd"),
		url: fmt.Sprintf("http://127.0.0.1:%d", acmetest.FreePort(t)), peer: fmt.Sprintf("http://127.0.0.1:%d", acmetest.FreePort(t)),
	}
	e.start()
	t.Cleanup(e.stop)
	return e
}

func (e *etcdServer) start() {
	e.t.Helper()
	e.cmd = exec.Command("etcd", "--name", "one", "--data-dir", e.dir, "--listen-client-urls", e.url, "--advertise-client-urls", e.url,
		"--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer, "--initial-cluster", "one="+e.peer)
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.wait()
}

func (e *etcdServer) wait() {
	e.t.Helper()
	for e.t.Context().Err() == nil {
		if cmd := e.command("endpoint", "health"); cmd.Run() == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (e *etcdServer) stop() {
	if e.cmd != nil {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
		e.cmd = nil
	}
}

func (e *etcdServer) command(args ...string) *exec.Cmd {
	cmd := exec.Command("etcdctl", append([]string{"--endpoints", e.url}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	return cmd
}

// fleetSite is a CA that reaches all nodes through a balancer, and their store.
type fleetSite struct {
	t     *testing.T
	dir   string
	ca    *acmetest.CA
	etcd  *etcdServer
	plain *acmetest.Balancer
	tls   *acmetest.Balancer
	nodes []*machine
	certs []string // what every node is configured for, as YAML entries
	more  string   // further lines of the configuration
}

// machine is one node with its own files.
type machine struct {
	site       *fleetSite
	name, dir  string
	plain, tls int
	daemon     *exec.Cmd
	log        bytes.Buffer
}

func newFleetSite(t *testing.T, opts ...acmetest.Option) *fleetSite {
	t.Helper()
	f := &fleetSite{t: t, dir: t.TempDir(), ca: acmetest.Start(t, append(opts, acmetest.WithRetryAfter(0, 0))...), etcd: startEtcd(t)}
	f.plain, f.tls = newBalancer(t, f.ca.HTTPPort), newBalancer(t, f.ca.TLSPort)
	if err := os.WriteFile(filepath.Join(f.dir, "ca.pem"), f.ca.RootPEM, 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

// add makes one more machine, which does not run yet.
func (f *fleetSite) add(name string) *machine {
	f.t.Helper()
	m := &machine{site: f, name: name, dir: filepath.Join(f.dir, name), plain: acmetest.FreePort(f.t), tls: acmetest.FreePort(f.t)}
	for _, dir := range []string{m.dir, m.dir + "/state", m.dir + "/site"} {
		if err := os.Mkdir(dir, 0o750); err != nil {
			f.t.Fatal(err)
		}
	}
	m.write("reload.sh", fmt.Sprintf("#!/bin/sh\necho \"$ACMED_NODE $ACMED_OBTAINED $ACMED_CERTIFICATE\" >>%s/reloads\n", m.dir), 0o755)
	f.nodes = append(f.nodes, m)
	f.t.Cleanup(func() {
		m.kill(syscall.SIGKILL)
		if err := errors.Join(canary.Heard(m.log.String()), canary.Keys(m.dir+"/state")); err != nil {
			f.t.Error(err)
		}
		if f.t.Failed() {
			f.t.Logf("the log of %s:\n%s", m.name, m.log.String())
		}
	})
	return m
}

func (m *machine) write(name, text string, mode os.FileMode) {
	m.site.t.Helper()
	if err := errors.Join(os.WriteFile(filepath.Join(m.dir, name), []byte(text), mode), os.Chmod(filepath.Join(m.dir, name), mode)); err != nil {
		m.site.t.Fatal(err)
	}
}

// configure writes the configuration, with the section of the fleet or without.
func (m *machine) configure(shared bool) {
	m.site.t.Helper()
	fleet := ""
	if shared {
		fleet = fmt.Sprintf("fleet: { name: web, node: %s, seal_files: [%s/seal], etcd: { endpoints: ['%s'] } }\n", m.name, m.dir, m.site.etcd.url)
	}
	var certs strings.Builder
	for _, c := range m.site.certs {
		fmt.Fprintf(&certs, "  - { %s, install: [{ file: { dir: '%s/site', fullchain: cert.pem, key: key.pem, reload: ['%[2]s/reload.sh'] } }] }\n", c, m.dir)
	}
	m.write("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
log: { level: debug }
renewal: { splay: 0s }
%[6]s%[7]sissuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[3]s/ca.pem, private: true }
solvers:
  - { name: plain, http-01: { listen: "127.0.0.1:%[4]d" } }
  - { name: alpn, tls-alpn-01: { listen: "127.0.0.1:%[5]d" } }
defaults: { issuers: [test-ca], solvers: [plain] }
certificates:
%[8]s`, m.dir, m.site.ca.Directory, m.site.dir, m.plain, m.tls, fleet, m.site.more, certs.String()), 0o644)
}

func (m *machine) start() {
	m.site.t.Helper()
	m.daemon = exec.Command(acmed, "-c", m.dir+"/acmed.yaml", "run")
	m.daemon.Stderr = &m.log
	if err := m.daemon.Start(); err != nil {
		m.site.t.Fatal(err)
	}
}

func (m *machine) kill(sig syscall.Signal) {
	if m.daemon == nil {
		return
	}
	_ = m.daemon.Process.Signal(sig)
	_ = m.daemon.Wait()
	m.daemon = nil
}

func (m *machine) run(args ...string) (string, int) {
	m.site.t.Helper()
	cmd := exec.Command(acmed, append([]string{"-c", m.dir + "/acmed.yaml"}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.site.t.Fatal(err)
	}
	if err := canary.Heard(string(out)); err != nil {
		m.site.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must runs a command that succeeds.
func (m *machine) must(args ...string) string {
	m.site.t.Helper()
	out, code := m.run(args...)
	if code != 0 {
		m.site.t.Fatalf("acmed %q on %s: exit %d\n%s", args, m.name, code, out)
	}
	return out
}

// serves is what the machine's server would read.
func (m *machine) serves() string {
	text, _ := os.ReadFile(m.dir + "/site/cert.pem")
	leaf, _, _ := strings.Cut(string(text), "-----END CERTIFICATE-----")
	return leaf
}

func (m *machine) reloads() []string {
	text, _ := os.ReadFile(m.dir + "/reloads")
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// fleet is the answer of "fleet status".
type fleetAnswer struct {
	Store struct {
		Up    bool   `json:"up"`
		Error string `json:"error"`
	} `json:"store"`
	Nodes        []struct{ ID string }
	Certificates []struct {
		Name    string `json:"name"`
		N       int64  `json:"n"`
		Active  bool   `json:"active"`
		Problem string `json:"problem"`
	} `json:"certificates"`
}

func (m *machine) fleet() (f fleetAnswer) {
	m.site.t.Helper()
	out, _ := m.run("fleet", "status", "-o", "json")
	_ = json.Unmarshal([]byte(out), &f)
	return f
}

// agree waits until all machines serve the same leaf, and returns it.
func (f *fleetSite) agree(other string) string {
	f.t.Helper()
	await.True(f.t, "all serve one certificate", func() bool {
		for _, m := range f.nodes {
			if s := m.serves(); s == "" || s == other || s != f.nodes[0].serves() {
				return false
			}
		}
		return true
	})
	return f.nodes[0].serves()
}

// orders is how many new orders the CA has seen.
func (f *fleetSite) orders() int { return f.ca.Requests(acmetest.NewOrder) }

func newBalancer(t *testing.T, port int) *acmetest.Balancer {
	t.Helper()
	b, err := acmetest.NewBalancer(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// balance makes the CA reach all machines.
func (f *fleetSite) balance() {
	var plain, tls []int
	for _, m := range f.nodes {
		plain, tls = append(plain, m.plain), append(tls, m.tls)
	}
	f.plain.Use(plain...)
	f.tls.Use(tls...)
}

// share gives all machines the seal key of the first.
func (f *fleetSite) share() {
	f.t.Helper()
	for _, m := range f.nodes {
		m.configure(true)
	}
	out := f.nodes[0].must("fleet", "init")
	if !strings.Contains(out, "made the seal key in "+f.nodes[0].dir+"/seal") || !strings.Contains(out, "fleet web is ready") {
		f.t.Fatal(out)
	}
	key, err := os.ReadFile(f.nodes[0].dir + "/seal")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range f.nodes[1:] {
		m.write("seal", string(key), 0o600)
	}
}

// TestThreeNodesOneOrder: three nodes with the same certificates order each of them once, through a balancer that hands the
// CA's questions to any of them, and all have the same leaf.
func TestThreeNodesOneOrder(t *testing.T) {
	t.Parallel()
	f := newFleetSite(t)
	for _, name := range []string{"one", "two", "three"} {
		f.add(name)
	}
	f.certs = []string{"name: www, names: [www.example.com, example.com]"}
	f.balance()
	f.share()
	for _, m := range f.nodes {
		m.start()
	}
	f.agree("")
	if n := f.orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// TestSingleMachineToFleetAndBack: what a machine has becomes the fleet's without an order or a reload, other nodes take it,
// and each of them is a single machine again without an order or a reload. While etcd is away all nodes serve, and status
// names it.
func TestSingleMachineToFleetAndBack(t *testing.T) {
	t.Parallel()
	f := newFleetSite(t)
	one := f.add("one")
	f.certs = []string{"name: www, names: [www.example.com]"}
	f.balance()
	one.configure(false)
	one.must("renew")
	two := f.add("two")
	leaf := one.serves()
	f.share()
	if out := one.must("fleet", "import", "--dry-run"); !strings.Contains(out, "account test-ca: becomes the fleet's") || !strings.Contains(out, "certificate www: becomes the fleet's version 1") {
		t.Fatal(out)
	}
	one.must("fleet", "import", "--yes")
	for _, m := range f.nodes {
		m.start()
	}
	if f.agree("") != leaf {
		t.Fatal("another certificate is served")
	}
	await.True(f.t, "both nodes are in the fleet", func() bool {
		got := two.fleet()
		return got.Store.Up && len(got.Nodes) == 2 && len(got.Certificates) == 1 && got.Certificates[0].N == 1 && got.Certificates[0].Active
	})
	f.etcd.stop()
	await.True(f.t, "status names the store", func() bool { out, _ := one.run("status"); return strings.Contains(out, "fleet's store") })
	for _, m := range f.nodes {
		m.kill(syscall.SIGTERM)
		m.configure(false)
		m.must("renew")
	}
	if n := f.orders(); n != 1 || f.agree("") != leaf || len(one.reloads()) != 1 || len(two.reloads()) != 1 {
		t.Errorf("%d orders; reloads %q and %q", n, one.reloads(), two.reloads())
	}
}
