package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/renewal"
)

func newInstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "install NAME",
		Short: "Install a certificate again at its targets",
		Long: `Install the active version of a certificate at every target again, and verify it. This also reverts an uninstall.
Only certificates that are due are ordered.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.install(cmd.Context(), control.InstallRequest{Certificate: args[0]})
		},
	}
}

func newUninstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall NAME",
		Short: "Remove a certificate from its targets",
		Long: `Undo every change that acmed made at the certificate's targets. Configuration files get back the bytes they had. A file
that was edited since keeps that edit; if the two conflict, acmed changes nothing and names the file.

The certificate itself is kept and renewed. Its targets are left alone until "acmed install".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.install(cmd.Context(), control.InstallRequest{Certificate: args[0], Undo: true})
		},
	}
}

func (a *app) install(ctx context.Context, r control.InstallRequest) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	display := newDisplay(a.out)
	report, err := b.Install(ctx, r, display.update)
	display.close()
	if err != nil {
		return err
	}
	if s, err := b.Status(ctx, control.StatusRequest{Names: []string{r.Certificate}}); err == nil && !r.Undo {
		for i := range s.Certificates {
			a.printNotes(&s.Certificates[i])
		}
	}
	return reportExit(report)
}

// printNotes prints what an operator should know about a certificate that is installed.
func (a *app) printNotes(c *renewal.Status) {
	for _, note := range c.Notes {
		a.printf("%s: note: %s\n", c.Name, note)
	}
}

// preview shows what a renewal would do.
func (a *app) preview(ctx context.Context, r control.RenewRequest, output string) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	p, err := b.Preview(ctx, control.PreviewRequest{Names: r.Names, Force: r.Force})
	if err != nil {
		return err
	}
	if output == "json" {
		return a.json(p)
	}
	failed := false
	for _, c := range p.Certificates {
		what := "no new certificate would be ordered"
		if c.Order {
			what = "a new certificate would be ordered"
		}
		a.printf("%s: %s (%s)\n", c.Certificate, what, c.Message)
		for _, t := range c.Targets {
			switch {
			case t.Off:
				a.printf("%s: %s: left alone until it is installed again\n", c.Certificate, t.ID)
			case t.Error != "":
				failed = true
				a.printf("%s: %s: would fail: %s\n", c.Certificate, t.ID, t.Error)
			case t.Diff == "":
				a.printf("%s: %s: no file would change\n", c.Certificate, t.ID)
			default:
				a.printf("%s: %s:\n%s\n", c.Certificate, t.ID, strings.TrimRight(t.Diff, "\n"))
			}
			for _, note := range t.Notes {
				a.printf("%s: %s: note: %s\n", c.Certificate, t.ID, note)
			}
		}
	}
	if failed {
		return &exitError{exitAttention, errors.New("some targets would fail")}
	}
	return nil
}
