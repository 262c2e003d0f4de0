package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/acmetest"
)

// secluded is set in a process that has a network of its own.
const secluded = "ACMED_E2E_SECLUDED"

// seclude runs a test once more in a process with a network of its own, and reports whether this is that process.
func seclude(t *testing.T, more ...string) bool {
	t.Helper()
	if os.Getenv(secluded) != "" {
		if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("loopback: %v: %s", err, out)
		}
		return true
	}
	(&front{T: t}).need("ip:iproute2")
	if out, err := exec.CommandContext(t.Context(), "unshare", "-n", "ip", "link", "add", "type", "veth").CombinedOutput(); err != nil {
		t.Skipf("no network can be made here: %v: %s", err, out)
	}
	again := exec.CommandContext(t.Context(), "unshare", append(append([]string{"-n"}, more...), os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")...)
	again.Env = append(os.Environ(), secluded+"=1")
	out, err := again.CombinedOutput()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// router stands in front of this machine, in a network of its own, and has the public address.
type router struct {
	t  *testing.T
	do chan func()
}

const public = "203.0.113.9"

// newRouter gives this machine, which must be secluded, a way out.
func newRouter(t *testing.T) *router {
	t.Helper()
	r := &router{t: t, do: make(chan func())}
	runtime.LockOSThread() // so that its number stands for the network of this machine
	defer runtime.UnlockOSThread()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		failed <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range r.do {
			f()
		}
	}()
	if err := <-failed; err != nil {
		t.Fatalf("a second network: %v", err)
	}
	t.Cleanup(func() { close(r.do) })
	r.ip("link set lo up")
	r.ip(fmt.Sprintf("link add inside type veth peer name outside netns %d", unix.Gettid()))
	r.ip("address add 192.0.2.1/24 dev inside")
	r.ip("link set inside up")
	r.ip("address add " + public + "/32 dev lo")
	r.ip("rule add pref 100 lookup local") // room before it
	r.ip("rule delete pref 0")
	for _, line := range []string{"address add 192.0.2.2/24 dev outside", "link set outside up", "route add default via 192.0.2.1"} {
		ip(t, line)
	}
	return r
}

// ip runs a command on this machine.
func ip(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v: %s", line, err, out)
	}
}

// inside calls f where the router is.
func (r *router) inside(f func()) {
	done := make(chan struct{})
	r.do <- func() { defer close(done); f() }
	<-done
}

func (r *router) ip(line string) { r.t.Helper(); r.inside(func() { ip(r.t, line) }) }

// drop makes the router swallow what comes for a port, without a word to the sender.
func (r *router) drop(port int) {
	r.ip(fmt.Sprintf("rule add pref 10 ipproto tcp dport %d blackhole", port))
}

// pass ends what drop began.
func (r *router) pass() { r.ip("rule delete pref 10") }

// forward hands connections to a port of the public address over to an address of this machine.
func (r *router) forward(port int, to string) {
	r.t.Helper()
	var ln net.Listener
	var err error
	r.inside(func() { ln, err = net.Listen("tcp", fmt.Sprintf("%s:%d", public, port)) })
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go relay(conn, to)
		}
	}()
}

func relay(from net.Conn, to string) {
	defer func() { _ = from.Close() }()
	conn, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	go func() { _, _ = io.Copy(conn, from) }()
	_, _ = io.Copy(from, conn)
}

// TestFirewallDropsPort80: packets to port 80 vanish on their way to the machine. The doctor says so, and with an enforced
// preflight the CA hears nothing; a solver whose port is open is taken, and with the port open all is well.
func TestFirewallDropsPort80(t *testing.T) {
	if !seclude(t) {
		return
	}
	b := newBox(t, acmetest.WithPorts(80, 443))
	b.ca.DNS.AddDNSARecord("example.com.", []string{public})
	r := newRouter(t)
	r.forward(80, b.innerHTTP)
	r.forward(443, b.innerTLS)
	r.drop(80)
	b.configure("enforce", "", "  - { name: www, names: [example.com], solvers: [http] }\n")
	out, code := b.acmed("doctor")
	for _, want := range []string{
		"ATTENTION: example.com: http-01 does not reach acmed at " + public,
		"why: no answer in time; is a firewall dropping the packets?",
		"do:  open port 80 in the firewall and forward it to this machine, or validate the name with a dns-01 solver",
	} {
		if code != 3 || !strings.Contains(out, want) {
			t.Errorf("exit %d, the doctor says %s, want %s", code, out, want)
		}
	}
	out, code = b.acmed("renew")
	if code != 1 || !strings.Contains(out, "example.com was not ordered because the preflight found: http-01 at "+public+": no answer in time") {
		t.Errorf("exit %d: %s", code, out)
	}
	if n, v := b.ca.Requests(acmetest.NewOrder), b.validations(); n != 0 || v != 0 {
		t.Errorf("%d orders, %d validations", n, v)
	}

	b.configure("enforce", "", "  - { name: both, names: [example.com], solvers: [http, alpn] }\n")
	if n := b.spent("renew", "both"); n != 1 {
		t.Errorf("%d validations through the open port", n)
	}
	if solver, reason := b.proof("both"); solver != "alpn" {
		t.Errorf("through %s: %s", solver, reason)
	}

	r.pass()
	b.configure("enforce", "", "  - { name: www, names: [example.com], solvers: [http] }\n")
	if n := b.spent("renew", "--force", "--yes", "www"); n != 1 {
		t.Errorf("%d validations with the port open", n)
	}
	if out := b.must("doctor"); strings.Contains(out, "ATTENTION") {
		t.Errorf("with the port open the doctor says %s", out)
	}
}
