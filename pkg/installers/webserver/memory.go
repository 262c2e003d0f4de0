package webserver

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/acmed/acmed/pkg/installers"
)

// reading is a configuration and the state of its files when it was read.
type reading[C Configuration] struct {
	c     C
	state map[string]fs.FileInfo // nil for a file that does not exist
}

type readingKey struct{}

// remember keeps a configuration that was just read, for those who only look.
func remember[C Configuration](s *installers.Server, c C) {
	r := &reading[C]{c, map[string]fs.FileInfo{}}
	for _, path := range c.Files() {
		r.state[path] = stat(path)
	}
	s.Memory().Store(readingKey{}, r)
	time.AfterFunc(keep, func() { s.Memory().CompareAndDelete(readingKey{}, r) })
}

// keep is how long a configuration stays in memory.
const keep = 30 * time.Second

// recall is the last configuration, unless one of its files has changed since.
func recall[C Configuration](s *installers.Server) (c C, ok bool) {
	kept, _ := s.Memory().Load(readingKey{})
	r, ok := kept.(*reading[C])
	if !ok {
		return c, false
	}
	for path, then := range r.state {
		if !same(then, stat(path)) {
			return c, false
		}
	}
	return r.c, true
}

func stat(path string) fs.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// same reports whether a file was not changed. Whoever writes a file without a rename leaves it another time of change.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && changed(a) == changed(b)
}

// changed is the time of the last change of content, name, owner or mode (stat(2), st_ctim), which nobody can set.
func changed(info fs.FileInfo) syscall.Timespec {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctim
	}
	return syscall.Timespec{}
}
