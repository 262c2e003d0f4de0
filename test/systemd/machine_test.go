package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/internal/acmetest/canary"
)

// packages are what the container has besides the smallest Debian.
const packages = "systemd,systemd-sysv,dbus,nginx-light,apache2,curl,openssl,procps,iproute2,bind9,bind9-dnsutils,haproxy,ansible-core,python3-cffi-backend,certbot,pdns-server,pdns-backend-lmdb,rpm,pacman-package-manager,python3-apt" +
	",exim4-daemon-light,vsftpd,mariadb-server,slapd,prosody,coturn,cockpit-ws,stunnel4,nodejs" + // for TestServers, with what debootstrap overlooks and ProFTPD needs
	",dbus-user-session,libpam-systemd,lua-bitop,lua-sec,lua-socket,libhiredis0.14,libmemcached11,libmemcachedutil2,libpcre2-posix3,libsodium23,ucf"

// machine is a container that runs systemd.
type machine struct {
	t      *testing.T
	root   string // its file system, as seen from here
	leader string // process ID of its systemd
}

// boot starts a container with a private copy of the base system and no network but its own loopback.
func boot(t *testing.T) *machine {
	t.Helper()
	impossible := t.Fatalf
	switch os.Getenv("ACMED_SYSTEMD") {
	case "":
		t.Skip("make test-systemd runs this")
	case "try":
		impossible = t.Skipf
	}
	if os.Getuid() != 0 {
		impossible("a container needs root")
	}
	if err := mountable(t.TempDir()); err != nil {
		impossible("no container can be made here: %v", err)
	}
	m := &machine{t: t, root: copyOf(t, base(t))}
	log, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("systemd-nspawn", "--quiet", "--directory", m.root, "--machine", "acmed-"+filepath.Base(filepath.Dir(m.root)), "--register=no", "--keep-unit",
		"--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe", "--boot")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // an orderly shutdown
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("console:\n%s", text)
		}
	})
	t.Cleanup(m.confess)
	m.until("systemd is up", func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if m.leader = strings.TrimSpace(string(children)); err != nil || m.leader == "" {
			return fmt.Errorf("no child of systemd-nspawn yet (%w)", err)
		}
		_, err = m.try("systemctl", "is-active", "multi-user.target")
		return err
	})
	return m
}

// confess hands the whole journal over to the search for secrets, and the keys that must not be in it.
func (m *machine) confess() {
	if os.Getenv(canary.Variable) == "" || m.leader == "" {
		return
	}
	out, err := m.try("journalctl", "--no-pager", "--all", "-o", "export")
	err = errors.Join(err, canary.Heard(out))
	for _, dir := range []string{"/var/lib/acmed", "/var/lib/acmed-installd"} {
		if at := filepath.Join(m.root, dir); exists(at) {
			err = errors.Join(err, canary.Keys(at))
		}
	}
	if err != nil {
		m.t.Error(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// secret names something that must be in no output.
func (m *machine) secret(text string) string {
	m.t.Helper()
	if err := canary.Secret(text); err != nil {
		m.t.Error(err)
	}
	return text
}

// mountable reports whether file systems can be mounted here, which an unprivileged container does not allow.
func mountable(dir string) error {
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return unix.Unmount(dir, 0)
}

// base makes the base system on its first call on this machine; every other call waits for that, whichever process makes it.
func base(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../.cache/systemd")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, fmt.Sprintf("root-%08x", crc32.ChecksumIEEE([]byte(packages)))) // other packages are another system
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatalf("lock %s: %v", dir, err)
	}
	if _, err := os.Stat(root); err == nil {
		return root
	}
	if err := os.RemoveAll(root + ".new"); err != nil {
		t.Fatal(err)
	}
	t.Log("making the base system; this takes a minute")
	run(t, "debootstrap", "--variant=minbase", "--include="+packages, "bookworm", root+".new")
	// A test that needs a server starts it.
	run(t, "systemctl", "--root="+root+".new", "--quiet", "disable", "named", "haproxy", "certbot.timer", "pdns", "exim4", "vsftpd", "mariadb", "slapd", "prosody", "coturn", "cockpit.socket", "stunnel4")
	// ProFTPD and vsftpd exclude each other.
	run(t, "sh", "-ec", `mkdir "$0/var/cache/acmed"; cd "$0/var/cache/acmed"; get() { apt-get download -qq proftpd-core proftpd-mod-crypto; }; get || { apt-get update -qq; get; }`, root+".new")
	if err := os.Rename(root+".new", root); err != nil {
		t.Fatal(err)
	}
	return root
}

// copyOf makes a directory in which changes of the base system are kept apart.
func copyOf(t *testing.T, lower string) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"root", "changes", "work"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", at("root"), "overlay", 0, "lowerdir="+lower+",upperdir="+at("changes")+",workdir="+at("work")); err != nil {
		t.Fatalf("mount an overlay: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at("root"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at("root")
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// try runs a program in the container.
func (m *machine) try(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	enter := []string{"-t", m.leader, "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
		"/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "SYSTEMD_PAGER=cat", "DEBIAN_FRONTEND=noninteractive"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := strings.TrimSpace(out.String())
	if slices.Contains([]string{"acmed", "systemctl", "journalctl", "bash", "setpriv"}, argv[0]) {
		err = errors.Join(err, canary.Heard(text))
	}
	if err != nil {
		return text, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, text)
	}
	return text, nil
}

// do runs a program in the container that must succeed.
func (m *machine) do(argv ...string) string {
	m.t.Helper()
	out, err := m.try(argv...)
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.journal())
	}
	return out
}

// fails runs a program that must fail with the exit code, and say the words.
func (m *machine) fails(code int, words string, argv ...string) {
	m.t.Helper()
	out, err := m.try(argv...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code || !strings.Contains(out, words) {
		m.t.Fatalf("%s ended with %v, want exit code %d and %q", strings.Join(argv, " "), err, code, words)
	}
}

// write puts a file into the container.
func (m *machine) write(path, text string) {
	m.t.Helper()
	m.put(path, []byte(text), 0o644)
}

func (m *machine) put(path string, data []byte, mode os.FileMode) {
	m.t.Helper()
	at := filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, data, mode)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// copy puts a file of this machine into the container.
func (m *machine) copy(from, to string, mode os.FileMode) {
	m.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.put(to, data, mode)
}

// until waits for something.
func (m *machine) until(what string, check func() error) {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.t.Log(m.journal())
		}
	}()
	await.NoError(m.t, func() error {
		if err := check(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

// journal is what the units of acmed said last.
func (m *machine) journal() string {
	out, _ := m.try("journalctl", "--no-pager", "-o", "short-precise", "-n", "80", "-u", "acmed*", "-u", "testca")
	return out
}

// logged fails unless the journal of acmed's units has the words.
func (m *machine) logged(words string) error {
	_, err := m.try("journalctl", "--no-pager", "--quiet", "-u", "acmed*", "--grep", words)
	return err
}

// property is one property of a unit.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return m.do("systemctl", "show", "--value", "-p", name, unit)
}

func (m *machine) pid(unit string) int {
	m.t.Helper()
	pid, err := strconv.Atoi(m.property(unit, "MainPID"))
	if err != nil || pid <= 1 {
		m.t.Fatalf("%s has no process: %d, %v\n%s", unit, pid, err, m.journal())
	}
	return pid
}
