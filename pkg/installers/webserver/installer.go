package webserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// Configuration is a server's configuration as it was read.
type Configuration interface {
	// Names reports whether a site takes its certificate from the file.
	Names(path string) bool
	// Files are the files that were read, and the directories in which others would be found.
	Files() []string
}

// Editor is what a plugin knows of its kind of server. None of its methods changes anything.
type Editor[C Configuration] interface {
	// Read reads the configuration as it stands.
	Read(ctx context.Context) (C, error)
	// Plan decides what changes so that the configuration serves b.
	Plan(ctx context.Context, c C, b *certs.Bundle) (*Plan[C], error)
	// Endpoints are where the configuration serves the target. That it does not is an error.
	Endpoints(c C) ([]endpoint.Endpoint, error)
	// Withdraw decides what becomes of the files of an undo record when the target goes.
	Withdraw(ctx context.Context, originals []change.Original) ([]change.File, error)
}

// Noter is an [Editor] that knows what an operator should know about an installation of b that succeeds.
type Noter[C Configuration] interface {
	Notes(c C, b *certs.Bundle) ([]string, error)
}

// Foreseer is an [Editor] that knows what files would make of a configuration before they are written.
type Foreseer[C Configuration] interface {
	Foresee(c C, files []change.File) (C, error)
}

// Plan is what an installation will do.
type Plan[C Configuration] struct {
	Files []change.File
	// Check looks at the configuration with the edits of the whole round, and says where the bundle is served then.
	Check func(after C) ([]endpoint.Endpoint, error)
	// Cures reports whether the edit takes away why the server's own test fails before it; may be nil.
	Cures func(failure string) bool
	Log   installers.LogTail // the server's error log
	Min   uint16             // the oldest version of TLS whose clients must not be lost; 0 for all
}

// Installer makes one server serve one certificate. It is safe for concurrent use.
type Installer[C Configuration] struct {
	target        installers.Target
	editor        Editor[C]
	verifyTimeout time.Duration
}

// New makes an installer. Targets of the same server must share the target's Server, so that their edits do not meet.
func New[C Configuration](t installers.Target, e Editor[C], verifyTimeout time.Duration) *Installer[C] {
	change.JournalsOf(t.Server).Add(t.Journal)
	return &Installer[C]{target: t, editor: e, verifyTimeout: verifyTimeout}
}

// Install points the server at the lineage where it does not point there yet, then tests, reloads and proves it by a
// handshake for every name. After a renewal there is nothing to edit. What several targets of one server want at one time
// is done in one round.
//
// A configuration that the server refuses before anything was touched, or with which it would not survive a reload, is an
// [*installers.BrokenServerError], a stopped server an [*installers.NotRunningError], and what cannot be edited safely a
// [*SyntaxError] with file and line. An edit that the server refuses, or that locks clients out, is an
// [*installers.RefusedEditError]. When the probe fails the error ends in what the server has logged since.
func (i *Installer[C]) Install(ctx context.Context, b *certs.Bundle) error {
	if len(b.KeyPEM) == 0 {
		return errors.New("the key of this certificate is not acmed's, so the server cannot be pointed at it: install it with another plugin")
	}
	if err := i.target.CheckLive(b); err != nil {
		return err
	}
	return i.target.Server.Together(ctx, &task[C]{Installer: i, bundle: b}, runRound[C])
}

// read reads the configuration. Where the server cannot read it either the error is the server's own.
func (i *Installer[C]) read(ctx context.Context) (C, error) {
	c, err := i.editor.Read(ctx)
	if err == nil || ctx.Err() != nil {
		return c, err
	}
	if broken := i.target.Server.Test(ctx); broken != nil && ctx.Err() == nil {
		err = &installers.BrokenServerError{Err: broken}
	}
	return c, err
}

// Recover settles what a crash left behind.
func (i *Installer[C]) Recover(ctx context.Context) error {
	return change.Recover(ctx, i.target.Journal, i.target.Server.Reload)
}

// Verify connects once to every endpoint and returns nil when all serve b.
func (i *Installer[C]) Verify(ctx context.Context, b *certs.Bundle) error {
	endpoints, err := i.Endpoints(ctx)
	if err != nil {
		return err
	}
	return endpoint.Verify(ctx, endpoints, b, 0)
}

// Endpoints are where the server serves the target, as its configuration says.
func (i *Installer[C]) Endpoints(ctx context.Context) ([]endpoint.Endpoint, error) {
	c, err := i.known(ctx)
	if err != nil {
		return nil, err
	}
	return i.editor.Endpoints(c)
}

// Notes are what an operator should know about an installation of b that succeeds.
func (i *Installer[C]) Notes(ctx context.Context, b *certs.Bundle) ([]string, error) {
	n, ok := i.editor.(Noter[C])
	if !ok {
		return nil, nil
	}
	c, err := i.known(ctx)
	if err != nil {
		return nil, err
	}
	return n.Notes(c, b)
}

// known is the configuration for those who only look.
func (i *Installer[C]) known(ctx context.Context) (C, error) {
	c, ok := recall[C](i.target.Server)
	if ok {
		return c, nil
	}
	c, err := i.editor.Read(ctx)
	if err == nil {
		remember(i.target.Server, c)
	}
	return c, err
}

// Preview shows what Install would change.
func (i *Installer[C]) Preview(ctx context.Context, b *certs.Bundle) (string, error) {
	c, err := i.read(ctx)
	if err != nil {
		return "", err
	}
	plan, err := i.editor.Plan(ctx, c, b)
	if err != nil {
		return "", err
	}
	return (&change.Change{Journal: i.target.Journal, Files: plan.Files}).Diff()
}

// Uninstall gives the configuration back. Files that nobody else edited get their old bytes. From the others only what
// acmed wrote is taken, so that later edits stay; where that cannot be told from somebody else's edit the error says file
// and line, and nothing at all is changed.
func (i *Installer[C]) Uninstall(ctx context.Context) error {
	server := i.target.Server
	unlock, err := server.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := i.Recover(ctx); err != nil {
		return err
	}
	originals, err := change.Originals(ctx, i.target.Journal)
	if err != nil || len(originals) == 0 {
		return err
	}
	files, err := i.editor.Withdraw(ctx, originals)
	if err != nil {
		return err
	}
	if _, err := (&change.Change{Journal: i.target.Journal, Files: files}).Apply(ctx); err != nil {
		return err
	}
	if err := change.Forget(ctx, i.target.Journal); err != nil {
		return err
	}
	if err := server.Test(ctx); err != nil {
		return fmt.Errorf("acmed's lines are gone, but %s was not reloaded because its test fails: %w", server.Name(), err)
	}
	err = server.Reload(ctx)
	if stopped := (*installers.NotRunningError)(nil); errors.As(err, &stopped) {
		return nil
	}
	return err
}

// withdraw decides what becomes of one file of an undo record; nil when there is nothing to do.
func withdraw(o change.Original, takeOut func(now []byte) ([]byte, error)) (*change.File, error) {
	if target, err := os.Readlink(o.Path); err == nil {
		return withdrawLink(o, target)
	}
	now, err := installers.ReadRegular(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file := &change.File{Path: o.Path, Was: change.Hash(now), Content: o.Content, Remove: !o.Existed}
	untouched := file.Was == o.Written && !o.Edited
	switch {
	case o.Existed && bytes.Equal(now, o.Content):
		return nil, nil
	case untouched:
		return file, nil
	case !o.Existed:
		return nil, &installers.ConflictError{Path: o.Path, Reason: "this file was modified since acmed created it: remove it by hand"}
	}
	if file.Content, err = takeOut(now); err != nil || bytes.Equal(file.Content, now) {
		return nil, err
	}
	return file, nil
}

// withdrawLink does so for what is a symbolic link now.
func withdrawLink(o change.Original, target string) (*change.File, error) {
	switch {
	case o.Existed:
		return nil, &installers.ConflictError{Path: o.Path, Reason: "replaced by a symbolic link since acmed's change; not reverted"}
	case o.Written != change.LinkHash(target):
		return nil, nil
	}
	return &change.File{Path: o.Path, Link: target, Remove: true, Was: o.Written}, nil
}

// WithdrawAll decides what becomes of the files of an undo record. Where somebody else edited one, takeOut takes acmed's
// lines out of its present content.
func WithdrawAll(originals []change.Original, takeOut func(o change.Original, now []byte) ([]byte, error)) ([]change.File, error) {
	var files []change.File
	var errs []error
	for _, o := range originals {
		file, err := withdraw(o, func(now []byte) ([]byte, error) { return takeOut(o, now) })
		errs = append(errs, err)
		if file != nil {
			files = append(files, *file)
		}
	}
	return files, errors.Join(errs...)
}
