package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/acmetest/canary"
	"github.com/acmed/acmed/internal/systemd"
)

// ownDirectories gives this process, which has mounts of its own, empty directories in the place of those that all users of
// the machine share: tests of other packages use them too. What the binary under test is in stays, and what looks for secrets.
func ownDirectories(t *testing.T) {
	t.Helper()
	kept := map[string]*os.File{filepath.Dir(acmed): nil}
	if dir := os.Getenv(canary.Variable); dir != "" {
		kept[dir] = nil
	}
	for dir := range kept {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		kept[dir] = f
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("none", dir, "tmpfs", 0, "mode=1777")); err != nil {
			t.Fatal(dir, err)
		}
	}
	if err := errors.Join(os.Chmod("/run", 0o755), os.MkdirAll(os.TempDir(), 0o755)); err != nil {
		t.Fatal(err)
	}
	for dir, f := range kept {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), dir, "", unix.MS_BIND, "")); err != nil {
			t.Fatal(err)
		}
	}
}

// recorder is in the place of the journal: it keeps what is sent to its socket.
type recorder struct {
	t       *testing.T
	conn    *net.UnixConn
	mu      sync.Mutex
	entries [][]byte
}

func record(t *testing.T) *recorder {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(systemd.JournalSocket), 0o755); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: systemd.JournalSocket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{t: t, conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 1<<20); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.entries = append(r.entries, slices.Clone(buf[:n]))
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return r
}

// attach makes the journal the standard error of a program.
func (r *recorder) attach(cmd *exec.Cmd) {
	r.t.Helper()
	f, err := os.CreateTemp("/run", "stderr") // mode 0600
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		r.t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	cmd.Stderr, cmd.Env = f, append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
}

// fields are all that was sent, by name.
func (r *recorder) fields() map[string][]string {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[string][]string{}
	for _, entry := range r.entries {
		for rest := string(entry); rest != ""; {
			line, after, _ := strings.Cut(rest, "\n")
			name, value, one := strings.Cut(line, "=")
			if !one {
				size := binary.LittleEndian.Uint64([]byte(after[:8]))
				value, after = after[8:8+size], after[8+size+1:]
			}
			found[name] = append(found[name], value)
			rest = after
		}
	}
	return found
}

// keyLine is the first line of a private key in PEM.
var keyLine = regexp.MustCompile(`PRIVATE KEY-----\n([^\n]+)\n`)

// keep remembers every private key that there is now below the directory of the machine.
func (l *othersLife) keep() {
	l.t.Helper()
	l.must(filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, m := range keyLine.FindAllSubmatch(text, -1) {
			l.secrets = append(l.secrets, string(m[1]))
		}
		return err
	}))
}

// sent matches the sentence of docs/SECURITY.md with the fields of entries in the journal.
var sent = regexp.MustCompile("(?s)The fields of an entry are(.+?)\\.\n")

// heard checks what went to the journal: the fields that docs/SECURITY.md lists, and no secret in any of them.
func (l *othersLife) heard(page string) {
	l.t.Helper()
	list := sent.FindStringSubmatch(page)
	if list == nil {
		l.t.Fatal("docs/SECURITY.md does not list the fields")
	}
	fields := l.journal.fields()
	if !slices.Contains(fields["CERTIFICATE"], "mail") || len(l.secrets) < 5 {
		l.t.Errorf("fields %v, %d secrets: too few", fields, len(l.secrets))
	}
	for name, values := range fields {
		if !strings.Contains(list[1], "`"+name+"`") {
			l.t.Errorf("the journal gets the field %s, which docs/SECURITY.md does not list", name)
		}
		text := strings.Join(values, "\n")
		if hits := canary.Find(text, l.secrets); len(hits) > 0 {
			l.t.Errorf("the journal gets a secret in %s: %v", name, hits)
		}
		l.must(canary.Heard(text))
	}
	for argv := range l.spy.argvs {
		if hits := canary.Find(argv, l.secrets); len(hits) > 0 {
			l.t.Errorf("a secret is among the arguments of a process: %v", hits)
		}
	}
}
