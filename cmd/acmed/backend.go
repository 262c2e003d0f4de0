package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/store"
)

// lockPatience is how long a command waits for a state directory that another acmed holds without answering: a daemon
// that is just starting, or another command that is about to end.
const lockPatience = 5 * time.Second

// backend returns the running daemon, or the same engine in this process when none runs. The function that comes with it
// ends the connection or stops the engine.
func (a *app) backend(ctx context.Context) (control.Backend, func(), error) { return a.connect(ctx) }

// reader is a backend for a command that only shows something. Without a daemon it works with a broken drop-in file as a
// daemon does: the rest is in use.
func (a *app) reader(ctx context.Context) (control.Backend, func(), error) {
	return a.connect(ctx, config.Lenient)
}

func (a *app) connect(ctx context.Context, opts ...config.Option) (control.Backend, func(), error) {
	socket := config.Socket(a.config)
	for end := time.Now().Add(lockPatience); ; {
		client, err := control.Dial(ctx, socket)
		if err == nil {
			return client, func() {}, nil
		}
		if !errors.Is(err, control.ErrNoDaemon) {
			return nil, nil, err
		}
		if err := setup.Recover(ctx, a.config); err != nil {
			return nil, nil, err
		}
		c, warnings, err := config.Load(a.config, opts...)
		if c == nil {
			return nil, nil, err
		}
		d, err := daemon.Open(daemon.Options{Config: a.config, Version: version, LogTo: a.err, Quiet: true, Unranked: true})
		if err == nil {
			a.warn(warnings)
			return d, d.Close, nil
		}
		if !waitForLock(ctx, err, end) {
			return nil, nil, err
		}
	}
}

// open locks the state directory for a daemon, unless another one answers.
func (a *app) open(ctx context.Context, once bool) (*daemon.Daemon, error) {
	sockets, err := systemd.Sockets()
	if err != nil {
		return nil, err
	}
	if err := setup.Recover(ctx, a.config); err != nil {
		a.errf("warning: %s\n", err) // the daemon runs with what is there
	}
	for end := time.Now().Add(lockPatience); ; {
		d, err := daemon.Open(daemon.Options{Config: a.config, Version: version, LogTo: a.err, Sockets: sockets, Unranked: once})
		if err == nil {
			return d, nil
		}
		if _, dialErr := control.Dial(ctx, config.Socket(a.config)); dialErr == nil {
			return nil, err
		}
		if !waitForLock(ctx, err, end) {
			return nil, err
		}
	}
}

// waitForLock waits a moment after an error that says the state directory is locked, and reports whether to try again.
func waitForLock(ctx context.Context, err error, end time.Time) bool {
	var locked *store.LockedError
	if !errors.As(err, &locked) || time.Now().After(end) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func (a *app) warn(warnings []config.Warning) {
	for _, w := range warnings {
		a.errf("warning: %s\n", w)
	}
}

// printf and errf write for people; a closed pipe is no reason to stop working.
func (a *app) printf(format string, args ...any) {
	_, _ = fmt.Fprint(a.out, text.Lines(fmt.Sprintf(format, args...)))
}

func (a *app) errf(format string, args ...any) {
	_, _ = fmt.Fprint(a.err, text.Lines(fmt.Sprintf(format, args...)))
}
