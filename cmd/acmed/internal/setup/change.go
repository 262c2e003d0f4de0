package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// File is one file to write.
type File struct {
	Path        string
	Content     []byte
	Certificate string // the certificate that it is for; "" for files that several share
	Secret      bool   // readable by the owner alone, and never replaced
	UID         int    // the owner of a secret
}

// Change is a set of files that are written together and can be taken back. It is journaled: a process that is killed
// in it leaves what [Recover] undoes.
type Change struct {
	Dirs   []Dir   // made where they are missing, the outer ones first
	Files  []File  // of acmed's own configuration
	Routes []Route // in the configuration of web servers, after Files

	journal string                      // absolute directory
	within  func(context.Context) error // done before the change counts; when it fails, everything is undone
	made    []step                      // what Apply did, in its order
}

// Dir is a directory.
type Dir struct {
	Path string
	Mode fs.FileMode
}

// step is one thing that was done.
type step struct {
	path        string
	certificate string
	dir         bool
	before      []byte // the file's content; nil when there was none
	after       []byte // what was written; nil when it was removed
	secret      bool
	uid         int
}

// TakenError says that a file belongs to somebody else.
type TakenError struct{ Path string }

// Error names the file.
func (e *TakenError) Error() string {
	return fmt.Sprintf("%s was written or edited by another program or person, so acmed leaves it as it is", e.Path)
}

// journalDir is the directory of the journal beside a main file: whoever may write the configuration may write it.
func journalDir(main string) string { return filepath.Join(filepath.Dir(main), ".acmed-setup") }

// Check reports files that may not be written, joined; each is a [*TakenError].
func (c *Change) Check() error {
	var errs []error
	for _, f := range c.Files {
		_, err := replaceable(f.Path)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// maxFile bounds a file that enable and disable read: it is one of theirs, or is kept as it is.
const maxFile = 1 << 20

// replaceable returns the content of a file that may be replaced, nil when there is none.
func replaceable(path string) ([]byte, error) {
	text, err := vetted.ReadFile(path, 0, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !Sealed(text):
		return nil, &TakenError{Path: path}
	}
	return text, nil
}

// Apply writes everything. On an error everything is as it was before.
func (c *Change) Apply(ctx context.Context) error {
	if err := c.apply(ctx); err != nil {
		return errors.Join(err, c.Revert(context.WithoutCancel(ctx)))
	}
	return nil
}

func (c *Change) apply(ctx context.Context) error {
	for _, d := range c.Dirs {
		err := os.Mkdir(d.Path, d.Mode)
		switch {
		case err == nil:
			c.made = append(c.made, step{path: d.Path, dir: true})
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	var steps []step
	for _, f := range c.Files {
		before, err := replaceable(f.Path)
		if err != nil {
			return err
		}
		steps = append(steps, step{path: f.Path, certificate: f.Certificate, before: before, after: f.Content, secret: f.Secret, uid: f.UID})
	}
	return c.carryOut(ctx, steps)
}

// carryOut makes the steps and the routes in one journaled change, and notes them.
func (c *Change) carryOut(ctx context.Context, steps []step) error {
	edit := change.Change{Journal: c.journal, Probe: c.within, Always: c.within != nil}
	for _, s := range steps {
		edit.Files = append(edit.Files, s.file())
	}
	if err := c.route(ctx, &edit); err != nil {
		return err
	}
	if len(edit.Files) == 0 && c.within == nil {
		return nil
	}
	_, err := edit.Apply(ctx)
	stopped := (*installers.NotRunningError)(nil)
	if err != nil && !errors.As(err, &stopped) {
		_ = tidy(context.WithoutCancel(ctx), c.journal) // what cannot be tidied now is by the next command
		return err
	}
	c.made = append(c.made, steps...)
	if stopped != nil && edit.Probe != nil { // written, but a CA would not find it
		return err
	}
	return tidy(ctx, c.journal)
}

// file is a step as the journaled change wants it. The file must be as it was found.
func (s *step) file() change.File {
	f := change.File{Path: s.path, Content: s.after, Remove: s.after == nil, Was: change.Absent}
	if s.before != nil {
		f.Was = change.Hash(s.before)
	}
	if s.secret {
		f.Secret, f.Mode, f.Owner = true, 0o600, &change.Owner{UID: s.uid, GID: change.Keep}
	}
	return f
}

// tidy drops the journal unless a web server still has a route: the journal knows where. The directory goes with it.
func tidy(ctx context.Context, journal string) error {
	list, err := change.Originals(ctx, journal)
	if err != nil || slices.ContainsFunc(list, func(o change.Original) bool { return isRouted(o) || enabledBy(o) != "" }) {
		return err
	}
	err = errors.Join(change.Forget(ctx, journal), removeFile(filepath.Join(journal, serverFile)))
	_ = os.Remove(journal) // fails when another process uses it, and then it stays
	return err
}

// Revert undoes what Apply did. Directories that are in use by now stay.
func (c *Change) Revert(ctx context.Context) error {
	return c.revert(ctx, func(string) bool { return true })
}

// RevertCertificate undoes what Apply did for one certificate alone.
func (c *Change) RevertCertificate(ctx context.Context, name string) error {
	return c.revert(ctx, func(certificate string) bool { return certificate == name })
}

func (c *Change) revert(ctx context.Context, wanted func(certificate string) bool) error {
	var steps []step
	var errs []error
	mine := func(s step) bool { return wanted(s.certificate) }
	back := &Change{journal: c.journal}
	for _, s := range slices.Backward(c.made) {
		if mine(s) && !s.dir {
			steps = append(steps, step{path: s.path, before: s.after, after: s.before})
		}
	}
	for _, r := range c.Routes {
		if wanted(r.Certificate) {
			r.remove = true
			back.Routes = append(back.Routes, r)
		}
	}
	errs = append(errs, back.carryOut(ctx, steps))
	for _, s := range slices.Backward(c.made) {
		if mine(s) && s.dir {
			_ = os.Remove(s.path) // fails when somebody has put something into it, and then it must stay
		}
	}
	c.made = slices.DeleteFunc(c.made, mine)
	return errors.Join(errs...)
}

// Remove deletes the files of the change in place of writing them, and takes its routes away; Revert brings the files
// back. A file that is not there is no error, and one that somebody edited is a [*TakenError].
func (c *Change) Remove(ctx context.Context) error {
	var steps []step
	for _, f := range c.Files {
		before, err := replaceable(f.Path)
		if err != nil {
			return err
		}
		if before != nil {
			steps = append(steps, step{path: f.Path, certificate: f.Certificate, before: before, secret: f.Secret, uid: f.UID})
		}
	}
	for i := range c.Routes {
		c.Routes[i].remove = true
	}
	return c.carryOut(ctx, steps)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// serverFile is the file in the journal that says which web servers have to read their files again.
const serverFile = "servers.yaml"

// Recover undoes what a killed "acmed enable", "disable" or "import" left in the configuration at path, and lets the web
// server read its files again if it may have read the new ones. Without permission to do so it does nothing: that is up to
// whoever changes the configuration next.
func Recover(ctx context.Context, path string) error {
	journal := journalDir(path)
	var reload func(context.Context) error
	servers, err := notedServers(journal)
	if err == nil {
		_, reload, err = controls(servers)
	}
	if err == nil {
		err = change.Recover(ctx, journal, reload)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil
	case err != nil:
		return fmt.Errorf("undo an interrupted change of the configuration: %w", err)
	}
	if _, err := os.Lstat(journal); err != nil {
		return nil
	}
	return tidy(ctx, journal)
}

// notedServers reads which servers changes edited; none when there is no journal.
func notedServers(journal string) (servers []Server, err error) {
	text, err := vetted.ReadFile(filepath.Join(journal, serverFile), 0, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = yaml.Unmarshal(text, &servers)
	}
	return servers, err
}

// noteServers writes which servers a change is about to edit, beside those of earlier ones.
func noteServers(journal string, servers []Server) error {
	all, err := notedServers(journal)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if !slices.ContainsFunc(all, s.same) {
			all = append(all, s)
		}
	}
	text, err := yaml.Marshal(all)
	if err == nil {
		err = os.MkdirAll(journal, 0o700)
	}
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(journal, serverFile), text, 0o600)
}
