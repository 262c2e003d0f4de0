package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/config"
)

func newDisable(a *app) *cobra.Command {
	var yes, purge bool
	cmd := &cobra.Command{
		Use:   "disable NAME",
		Short: "Undo \"acmed enable\" for a certificate",
		Long: `Uninstall a certificate, so that configuration files of web servers get back the bytes they had, and remove the file in
conf.d that "acmed enable" or "acmed import" wrote. If the file was edited since, it stays, and acmed names it.

The certificate and its key stay on disk, and are used if the certificate is enabled again. With --purge they are deleted.`,
		Example: `  acmed disable www
  acmed disable www --purge --yes   delete its keys as well, without asking`,
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
	m, err := setup.Open(ctx, a.config)
	if err != nil {
		return err
	}
	cert, err := m.Configured(name)
	if err != nil {
		return err
	}
	mine := m.Mine(name)
	if purge && !mine {
		return &exitError{exitUsage, fmt.Errorf("%s cannot be purged, because %s is not as acmed wrote it; remove it from the configuration first", name, m.Dropin(name))}
	}
	for i := range cert.Install {
		a.printf("acmed will uninstall %s from %s\n", name, cert.Install[i].ID())
	}
	switch {
	case !mine:
		a.printf("its configuration stays: %s is not as acmed wrote it\n", m.Dropin(name))
	case purge:
		a.printf("acmed will remove %s and delete the certificate and its key\n", m.Dropin(name))
	default:
		a.printf("acmed will remove %s; the certificate stays in %s\n", m.Dropin(name), m.Config.StateDir)
	}
	if err := q.agree(ctx, "go ahead?"); err != nil {
		return err
	}
	return a.takeAway(ctx, m, cert, mine, purge)
}

// takeAway uninstalls, removes the file, and lets the daemon know, in this order: each step leaves a sound configuration.
func (a *app) takeAway(ctx context.Context, m *setup.Machine, cert *config.Certificate, mine, purge bool) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer func() { done() }()
	if err := a.uninstallAll(ctx, b, cert); err != nil {
		return err
	}
	if !mine {
		return &exitError{exitAttention, fmt.Errorf("%s is still configured, because its file is not as acmed wrote it; remove it there, then run 'acmed reload'", cert.Name)}
	}
	warnings, err := m.Disable(ctx, cert)
	for _, text := range warnings {
		a.errf("warning: %s\n", text)
	}
	if err != nil {
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

func (a *app) uninstallAll(ctx context.Context, b control.Backend, cert *config.Certificate) error {
	if len(cert.Install) == 0 {
		return nil
	}
	display := newDisplay(a.out)
	report, err := b.Install(ctx, control.InstallRequest{Certificate: cert.Name, Undo: true}, display.update)
	display.close()
	if err != nil {
		return err
	}
	return reportExit(report)
}
