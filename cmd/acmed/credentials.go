package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/internal/vetted"
)

// newManualDNS is the program that a solver of "acmed enable --manual" runs: it notes which record somebody has to
// create. The solver then waits until the name servers have it.
func newManualDNS() *cobra.Command {
	return &cobra.Command{
		Use:    "manual-dns DIRECTORY present|cleanup FQDN VALUE",
		Short:  "Note the DNS record that a challenge needs",
		Hidden: true,
		Args:   cobra.ExactArgs(4),
		RunE: func(_ *cobra.Command, args []string) error {
			return setup.NoteRecord(args[0], args[1], args[2], args[3])
		},
	}
}

// watchManual prints the records that somebody has to create, as they come up, until the function that it returns is
// called.
func (a *app) watchManual(ctx context.Context, e *setup.Enabling, d *display) (stop func()) {
	if e.Options.DNS == nil || e.Options.DNS.Provider != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen := map[string]bool{}
		for {
			files, _ := filepath.Glob(filepath.Join(e.ManualDir(), "*.txt"))
			for _, file := range files {
				text, err := vetted.ReadFile(file, 0, 1<<10)
				if err != nil || seen[file] {
					continue
				}
				seen[file] = true
				d.note(fmt.Sprintf("create this DNS record; acmed continues when the name servers have it, within 1 hour:\n  %s", strings.TrimSpace(string(text))))
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return func() { cancel(); <-done }
}

// askDNS asks for the credentials of a DNS provider, unless an earlier enable wrote them.
func (a *app) askDNS(ctx context.Context, q *asker, m *setup.Machine, f *enableRequest) (*setup.DNS, error) {
	if f.dns == "" {
		if f.manual {
			return &setup.DNS{}, nil
		}
		return nil, nil
	}
	if _, err := setup.Variables(f.dns); err != nil {
		return nil, err
	}
	d := &setup.DNS{Provider: f.dns}
	file := m.EnvFile(f.dns)
	if _, err := os.Stat(file); err == nil {
		a.printf("the credentials for %s are read from %s\n", f.dns, file)
		return d, nil
	}
	if err := daemon.CheckWorker(); err != nil && q.terminal { // before any question
		return nil, err
	}
	var err error
	d.Values, err = a.askVariables(ctx, q, f.dns, file)
	return d, err
}

// credential is the value of a variable, from the environment or from the operator.
func (a *app) credential(ctx context.Context, q *asker, aliases []string, file string) (value string, err error) {
	for _, name := range aliases {
		if value = os.Getenv(name); value != "" {
			return value, nil
		}
	}
	if !q.terminal {
		return "", &exitError{exitUsage, fmt.Errorf("%s is not set, and there is no terminal to ask on; set it in the environment, or write it to %s with mode 0600", strings.Join(aliases, " or "), file)}
	}
	if value, err = q.secret(ctx, aliases[0]+":"); err == nil && value == "" {
		err = errors.New(aliases[0] + " is empty; nothing was changed")
	}
	return value, err
}
