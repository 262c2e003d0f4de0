package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestMain lets this test binary be the program itself.
func TestMain(m *testing.M) {
	if os.Getenv("TESTCA_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs the program, reads its four lines and returns them by their first word.
func start(t *testing.T, stdin io.Reader, wrap []string, args ...string) (*exec.Cmd, map[string]string) {
	t.Helper()
	argv := append(append(wrap, os.Args[0]), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "TESTCA_MAIN=1")
	cmd.Stdin, cmd.Stderr = stdin, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := map[string]string{}
	for scan := bufio.NewScanner(out); len(lines) < 4 && scan.Scan(); {
		key, value, _ := strings.Cut(scan.Text(), " ")
		lines[key] = value
	}
	if len(lines) < 4 {
		t.Fatalf("announced only %v", lines)
	}
	return cmd, lines
}

func address(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t)) }

func TestServesAndEndsOnSIGTERM(t *testing.T) {
	dir := t.TempDir()
	root, issuing := filepath.Join(dir, "root.pem"), filepath.Join(dir, "issuing.pem")
	port := acmetest.FreePort(t)
	cmd, lines := start(t, nil, nil, "-listen", address(t), "-root", root, "-issuing-root", issuing,
		"-http-port", fmt.Sprint(port), "-validity", "1h")
	text, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	server := acmetest.Server{Directory: lines["directory"], Roots: x509.NewCertPool(), HTTPPort: port}
	if !server.Roots.AppendCertsFromPEM(text) {
		t.Fatalf("no root in %q", text)
	}
	if _, _, err := acmetest.BareOrder(t.Context(), server, "a.example.com"); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(issuing); err != nil || !x509.NewCertPool().AppendCertsFromPEM(text) {
		t.Errorf("issuing root %q: %v", text, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestEndsWithStandardInput(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	cmd, _ := start(t, in, nil, "-listen", address(t), "-stdin")
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after the end of the input: %v", err)
	}
}

func TestEndsWithParent(t *testing.T) {
	shell, lines := start(t, nil, []string{"/bin/sh", "-c", `"$0" "$@" & wait`}, "-listen", address(t))
	if err := shell.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(lines["directory"], "https://"), "/dir")
	await.True(t, "it ends with its parent", func() bool { return reach(t.Context(), host) != nil })
}

// reach connects to host.
func reach(ctx context.Context, host string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestBadArguments(t *testing.T) {
	busy := acmetest.Start(t)
	taken := strings.TrimSuffix(strings.TrimPrefix(busy.Directory, "https://"), "/dir")
	for want, args := range map[string][]string{
		"address already in use": {"-listen", taken},
		"not defined":            {"-nonsense"},
		"no such file":           {"-listen", address(t), "-root", "/nonexistent/root.pem"},
	} {
		err := run(t.Context(), args, strings.NewReader(""), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", args, err, want)
		}
	}
}
