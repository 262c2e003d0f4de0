package installers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/internal/vetted"
)

// MaxFile is the largest file that is read or edited, in bytes. The largest web server configurations have a few
// megabytes.
const MaxFile = 16 << 20

// ReadRegular reads a regular file of at most [MaxFile] bytes, following symbolic links as [vetted.OpenRegular] does. It does
// not block on a FIFO and reads no device.
func ReadRegular(path string) ([]byte, error) {
	f, info, err := vetted.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info.Size() > MaxFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), MaxFile)
	}
	var text bytes.Buffer
	_, err = text.ReadFrom(io.LimitReader(f, MaxFile+1))
	if err == nil && text.Len() > MaxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, MaxFile)
	}
	return text.Bytes(), err
}

// PIDFileActive asks the process of a pid file, for [NewServer]. A pid that was left by a crash may belong to anybody, so
// the process must be one of the programs, as far as one can see.
func PIDFileActive(path string, programs ...string) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) {
		text, err := ReadRegular(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid <= 1 {
			return false, nil
		}
		if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
			return false, nil
		}
		title, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		ours := slices.ContainsFunc(programs, func(p string) bool { return strings.Contains(string(title), p) })
		return err != nil || ours, nil
	}
}

// LogTail is the error log of a server, of which only the lines since a mark matter. The zero LogTail says nothing.
type LogTail struct {
	Path string // absolute; "" when the server logs elsewhere
	from int64
}

// Mark forgets what was logged until now.
func (l *LogTail) Mark() {
	if info, err := os.Stat(l.Path); err == nil {
		l.from = info.Size()
	}
}

// Explain adds the last lines that were logged since the mark to an error; nil stays nil.
func (l *LogTail) Explain(err error) error {
	if err == nil || l.Path == "" {
		return err
	}
	if said := text.Tail(withhold(string(l.since())), text.Most); said != "" {
		return fmt.Errorf("%w; the server logged: %s", err, said)
	}
	return err
}

// since are the last bytes behind the mark, from the beginning of a line. A log that cannot be read says nothing.
func (l *LogTail) since() []byte {
	f, info, err := vetted.OpenRegular(l.Path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if info.Sys().(*syscall.Stat_t).Nlink != 1 { // the other name may be a file of somebody else
		return nil
	}
	from := max(l.from, info.Size()-text.Most)
	text, err := io.ReadAll(io.NewSectionReader(f, from, text.Most))
	if err != nil {
		return nil
	}
	if from > l.from {
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	return text
}
