package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/challenges/snippet"
)

// box is a front whose certificates the real acmed obtains, with these solvers: http and alpn listen at the inner ports.
type box struct {
	*front
	log    bytes.Buffer
	daemon *exec.Cmd
}

func newBox(t *testing.T, opts ...acmetest.Option) *box {
	t.Helper()
	b := &box{front: newFront(t, opts...)}
	b.file("ca.pem", string(b.ca.RootPEM))
	if err := os.Mkdir(filepath.Join(b.dir, "state"), 0o750); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.kill(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("acmed's log:\n%s", b.log.String())
		}
	})
	return b
}

// configure writes acmed.yaml: preflight is that of the CA, more is the rest of the file from the certificates on.
func (b *box) configure(preflight, solvers, more string) {
	b.Helper()
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	b.file("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true, preflight: %[3]q }
probe: { resolver: "%[4]s", http_port: %[5]d, tls_port: %[6]d, timeout: 3s }
defaults: { issuers: [test-ca] }
renewal: { concurrency: 32 }
log: { level: debug }
solvers:
  - { name: http, http-01: { listen: "127.0.0.1:%[7]s" } }
  - { name: alpn, tls-alpn-01: { listen: "127.0.0.1:%[8]s" } }
%[9]scertificates:
%[10]s`, b.dir, b.ca.Directory, preflight, b.ca.DNS.Addr, b.ca.HTTPPort, b.ca.TLSPort, port(b.innerHTTP), port(b.innerTLS), solvers, more))
}

// acmed runs a command.
func (b *box) acmed(args ...string) (string, int) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), acmed, append([]string{"-c", filepath.Join(b.dir, "acmed.yaml")}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must runs a command that succeeds. That no daemon runs is no failure of "status".
func (b *box) must(args ...string) string {
	b.Helper()
	out, code := b.acmed(args...)
	if code != 0 && (code != 3 || args[0] != "status") {
		b.Fatalf("acmed %s: exit %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// spent runs a command and returns how many validations the CA was asked for meanwhile.
func (b *box) spent(args ...string) int {
	b.Helper()
	b.ca.ResetRequests()
	b.must(args...)
	return b.validations()
}

// proof is how a name of a certificate was proved.
type proof struct {
	Identifier, Solver, Type, Reason string
}

// proof returns the solver of a certificate's first name, and why it was that one.
func (b *box) proof(certificate string) (solver, reason string) {
	b.Helper()
	v := b.proofs(certificate)[0]
	return v.Solver, v.Reason
}

// proofs tell how each name of a certificate was proved.
func (b *box) proofs(certificate string) []proof {
	b.Helper()
	var answer struct {
		Certificates []struct {
			Validations []proof
		}
	}
	out := b.must("status", "-o", "json", certificate)
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Certificates) != 1 || len(answer.Certificates[0].Validations) == 0 {
		b.Fatalf("%v in %s", err, out)
	}
	return answer.Certificates[0].Validations
}

func (b *box) begin(name string, args ...string) {
	b.Helper()
	b.daemon = exec.Command(name, args...)
	b.daemon.Stderr = &b.log
	if err := b.daemon.Start(); err != nil {
		b.Fatal(err)
	}
}

func (b *box) run() { b.Helper(); b.begin(acmed, "-c", filepath.Join(b.dir, "acmed.yaml"), "run") }

func (b *box) kill(sig syscall.Signal) {
	if b.daemon != nil {
		_ = b.daemon.Process.Signal(sig)
		_ = b.daemon.Wait()
		b.daemon = nil
	}
}

// await polls until want is true.
func (b *box) await(what string, want func() bool) {
	b.Helper()
	await.True(b, what, want)
}

func (b *box) healthy() bool {
	out, _ := b.acmed("status", "-o", "json")
	return strings.Contains(out, `"health": "ok"`) && strings.Count(out, `"health": "`) == strings.Count(out, `"health": "ok"`)
}

// terminate runs a server that ends TLS in front of acmed and passes http-01 on.
func (b *box) terminate(s snippet.Server) {
	b.Helper()
	pair, text := b.keyPair(), b.must("snippet", string(s), "--upstream", b.innerHTTP)
	if s == snippet.Nginx {
		b.nginx(fmt.Sprintf("listen 127.0.0.1:%d ssl; ssl_certificate %s; ssl_certificate_key %s;\n%s", b.ca.TLSPort, pair, pair, text), "")
		return
	}
	b.haproxy(fmt.Sprintf("    bind 127.0.0.1:%d ssl crt %s alpn h2,http/1.1\n%s", b.ca.TLSPort, pair, text))
}

// TestBehindATLSTerminator: acmed obtains without help. Without a preflight one validation is spent on finding out, with
// it none; the next renewal goes straight to what worked, and status says why.
func TestBehindATLSTerminator(t *testing.T) {
	for _, s := range []snippet.Server{snippet.Nginx, snippet.HAProxy} {
		t.Run(string(s), func(t *testing.T) {
			b := newBox(t)
			b.terminate(s)
			b.configure("off", "", "  - { name: www, names: [example.com], solvers: [alpn, http] }\n")
			if n := b.spent("renew", "www"); n != 2 {
				t.Errorf("%d validations without a preflight, want 2", n)
			}
			solver, reason := b.proof("www")
			if solver != "http" || !strings.HasPrefix(reason, "alpn failed: ") {
				t.Errorf("through %s: %s", solver, reason)
			}
			b.configure("advisory", "", "  - { name: www, names: [example.com], solvers: [alpn, http] }\n  - { name: org, names: [example.org], solvers: [alpn, http] }\n")
			if n := b.spent("renew", "--force", "--yes", "www"); n != 1 {
				t.Errorf("%d validations in the next renewal, want 1", n)
			}
			if _, again := b.proof("www"); again != reason {
				t.Errorf("the reason became %q", again)
			}
			if n := b.spent("renew", "org"); n != 1 {
				t.Errorf("%d validations with a preflight, want 1", n)
			}
			if out := b.must("status", "org"); !strings.Contains(out, "example.org validated by http-01 with http: preflight: TLS is terminated in front by another server\n") {
				t.Errorf("status says %s", out)
			}
			if n := b.spent("renew", "--force", "--yes", "org"); n != 1 {
				t.Errorf("%d validations in the next renewal after a preflight, want 1", n)
			}
			out := b.must("doctor", "org")
			if !strings.Contains(out, "example.org (org): http should work; TLS is terminated in front by another server") || !strings.Contains(out, "note: example.org: tls-alpn-01 does not reach acmed") {
				t.Errorf("the doctor says %s", out)
			}
		})
	}
}

// TestEnforcedPreflight: with nothing that works, the CA hears nothing.
func TestEnforcedPreflight(t *testing.T) {
	b := newBox(t)
	b.terminate(snippet.Nginx)
	b.configure("enforce", "", "  - { name: www, names: [example.com], solvers: [alpn] }\n")
	out, code := b.acmed("renew")
	if code != 1 || !strings.Contains(out, "example.com was not ordered because the preflight found: tls-alpn-01 at 127.0.0.1: another TLS server answered") {
		t.Errorf("exit %d: %s", code, out)
	}
	if n := b.ca.Requests(acmetest.NewOrder); n != 0 {
		t.Errorf("%d orders", n)
	}
	if out, code := b.acmed("doctor"); code != 3 || !strings.Contains(out, "ATTENTION: example.com: tls-alpn-01 does not reach acmed at 127.0.0.1\n  why: another TLS server answered") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestStatelessProxy: the proxy alone answers, with what acmed snippet printed; nothing of acmed listens.
func TestStatelessProxy(t *testing.T) {
	for _, s := range snippet.Servers() {
		t.Run(string(s), func(t *testing.T) {
			b := newBox(t)
			b.configure("enforce", "  - { name: cdn, http-01: { stateless: true } }\n", "  - { name: www, names: [example.com], solvers: [cdn] }\n")
			b.serve(s, b.must("snippet", string(s), "--stateless"))
			if n := b.spent("renew"); n != 1 {
				t.Errorf("%d validations", n)
			}
			if solver, _ := b.proof("www"); solver != "cdn" {
				t.Errorf("validated through %s", solver)
			}
		})
	}
}

// TestPortIsTaken: the process that has the port is named, and the ladder goes on.
func TestPortIsTaken(t *testing.T) {
	b := newBox(t)
	b.nginx("", "")
	taken, free := fmt.Sprintf("127.0.0.1:%d", b.ca.HTTPPort), fmt.Sprintf("127.0.0.1:%d", b.ca.TLSPort)
	solvers := fmt.Sprintf("  - { name: taken, http-01: { listen: %q } }\n  - { name: free, tls-alpn-01: { listen: %q } }\n", taken, free)
	b.configure("off", solvers, "  - { name: www, names: [example.com], solvers: [taken, free] }\n")
	if n := b.spent("renew"); n != 1 {
		t.Errorf("%d validations, want 1", n)
	}
	pid, err := os.ReadFile(filepath.Join(b.dir, "nginx.pid"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("cannot listen on %s: nginx (pid %s) is listening there", taken, strings.TrimSpace(string(pid)))
	if solver, reason := b.proof("www"); solver != "free" || !strings.Contains(reason, want) {
		t.Errorf("through %s: %s; want %s", solver, reason, want)
	}
	if out := b.must("doctor"); !strings.Contains(out, want) || !strings.Contains(out, "acmed snippet nginx") {
		t.Errorf("the doctor says %s; want %s", out, want)
	}
}

// TestOrdersShareResponders: two and twenty certificates at the same time, over both challenges.
func TestOrdersShareResponders(t *testing.T) {
	for _, n := range []int{2, 20} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			b := newBox(t)
			b.innerHTTP, b.innerTLS = fmt.Sprint(":", b.ca.HTTPPort), fmt.Sprint(":", b.ca.TLSPort)
			var list strings.Builder
			for i := range n {
				fmt.Fprintf(&list, "  - { name: c%d, names: [c%d.example.com, www.c%d.example.com], solvers: [%s] }\n", i, i, i, []string{"http", "alpn"}[i%2])
			}
			b.configure("advisory", "", list.String())
			b.run()
			b.await("all obtained", b.healthy)
			if got := b.validations(); got != 2*n {
				t.Errorf("%d validations for %d names", got, 2*n)
			}
			for _, addr := range []string{b.innerHTTP, b.innerTLS} {
				if conn, err := net.Dial("tcp", "127.0.0.1"+addr); err == nil {
					_ = conn.Close()
					t.Errorf("%s is still open", addr)
				}
			}
		})
	}
}

// TestFailureBudget: a name that nothing can prove costs three validations in an hour, whatever is asked for.
func TestFailureBudget(t *testing.T) {
	b := newBox(t)
	solvers := "  - { name: alpn2, tls-alpn-01: { listen: \"127.0.0.1:1\" } }\n" // another name for a port that nobody asks at
	solvers += fmt.Sprintf("  - { name: http2, http-01: { listen: %q } }\n", b.free())
	b.configure("off", solvers, "  - { name: www, names: [example.com], solvers: [http, alpn, http2, alpn2] }\n")
	for range 4 {
		if out, code := b.acmed("renew", "--force", "--yes"); code == 0 {
			t.Fatalf("succeeded: %s", out)
		}
	}
	if n := b.validations(); n != 3 {
		t.Errorf("%d validations, want 3", n)
	}
	out, code := b.acmed("renew", "--force", "--yes")
	if code != 75 || !strings.Contains(out, "example.com failed 3 validations within an hour, so nothing is ordered for it before ") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, _ := b.acmed("status"); !strings.Contains(out, "could not be validated through") {
		t.Errorf("why it failed is lost: %s", out)
	}
}

// TestSocketActivation: systemd opened the ports; acmed answers on them from the start, and has no others. Sockets find
// their solvers by name, and those of one unit, which share a name, by address.
func TestSocketActivation(t *testing.T) {
	t.Run("by name", func(t *testing.T) { socketActivation(t, "http-01:tls-alpn-01", "http-01", "tls-alpn-01") })
	t.Run("by address", func(t *testing.T) { socketActivation(t, "acmed.socket:acmed.socket", "http", "alpn") })
}

func socketActivation(t *testing.T, names, http01, alpn string) {
	b := newBox(t)
	b.need("systemd-socket-activate:systemd")
	plain, secure := fmt.Sprintf("127.0.0.1:%d", b.ca.HTTPPort), fmt.Sprintf("127.0.0.1:%d", b.ca.TLSPort)
	if http01 == "http" {
		b.innerHTTP, b.innerTLS = plain, secure
	}
	b.configure("enforce", "", fmt.Sprintf("  - { name: a, names: [a.example.com], solvers: [%s] }\n  - { name: b, names: [b.example.com], solvers: [%s] }\n", http01, alpn))
	b.begin("systemd-socket-activate", "-l", plain, "-l", secure, "--fdname="+names, acmed, "-c", filepath.Join(b.dir, "acmed.yaml"), "run")
	b.await("answered", func() bool { // the first connection starts acmed
		resp, err := http.Get("http://" + plain + "/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusNotFound
	})
	b.await("obtained", b.healthy)
	if n := b.validations(); n != 2 {
		t.Errorf("%d validations", n)
	}
	for name, want := range map[string]string{"a": http01, "b": alpn} {
		if solver, _ := b.proof(name); solver != want {
			t.Errorf("%s through %s", name, solver)
		}
	}
	if status, _ := b.fetch("/"); status != http.StatusNotFound {
		t.Errorf("status %d after the orders", status)
	}
}
