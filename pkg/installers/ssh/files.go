package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// remoteFiles is how files of another machine are read and replaced.
type remoteFiles interface {
	inspect(path string) (change.State, []byte, error)
	put(path string, s change.State, content []byte) error
	examine(dir string) error // nil when files can be written there, as far as that can be known without writing one
}

// newFiles uses SFTP where the machine has it, else a shell.
func newFiles(c *connection) remoteFiles {
	client, err := sftp.NewClient(c.client)
	if err != nil {
		return &shellFiles{c}
	}
	return &sftpFiles{client, c}
}

// temporary is a name in the same directory that no pattern of a server's configuration matches. It is the same for every
// write of a file, so that the next one takes away what a cut connection left.
func temporary(name string) string {
	return path.Join(path.Dir(name), ".acmed-"+path.Base(name)+".tmp")
}

func absent() (change.State, []byte, error) { return change.State{Hash: change.Absent}, nil, nil }

func regular(kind, name string) error {
	return fmt.Errorf("%s is a %s, not a regular file: name the file itself, or move it away", name, kind)
}

type sftpFiles struct {
	client *sftp.Client
	c      *connection
}

func (f *sftpFiles) inspect(name string) (s change.State, content []byte, err error) {
	info, err := f.client.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return absent()
	}
	if err != nil {
		return s, nil, err
	}
	if !info.Mode().IsRegular() {
		return s, nil, regular(info.Mode().Type().String(), name)
	}
	file, err := f.client.Open(name)
	if err != nil {
		return s, nil, err
	}
	defer file.Close() //nolint:errcheck // only read from
	if content, err = io.ReadAll(io.LimitReader(file, installers.MaxFile+1)); err != nil {
		return s, nil, err
	}
	if len(content) > installers.MaxFile {
		return s, nil, fmt.Errorf("%s has more than %d bytes", name, installers.MaxFile)
	}
	s = change.State{Hash: change.Hash(content), Mode: info.Mode().Perm(), UID: change.Keep, GID: change.Keep}
	if st, ok := info.Sys().(*sftp.FileStat); ok {
		s.UID, s.GID = int(st.UID), int(st.GID)
	}
	return s, content, nil
}

// examine cannot ask SFTP who may write, so it asks a shell. A login that has none gets the benefit of the doubt.
func (f *sftpFiles) examine(dir string) error {
	info, err := f.client.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return errors.New("it is not a directory")
	}
	if output, _ := f.c.exec(quote([]string{"/bin/sh", "-c", examineScript, "sh", dir}), nil); bytes.Equal(output, []byte("denied\n")) {
		return fs.ErrPermission
	}
	return nil
}

func (f *sftpFiles) put(name string, s change.State, content []byte) error {
	tmp := temporary(name)
	if err := f.remove(tmp); err != nil {
		return err
	}
	if s.Hash == change.Absent {
		return f.remove(name)
	}
	err := f.write(tmp, s, content)
	if err == nil {
		err = f.client.PosixRename(tmp, name)
	}
	if err != nil {
		_ = f.client.Remove(tmp) // the first error is the one to tell
	}
	return err
}

func (f *sftpFiles) remove(name string) error {
	err := f.client.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (f *sftpFiles) write(tmp string, s change.State, content []byte) error {
	file, err := f.client.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return file.Chmod(0o600) }, // before there is anything to read
		func() error { _, err := io.Copy(file, bytes.NewReader(content)); return err },
		func() error { return f.own(file, s) },
		func() error { return file.Chmod(s.Mode) },
		func() error { return f.sync(file) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

// own gives the file its owner, where that is not the user who writes it.
func (f *sftpFiles) own(file *sftp.File, s change.State) error {
	if s.UID == change.Keep && s.GID == change.Keep {
		return nil
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*sftp.FileStat)
	if !ok {
		return errors.New("the other machine does not tell who owns a file")
	}
	uid, gid := int(st.UID), int(st.GID)
	if s.UID != change.Keep {
		uid = s.UID
	}
	if s.GID != change.Keep {
		gid = s.GID
	}
	if uid == int(st.UID) && gid == int(st.GID) {
		return nil
	}
	if err := file.Chown(uid, gid); err != nil {
		return fmt.Errorf("give it to user %d and group %d: %w", uid, gid, err)
	}
	return nil
}

// sync makes the file durable where the other machine can.
func (f *sftpFiles) sync(file *sftp.File) error {
	if _, ok := f.client.HasExtension("fsync@openssh.com"); !ok {
		return nil
	}
	return file.Sync()
}

// shellFiles needs sh, stat of GNU or BusyBox, cat, mv, rm, chown and chmod.
type shellFiles struct{ c *connection }

// The scripts take the file as $1. Everything that they print besides the first line is the file.
const (
	inspectScript = `if [ -h "$1" ]; then echo link; elif [ ! -e "$1" ]; then echo absent; elif [ ! -f "$1" ]; then echo other; ` +
		`else stat -c 'file %a %u %g' -- "$1" && cat -- "$1"; fi`
	putScript = `umask 077; set -e; rm -f -- "$2"; trap 'rm -f -- "$2"' EXIT; cat >"$2"; [ "$(wc -c <"$2")" -eq "$5" ] || { echo "not all of it was written" >&2; exit 1; }; ` +
		`[ "$3" = keep ] || [ "$(stat -c %u:%g -- "$2")" = "$3" ] || chown -- "$3" "$2"; chmod -- "$4" "$2"; mv -f -- "$2" "$1"; trap - EXIT`
	removeScript  = `rm -f -- "$1" "$2"`
	examineScript = `if [ ! -d "$1" ]; then echo absent; elif [ -w "$1" ] && [ -x "$1" ]; then echo fine; else echo denied; fi`
)

func (f *shellFiles) script(script string, stdin []byte, args ...string) ([]byte, error) {
	output, err := f.c.exec(quote(append([]string{"/bin/sh", "-c", script, "sh"}, args...)), stdin)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("exit status %d: %s", exit.ExitStatus(), text.Tail(string(output), text.Most))
	}
	return output, err
}

func (f *shellFiles) inspect(name string) (s change.State, content []byte, err error) {
	output, err := f.script(inspectScript, nil, name)
	if err != nil {
		return s, nil, err
	}
	first, content, _ := bytes.Cut(output, []byte("\n"))
	words := strings.Fields(string(first))
	switch {
	case len(words) == 1 && words[0] == "absent":
		return absent()
	case len(words) == 1 && words[0] == "link":
		return s, nil, regular("symbolic link", name)
	case len(words) != 4 || words[0] != "file":
		return s, nil, regular("device or directory", name)
	}
	mode, err1 := strconv.ParseUint(words[1], 8, 32)
	uid, err2 := strconv.Atoi(words[2])
	gid, err3 := strconv.Atoi(words[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return s, nil, fmt.Errorf("what stat says of %s: %w", name, err)
	}
	return change.State{Hash: change.Hash(content), Mode: fs.FileMode(mode).Perm(), UID: uid, GID: gid}, content, nil
}

func (f *shellFiles) examine(dir string) error {
	output, err := f.script(examineScript, nil, dir)
	switch {
	case err != nil:
		return err
	case bytes.Equal(output, []byte("absent\n")):
		return fs.ErrNotExist
	case bytes.Equal(output, []byte("denied\n")):
		return fs.ErrPermission
	}
	return nil
}

func (f *shellFiles) put(name string, s change.State, content []byte) error {
	if s.Hash == change.Absent {
		_, err := f.script(removeScript, nil, name, temporary(name))
		return err
	}
	owner := "keep"
	switch {
	case s.UID != change.Keep && s.GID != change.Keep:
		owner = fmt.Sprintf("%d:%d", s.UID, s.GID)
	case s.UID != change.Keep:
		owner = strconv.Itoa(s.UID)
	case s.GID != change.Keep:
		owner = ":" + strconv.Itoa(s.GID)
	}
	_, err := f.script(putScript, content, name, temporary(name), owner, fmt.Sprintf("%04o", s.Mode), strconv.Itoa(len(content)))
	return err
}
