package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/canary"
	"github.com/acmed/acmed/pkg/certs"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"acmed": main})
}

// TestScript runs the real binary. Every script has a CA of its own, at $CA with its root in $CA_FILE, that validates
// http-01 on $HTTP_PORT; a state directory $STATE; a socket path $SOCKET; and in $ACMED_CONFIG a path for its
// configuration, for which base.yaml has everything but the certificates.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		RequireExplicitExec: true,
		Setup:               newScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": code, "until": until, "nobody": nobody, "signal": signalDaemon, "newca": newCA, "revoked": revoked, "publish": publish,
		},
	})
}

func newScript(env *testscript.Env) error {
	ca, err := acmetest.New()
	if err != nil {
		return err
	}
	env.Defer(func() {
		_ = ca.Close()
		if err := canary.Keys(env.WorkDir); err != nil {
			env.T().Log(err)
		}
	})
	env.Values["ca"] = ca
	at := func(name string) string { return filepath.Join(env.WorkDir, name) }
	for _, v := range [][2]string{
		{"CA", ca.Directory}, {"CA_FILE", at("ca.pem")}, {"HTTP_PORT", strconv.Itoa(ca.HTTPPort)},
		{"STATE", at("state")}, {"SOCKET", at("acmed.sock")}, {"ACMED_CONFIG", at("acmed.yaml")},
		{"DNS_ADDR", ca.DNS.Addr}, {"DNS_PORT", ca.DNS.Addr[strings.LastIndex(ca.DNS.Addr, ":")+1:]},
	} {
		env.Setenv(v[0], v[1])
	}
	base := `email: ops@example.com
state_dir: ` + at("state") + `
socket: ` + at("acmed.sock") + `
issuers:
  - { name: test-ca, directory: "` + ca.Directory + `", ca_file: ` + at("ca.pem") + `, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:` + strconv.Itoa(ca.HTTPPort) + `" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
include: conf.d/*.yaml
probe: { resolver: "` + ca.DNS.Addr + `", http_port: ` + strconv.Itoa(ca.HTTPPort) + `, tls_port: ` + strconv.Itoa(ca.TLSPort) + ` }
`
	return errors.Join(
		os.Mkdir(at("state"), 0o750),
		os.MkdirAll(at("conf.d"), 0o755),
		expand(env.WorkDir, env.Getenv),
		os.WriteFile(at("ca.pem"), ca.RootPEM, 0o644),
		os.WriteFile(at("intermediate.pem"), ca.IntermediatePEM(0), 0o644),
		os.WriteFile(at("root.pem"), ca.IssuingRootPEM(0), 0o644),
		os.WriteFile(at("acmed.yaml"), []byte(base), 0o644),
	)
}

// expand puts values in the place of $WORK, $DNS_ADDR and $DNS_PORT in the drop-in files.
func expand(dir string, env func(string) string) error {
	files, err := filepath.Glob(filepath.Join(dir, "conf.d", "*.yaml"))
	for _, name := range files {
		text, readErr := os.ReadFile(name)
		err = errors.Join(err, readErr, os.WriteFile(name, []byte(strings.NewReplacer("$WORK", dir, "$DNS_ADDR", env("DNS_ADDR"), "$DNS_PORT", env("DNS_PORT")).Replace(string(text))), 0o644))
	}
	return err
}

// code runs a command and checks its exit code: code 3 acmed status.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [args...]")
	}
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if want, err := strconv.Atoi(args[0]); err != nil || got != want {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// until repeats a command until it succeeds, for at most two minutes.
func until(ts *testscript.TestScript, _ bool, args []string) {
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); err == nil {
			return
		}
	}
	ts.Fatalf("%s never succeeded: %v", args, err)
}

// signal sends a signal to the process whose ID the lock of the state directory holds: signal HUP.
func signalDaemon(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(filepath.Join(ts.Getenv("STATE"), "lock"))
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[0]]))
}

// publish puts the TXT records that a file has as lines of a zone file into the DNS that the CA asks: publish stdout.
func publish(ts *testscript.TestScript, _ bool, args []string) {
	dns := ts.Value("ca").(*acmetest.CA).DNS
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " IN TXT "); ok {
			dns.AddDNSTXTRecord(name, strings.Trim(value, `"`))
		}
	}
}

// newCA gives the CA new issuing certificates, and writes the new intermediate to $WORK/next.pem.
func newCA(ts *testscript.TestScript, _ bool, _ []string) {
	ca := ts.Value("ca").(*acmetest.CA)
	ts.Check(ca.Forget())
	ts.Check(os.WriteFile(ts.MkAbs("next.pem"), ca.IntermediatePEM(0), 0o644))
}

// revoked asks the CA about the certificates in some files: revoked 4 cert.pem... wants each revoked for reason 4 of RFC
// 5280, and ! revoked 4 cert.pem... none of them at all.
func revoked(ts *testscript.TestScript, neg bool, args []string) {
	ca := ts.Value("ca").(*acmetest.CA)
	for _, name := range args[1:] {
		chain, err := certs.ParseChain([]byte(ts.ReadFile(name)))
		ts.Check(err)
		yes, reason, err := ca.Revoked(chain[0].SerialNumber)
		ts.Check(err)
		if yes == neg || yes && strconv.Itoa(reason) != args[0] {
			ts.Fatalf("%s: revoked %t, reason %d", name, yes, reason)
		}
	}
}

// nobody runs acmed as the user nobody and checks its exit code: nobody 4 status. What it prints is in $WORK/out.
func nobody(ts *testscript.TestScript, _ bool, args []string) {
	self, err := os.Executable()
	ts.Check(err)
	dir, err := os.MkdirTemp("", "acmed-nobody")
	ts.Check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	ts.Check(os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "acmed")
	ts.Check(copyFile(self, binary))
	for d := ts.Getenv("WORK"); d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		ts.Check(os.Chmod(d, 0o755))
	}
	cmd := exec.Command(binary, args[1:]...)
	cmd.Env = []string{"ACMED_CONFIG=" + ts.Getenv("ACMED_CONFIG"), "PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	ts.Logf("%s", out)
	ts.Check(os.WriteFile(ts.MkAbs("out"), out, 0o644))
	if got := cmd.ProcessState.ExitCode(); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
