package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/acmed/acmed/internal/control"
	"github.com/acmed/acmed/internal/daemon"
	"github.com/acmed/acmed/pkg/config"
)

// backend returns the running daemon, or the same engine in this process when none runs. The function that comes with it
// ends the connection or stops the engine.
func (a *app) backend(ctx context.Context) (control.Backend, func(), error) {
	c, warnings, err := config.Load(a.config)
	if err != nil {
		return nil, nil, err
	}
	client, err := control.Dial(ctx, c.Socket)
	if err == nil {
		return client, func() {}, nil
	}
	if !errors.Is(err, control.ErrNoDaemon) {
		return nil, nil, err
	}
	a.warn(warnings)
	d, err := daemon.Open(daemon.Options{Config: a.config, Version: version, LogTo: a.err, Quiet: true})
	if err != nil {
		return nil, nil, err
	}
	return d, d.Close, nil
}

func (a *app) warn(warnings []config.Warning) {
	for _, w := range warnings {
		a.errf("warning: %s\n", w)
	}
}

// printf and errf write for people; a closed pipe is no reason to stop working.
func (a *app) printf(format string, args ...any) {
	_, _ = fmt.Fprint(a.out, printable(fmt.Sprintf(format, args...)))
}

func (a *app) errf(format string, args ...any) {
	_, _ = fmt.Fprint(a.err, printable(fmt.Sprintf(format, args...)))
}
