package nginx

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
)

// maxLogged is how much of nginx's own words an error carries.
const maxLogged = 2048

// errorLog is the main error log of an nginx, of which only the lines since a mark matter.
type errorLog struct {
	path string // "" when it is not a file
	from int64
}

// newErrorLog finds the log: the last error_log of the main context that is a file, or the one built in.
func newErrorLog(t *tree, info build) *errorLog {
	path := info.errorLog
	for _, d := range slices.Backward(t.main.root) {
		if d.is("error_log") {
			path = d.words[1].value
			break
		}
	}
	if path == "stderr" || strings.Contains(path, ":") {
		return &errorLog{}
	}
	return &errorLog{path: under(info.prefix, path)}
}

// mark forgets what was logged until now.
func (l *errorLog) mark() {
	if info, err := os.Stat(l.path); err == nil {
		l.from = info.Size()
	}
}

// explain adds what was logged since the mark to an error.
func (l *errorLog) explain(err error) error {
	if err == nil || l.path == "" {
		return err
	}
	lines := strings.TrimSpace(string(l.since()))
	if lines == "" {
		return err
	}
	return fmt.Errorf("%w; nginx logged: %q", err, lines)
}

// since are the last bytes behind the mark, from the beginning of a line. A log that cannot be read says nothing.
func (l *errorLog) since() []byte {
	f, err := os.OpenFile(l.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() <= l.from {
		return nil
	}
	from := max(l.from, info.Size()-maxLogged)
	text, err := io.ReadAll(io.NewSectionReader(f, from, maxLogged))
	if err != nil {
		return nil
	}
	if from > l.from {
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	return text
}
