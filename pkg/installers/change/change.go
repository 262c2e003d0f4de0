package change

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/installers"
)

// Keep as a UID or GID in [Owner] leaves that one as it is.
const Keep = atomicfile.Keep

// Absent as a File's Was says that the plan was made while the file did not exist.
const Absent = "absent"

// linkPrefix begins what stands for the content of a symbolic link.
const linkPrefix = "link:"

// LinkHash stands for a symbolic link with this target where [Hash] stands for a file's content.
func LinkHash(target string) string { return linkPrefix + target }

// Owner is who a file belongs to.
type Owner struct{ UID, GID int }

// File is one file as a [Change] leaves it.
type File struct {
	Path    string      // absolute; its directory exists
	Content []byte      // the whole new content
	Link    string      // make the path a symbolic link with this target instead; with Remove, take that link away
	Remove  bool        // take the file away instead; Content is not used
	Was     string      // Hash of the content that the plan was made from, or Absent; "" overwrites whatever is there
	Mode    fs.FileMode // permission bits; 0 keeps them, and gives a new file 0644, a secret one 0600
	Owner   *Owner      // nil keeps the owner
	Secret  bool        // holds a private key: never shown, never left open to others
	Follow  bool        // edit the target of a symbolic link and keep the link; otherwise a link is refused
	Shared  bool        // the operator allows a directory in which others can write

	KeepGroup bool // add to Mode the access that an existing file gives its group
}

// Hash is the SHA-256 of content in lower-case hexadecimal.
func Hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// Change is one all-or-nothing edit of the machine. Whoever edits files that several targets share holds the server's
// lock ([installers.Server.Lock]) from reading them until Apply returns.
type Change struct {
	Journal string                      // absolute directory that survives crashes; one per target
	Files   []File                      // written in this order
	Always  bool                        // test, reload and probe even when no file differs: what the files point at was renewed
	Test    func(context.Context) error // the server's own test of its configuration, before and after the edit; may be nil
	Reload  func(context.Context) error // makes the server read the files; may be nil
	Probe   func(context.Context) error // looks at what is served; may be nil
	Others  []Part                      // more targets, for [Change.ApplyTogether] alone

	Disk Disk // where the files are; nil is this machine

	guard atomicfile.Guard // fails or kills at one file-system step; tests only
}

// Apply makes the change and reports whether any file differs afterwards.
//
// The order is: test, journal, write, test, reload, probe, commit. A file that is not what the plan was made from is a
// [*installers.ConflictError], a test that fails before the edit a [*installers.BrokenServerError]; both leave everything
// as it was. A test that fails after the edit is a [*installers.RefusedEditError]. When a later step fails or ctx ends,
// every file gets its old bytes, owner and mode back, unless somebody edited it meanwhile, and the server reads them again
// if it had been reloaded; all errors are joined.
//
// A [*installers.NotRunningError] of Reload is not a failure: the change is committed, not probed, and the error returned. The
// same goes for a [*installers.LaterError] of Probe: the new files are in use, only not by everything yet.
//
// When no file differs nothing is written, tested, reloaded or probed, unless Always is set. The first bytes that a
// journal saw of a file stay its undo record through all later changes.
func (c *Change) Apply(ctx context.Context) (changed bool, err error) {
	j, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	defer j.close()
	edits, err := c.plan()
	if err != nil {
		return false, err
	}
	if len(edits) > 0 {
		return c.carryOut(ctx, j, edits)
	}
	if !c.Always {
		return false, nil
	}
	if err := c.renew(ctx); err != nil {
		return false, err
	}
	return false, call(ctx, c.Probe)
}

// open opens the journal and puts back what an interrupted change left.
func (c *Change) open(ctx context.Context) (*journal, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	j, err := openJournal(ctx, c.Journal, c.medium())
	if err != nil {
		return nil, err
	}
	if _, err := j.settle(ctx, c.Reload); err != nil {
		j.close()
		return nil, fmt.Errorf("undo an interrupted change: %w", err)
	}
	return j, nil
}

// renew makes the server read what its files point at.
func (c *Change) renew(ctx context.Context) error {
	if err := c.testBefore(ctx); err != nil {
		return err
	}
	return call(ctx, c.Reload)
}

// testBefore asks whether the server is sound before acmed does anything to it.
func (c *Change) testBefore(ctx context.Context) error {
	err := call(ctx, c.Test)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &installers.BrokenServerError{Err: err}
}

// carryOut makes the edits, or puts everything back.
func (c *Change) carryOut(ctx context.Context, j *journal, edits []edit) (changed bool, err error) {
	if err := c.testBefore(ctx); err != nil {
		return false, err
	}
	if err := j.begin(edits); err != nil {
		return false, fmt.Errorf("journal of the change: %w", err)
	}
	unfinished, err := c.perform(ctx, j, edits)
	if err == nil {
		err = j.commit()
	}
	if err != nil {
		conflict, failed := j.settle(context.WithoutCancel(ctx), c.Reload)
		return false, errors.Join(err, conflict, failed)
	}
	return true, unfinished
}

// perform does everything between the journal's begin and its commit. What is unfinished is told and not undone.
func (c *Change) perform(ctx context.Context, j *journal, edits []edit) (unfinished, err error) {
	if unfinished, err = c.putInForce(ctx, j, edits); unfinished != nil || err != nil {
		return unfinished, err
	}
	return c.probe(ctx)
}

// putInForce writes, tests and reloads. The journal knows of the reload before it happens,
// so that a crash in between makes the server read the old files again. What is unfinished is told and not undone.
func (c *Change) putInForce(ctx context.Context, j *journal, edits []edit) (unfinished, err error) {
	for i := range edits {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		err := edits[i].write(c.medium())
		if conflict := (*installers.ConflictError)(nil); errors.As(err, &conflict) {
			j.record.Pending.Files = j.record.Pending.Files[:i] // nothing of ours is in the rest
		}
		if err != nil {
			return nil, err
		}
	}
	if err := call(ctx, c.Test); err != nil {
		return nil, advice.Tag(advice.ServerTestFailed, refused(ctx, err))
	}
	if c.Reload != nil {
		if err := j.reloading(); err != nil {
			return nil, err
		}
		err := call(ctx, c.Reload)
		if stopped := (*installers.NotRunningError)(nil); errors.As(err, &stopped) {
			return stopped, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reload: %w", err)
		}
	}
	return nil, nil
}

// probe looks at what is served. What is unfinished is told and not undone.
func (c *Change) probe(ctx context.Context) (unfinished, err error) {
	err = call(ctx, c.Probe)
	if later := (*installers.LaterError)(nil); errors.As(err, &later) {
		return err, nil
	}
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return nil, nil
}

// refused marks an answer of the server to the edit itself. A test that was cut short is none, and neither is one that failed
// before the edit for the same reason, which the test says by a [*installers.BrokenServerError].
func refused(ctx context.Context, err error) error {
	if broken := (*installers.BrokenServerError)(nil); errors.As(err, &broken) {
		return err
	}
	err = fmt.Errorf("the server's configuration test after the edit: %w", err)
	var failed *installers.CommandError
	if ctx.Err() != nil || errors.As(err, &failed) && failed.ExitCode < 0 {
		return err
	}
	return &installers.RefusedEditError{Err: err}
}

func (c *Change) medium() medium { return medium{c.Disk, c.guard} }

// call runs an optional step unless ctx has ended.
func call(ctx context.Context, step func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if step == nil {
		return nil
	}
	return step(ctx)
}

// plan compares the files with what is there and returns those that differ.
func (c *Change) plan() ([]edit, error) { return c.planOn(nil) }

// planOn takes what is known of some files, by path, for what is on disk.
func (c *Change) planOn(known map[string]*found) ([]edit, error) {
	var edits []edit
	var errs []error
	seen := map[string]bool{}
	for i := range c.Files {
		f := &c.Files[i]
		found, err := c.medium().locate(f)
		if err != nil {
			errs = append(errs, err)
			if unreachable(err) {
				break
			}
			continue
		}
		if earlier := known[found.path]; earlier != nil {
			found = *earlier
		}
		if seen[found.path] {
			errs = append(errs, fmt.Errorf("%s: the change writes this file twice", found.path))
		}
		seen[found.path] = true
		if f.Was != "" && f.Was != found.state.Hash {
			errs = append(errs, &installers.ConflictError{Path: found.path, Reason: "it changed since it was read"})
			continue
		}
		e := edit{
			entry:   entry{Path: found.path, Before: found.state, After: f.want(found.state)},
			before:  found.content,
			content: f.Content,
			secret:  f.Secret,
		}
		if !e.After.satisfiedBy(e.Before) {
			edits = append(edits, e)
		}
	}
	return edits, errors.Join(errs...)
}

// want is the state that f asks for, given what is there.
func (f *File) want(now state) state {
	if f.Remove {
		return state{Hash: Absent}
	}
	if f.Link != "" {
		return linkState(f.Link)
	}
	s := state{Hash: Hash(f.Content), Mode: f.mode(now), UID: Keep, GID: Keep}
	if now.Hash != Absent {
		s.UID, s.GID = now.UID, now.GID
	}
	if f.Owner != nil && f.Owner.UID != Keep {
		s.UID = f.Owner.UID
	}
	if f.Owner != nil && f.Owner.GID != Keep {
		s.GID = f.Owner.GID
	}
	return s
}

// mode is what the state that f asks for has as permission bits.
func (f *File) mode(now state) fs.FileMode {
	mode := f.Mode
	switch {
	case mode != 0:
	case now.Hash != Absent:
		mode = now.Mode
	case f.Secret:
		mode = 0o600
	default:
		mode = 0o644
	}
	if f.KeepGroup && now.Hash != Absent {
		mode |= now.Mode & 0o070
	}
	if f.Secret {
		mode &^= 0o007
	}
	return mode
}

// keyMark is in every private key in PEM (RFC 7468 section 10). An operator may have had one in a file that gets none.
const keyMark = "PRIVATE KEY-----"

// Diff returns what Apply would change as a unified diff; of secrets and of binary files it says only that they differ.
// It changes nothing.
func (c *Change) Diff() (string, error) {
	edits, err := c.plan()
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, e := range edits {
		before, after := e.before, e.content
		if e.After.Hash == Absent {
			after = nil
		}
		switch {
		case e.Before.isLink() || e.After.isLink():
			fmt.Fprintf(&text, "%s: %s becomes %s\n", e.Path, e.Before.kind(), e.After.kind())
		case e.secret || bytes.Contains(before, []byte(keyMark)) || bytes.Contains(after, []byte(keyMark)):
			fmt.Fprintf(&text, "%s: the private key in it changes\n", e.Path)
		case e.Before.Hash == e.After.Hash:
			fmt.Fprintf(&text, "%s: owner or mode changes\n", e.Path)
		case !utf8.Valid(before) || !utf8.Valid(after):
			fmt.Fprintf(&text, "%s: binary content changes\n", e.Path)
		default:
			text.Write(diff.Diff(e.Path, before, e.Path, after))
		}
	}
	return text.String(), nil
}
