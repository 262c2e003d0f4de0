package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/text"
)

const (
	// callTimeout bounds one command. HAProxy answers within milliseconds, and commits a certificate that a thousand
	// lists name within a second.
	callTimeout = 15 * time.Second
	// maxReply bounds an answer: the names of 50,000 certificates.
	maxReply = 8 << 20
)

// unavailableError says that there is no runtime API to talk to.
type unavailableError struct{ err error }

func (e *unavailableError) Error() string { return "no runtime API: " + e.err.Error() }

func (e *unavailableError) Unwrap() error { return e.err }

// api talks to one HAProxy process over its runtime socket (HAProxy Management Guide, section 9.3). Each command has a
// connection of its own, which HAProxy closes after the answer.
type api struct{ socket string }

// call sends one command, with a payload if there is one, and returns the answer.
func (a api) call(ctx context.Context, command string, payload []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", a.socket)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "", &unavailableError{err}
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: give the user that runs acmed access to the socket, for example by its group", err)
	case err != nil:
		return "", err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	text, err := exchange(conn, command, payload)
	if err != nil {
		return "", fmt.Errorf("runtime socket %s: %w", a.socket, errors.Join(context.Cause(ctx), err))
	}
	return text, refusal(a.socket, command, text)
}

// exchange writes a command and reads until the other side closes.
func exchange(conn net.Conn, command string, payload []byte) (string, error) {
	request := command + "\n"
	if payload != nil {
		request = command + " <<\n" + compact(payload) + "\n"
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	reply, err := io.ReadAll(io.LimitReader(conn, maxReply+1))
	if err != nil {
		return "", err
	}
	if len(reply) > maxReply {
		return "", fmt.Errorf("the answer has more than %d bytes", maxReply)
	}
	return strings.TrimSpace(string(reply)), nil
}

// compact leaves out empty lines: HAProxy ends a payload at the first one and runs what follows as commands. A file that an
// operator made may have some, which mean nothing in PEM.
func compact(payload []byte) string {
	var lines strings.Builder
	for line := range strings.Lines(string(payload)) {
		if line = strings.TrimSpace(line); line != "" {
			lines.WriteString(line + "\n")
		}
	}
	return lines.String()
}

// refusal recognises the answers that are the same for all commands.
func refusal(socket, command, reply string) error {
	switch {
	case strings.HasPrefix(reply, "Unknown command"):
		return &unavailableError{fmt.Errorf("HAProxy does not know %q; certificates can be updated since version 2.2", command)}
	case strings.HasPrefix(reply, "Permission denied"):
		return fmt.Errorf("HAProxy does not allow it on %s: its line in haproxy.cfg needs \"level admin\"", socket)
	}
	return nil
}

// loaded is what HAProxy says about its certificates.
type loaded struct {
	names       []string
	transaction string // name of the certificate with a pending change; "" when there is none
}

func (a api) list(ctx context.Context) (loaded, error) {
	reply, err := a.call(ctx, "show ssl cert", nil)
	if err != nil {
		return loaded{}, err
	}
	var l loaded
	for line := range strings.Lines(reply) {
		name := strings.TrimSpace(line)
		switch {
		case name == "" || strings.HasPrefix(name, "#"):
		case strings.HasPrefix(name, "*"):
			l.transaction = name[1:]
		default:
			l.names = append(l.names, name)
		}
	}
	return l, nil
}

// unreadError says that HAProxy's configuration leads to a file which it has not read: it knows the other half of a dual unit,
// or the file that the two stand for.
type unreadError struct{ name string }

func (e *unreadError) Error() string {
	return fmt.Sprintf("HAProxy reads %s only when it is reloaded", e.name)
}

// put makes HAProxy serve content under a name that its configuration knows, or that belongs to a directory which it
// loaded as a whole.
func (a api) put(ctx context.Context, base, suffix string, content []byte) error {
	name := base + suffix
	have, err := a.list(ctx)
	if err != nil {
		return err
	}
	if err := a.clear(ctx, name, have.transaction); err != nil {
		return err
	}
	if slices.Contains(have.names, name) {
		return a.replace(ctx, name, content)
	}
	dir, err := a.directory(ctx, name)
	if err != nil {
		return err
	}
	related := func(other string) bool {
		return slices.Contains([]string{base, base + suffixECDSA, base + suffixRSA}, other)
	}
	switch {
	case dir == "" && slices.ContainsFunc(have.names, related):
		return &unreadError{name}
	case dir == "":
		return notLoaded(name, have.names)
	}
	return a.add(ctx, dir, name, content)
}

// clear makes sure that no transaction is pending. HAProxy has one at a time, and writes what is meant for another
// certificate into it. One of ours is the rest of a crash; one of somebody else's is left alone.
func (a api) clear(ctx context.Context, name, transaction string) error {
	switch transaction {
	case "":
		return nil
	case name:
		return a.abort(ctx, name)
	}
	return fmt.Errorf("another client has an open transaction for %q: commit or abort it with \"commit ssl cert\" or \"abort ssl cert\"",
		text.Tail(transaction, text.Most))
}

// replace changes a certificate that HAProxy has, or leaves it.
func (a api) replace(ctx context.Context, name string, content []byte) error {
	reply, err := a.call(ctx, "set ssl cert "+name, content)
	if err == nil && !strings.Contains(reply, "Transaction created for certificate "+name+"!") {
		err = refused("set", name, reply)
	}
	if err == nil {
		reply, err = a.call(ctx, "commit ssl cert "+name, nil)
		if err == nil && !strings.HasSuffix(reply, "Success!") {
			err = refused("commit", name, reply)
		}
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, a.undo(context.WithoutCancel(ctx), name))
}

// undo aborts what is pending for name. When the answer to a command was lost, nothing may be.
func (a api) undo(ctx context.Context, name string) error {
	have, err := a.list(ctx)
	var gone *unavailableError
	if errors.As(err, &gone) {
		return nil
	}
	if err != nil || have.transaction != name {
		return err
	}
	return a.abort(ctx, name)
}

func (a api) abort(ctx context.Context, name string) error {
	reply, err := a.call(ctx, "abort ssl cert "+name, nil)
	if err == nil && !strings.HasPrefix(reply, "Transaction aborted") {
		err = refused("abort", name, reply)
	}
	return err
}

// directory returns the directory that holds name if HAProxy loaded it as a whole, else "".
func (a api) directory(ctx context.Context, name string) (string, error) {
	reply, err := a.call(ctx, "show ssl crt-list", nil)
	if err != nil {
		return "", err
	}
	dir := path.Dir(name)
	for line := range strings.Lines(reply) {
		if strings.TrimSpace(line) == dir {
			return dir, nil
		}
	}
	return "", nil
}

// add makes HAProxy load a new file of a directory, as it will by itself at its next start.
func (a api) add(ctx context.Context, dir, name string, content []byte) error {
	reply, err := a.call(ctx, "new ssl cert "+name, nil)
	if err == nil && !strings.HasPrefix(reply, "New empty certificate store") {
		err = refused("new", name, reply)
	}
	if err != nil {
		return err
	}
	err = a.replace(ctx, name, content)
	if err == nil {
		reply, err = a.call(ctx, fmt.Sprintf("add ssl crt-list %s %s", dir, name), nil)
		if err == nil && !strings.HasSuffix(reply, "Success!") {
			err = refused("add", name, reply)
		}
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, a.remove(context.WithoutCancel(ctx), name))
}

// remove makes HAProxy forget a certificate that is a file of a directory. One that its configuration names stays.
func (a api) remove(ctx context.Context, name string) error {
	have, err := a.list(ctx)
	if err != nil || !slices.Contains(have.names, name) {
		return err
	}
	if err := a.clear(ctx, name, have.transaction); err != nil {
		return err
	}
	dir, err := a.directory(ctx, name)
	if err != nil || dir == "" {
		return err
	}
	// The answer says whether the file was listed; a half-added one is not.
	if _, err := a.call(ctx, fmt.Sprintf("del ssl crt-list %s %s", dir, name), nil); err != nil {
		return err
	}
	reply, err := a.call(ctx, "del ssl cert "+name, nil)
	if err == nil && !strings.HasSuffix(reply, "deleted!") {
		err = refused("del", name, reply)
	}
	return err
}

func refused(verb, name, reply string) error {
	return fmt.Errorf("HAProxy refused \"%s ssl cert %s\": %s", verb, name, text.Tail(reply, text.Most))
}

// mostShown bounds how many of HAProxy's certificates an error lists.
const mostShown = 5

// notLoadedError says that the running HAProxy has no such certificate.
type notLoadedError struct{ text string }

func (e *notLoadedError) Error() string { return e.text }

// notLoaded says what HAProxy has instead of name, those with the same base name first.
func notLoaded(name string, have []string) error {
	alike := func(other string) bool { return path.Base(other) == path.Base(name) }
	names := slices.Clone(have)
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case alike(a) == alike(b):
			return 0
		case alike(a):
			return -1
		}
		return 1
	})
	known := "it has none"
	if len(names) > 0 {
		known = "it has " + text.Tail(strings.Join(names[:min(len(names), mostShown)], ", "), text.Most)
	}
	if len(names) > mostShown {
		known += fmt.Sprintf(" and %d more", len(names)-mostShown)
	}
	return &notLoadedError{fmt.Sprintf("HAProxy's configuration does not use a certificate %s (%s): let a \"crt\" name this file or its directory and "+
		"reload HAProxy once, or set \"name\" to the path that it uses", name, known)}
}
