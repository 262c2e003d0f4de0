package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/helper"
)

func newDisable(a *app) *cobra.Command {
	var yes, purge bool
	cmd := &cobra.Command{
		Use:   "disable NAME",
		Short: "Undo \"acmed enable\" for a certificate",
		Long: `Take a certificate away from where it is served, so that configuration files of web servers get back the bytes they
had, and remove the file in conf.d that "acmed enable" or "acmed import" wrote. A file that somebody edited since stays,
and is named.

The certificate and its key stay on disk, and are used again when it is enabled again. With --purge they are deleted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.disable(cmd.Context(), newAsker(a, yes), args[0], purge)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&purge, "purge", false, "also delete the certificate, its key and all earlier versions")
	return cmd
}

func (a *app) disable(ctx context.Context, q *asker, name string, purge bool) error {
	m, err := setup.Open(a.config)
	if err != nil {
		return err
	}
	cert, err := configured(m, name)
	if err != nil {
		return err
	}
	mine := m.Mine(name)
	if purge && !mine {
		return &exitError{exitUsage, fmt.Errorf("%s is not configured by an unedited %s, so it cannot be purged; take it out of the configuration first", name, m.Dropin(name))}
	}
	for i := range cert.Install {
		a.printf("%s is taken away from %s\n", name, cert.Install[i].ID())
	}
	switch {
	case !mine:
		a.printf("its configuration stays: %s is not as acmed wrote it\n", m.Dropin(name))
	case purge:
		a.printf("%s is removed; the certificate and its key are deleted\n", m.Dropin(name))
	default:
		a.printf("%s is removed; the certificate stays in %s\n", m.Dropin(name), m.Config.StateDir)
	}
	if err := q.agree(ctx, "go ahead?"); err != nil {
		return err
	}
	return a.takeAway(ctx, m, cert, mine, purge)
}

// configured finds a certificate, or suggests another name.
func configured(m *setup.Machine, name string) (*config.Certificate, error) {
	var known []string
	if m.Config != nil {
		for i := range m.Config.Certificates {
			if c := &m.Config.Certificates[i]; c.Name == name {
				return c, nil
			}
			known = append(known, m.Config.Certificates[i].Name)
		}
	}
	text := fmt.Sprintf("no certificate is called %q", name)
	if near := config.Nearest(name, known); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	} else if len(known) > 0 {
		text += "; configured are: " + strings.Join(firstFew(known), ", ")
	}
	return nil, &exitError{exitUsage, errors.New(text)}
}

// takeAway uninstalls, removes the file, and lets the daemon know, in this order: each step leaves a sound configuration.
func (a *app) takeAway(ctx context.Context, m *setup.Machine, cert *config.Certificate, mine, purge bool) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer func() { done() }()
	if len(cert.Install) > 0 {
		display := newDisplay(a.out)
		report, err := b.Install(ctx, control.InstallRequest{Certificate: cert.Name, Undo: true}, display.update)
		display.close()
		if err == nil {
			err = reportExit(report)
		}
		if err != nil {
			return err
		}
	}
	if !mine {
		return &exitError{exitAttention, fmt.Errorf("%s is still configured, because its file is not as acmed wrote it; remove it there, then 'acmed reload'", cert.Name)}
	}
	if err := a.removeFiles(ctx, m, cert); err != nil {
		return err
	}
	if client, ok := b.(*control.Client); ok {
		if err := client.Reload(ctx); err != nil {
			return err
		}
	} else if purge {
		// The engine in this process still has the certificate.
		done()
		if b, done, err = a.backend(ctx); err != nil {
			done = func() {}
			return err
		}
	}
	a.printf("%s is disabled\n", cert.Name)
	if !purge {
		return nil
	}
	return b.Forget(ctx, control.ForgetRequest{Certificate: cert.Name})
}

// removeFiles removes the certificate's file, unless others refer to what it defines, and what the helper knows about it.
func (a *app) removeFiles(ctx context.Context, m *setup.Machine, cert *config.Certificate) error {
	own := m.Dropin(cert.Name)
	taken := &setup.Change{Files: []setup.File{{Path: own}}}
	if err := taken.Remove(); err != nil {
		return err
	}
	if _, _, err := config.Load(m.Path); err != nil {
		return errors.Join(fmt.Errorf("%s stays, because without it the configuration is broken", own), err, taken.Revert())
	}
	for i := range cert.Install {
		target := cert.Install[i].Helper
		if target == nil {
			continue
		}
		h, err := m.Helper()
		if err != nil {
			return err
		}
		if !h.Mine(target.Target) {
			a.errf("the helper still has the target %s, which acmed did not write\n", target.Target)
			continue
		}
		taken := &setup.Change{Files: []setup.File{{Path: h.Dropin(target.Target)}}}
		if err := errors.Join(taken.Remove(), helper.Restart(ctx, target.Socket)); err != nil {
			return err
		}
	}
	return nil
}
