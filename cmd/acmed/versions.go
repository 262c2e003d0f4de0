package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
)

func newHistory(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "List the stored versions of a certificate",
		Long:  `List the stored versions of a certificate, the newest first: which one is active, and why a newer one is not.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "table", "json"); err != nil {
				return err
			}
			return a.history(cmd.Context(), args[0], output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (a *app) history(ctx context.Context, name, output string) error {
	b, done, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	h, err := b.History(ctx, control.VersionRequest{Certificate: name})
	if err != nil {
		return err
	}
	if output == "json" {
		return a.json(h)
	}
	historyIn(newGrid(a.out), h)
	return nil
}

// historyIn prints the versions into a grid. A narrow one has dates, so that the whole IDs fit, which --to takes.
func historyIn(g *grid, h control.History) {
	const wide = 110
	at := stamp
	if g.width > 0 && g.width < wide {
		at = date
	}
	g.line("VERSION", "STATE", "STORED", "EXPIRES", "ISSUER", "DETAIL")
	for _, v := range h.Versions {
		g.line(v.ID, string(v.State), at(v.Created), at(v.NotAfter), v.Issuer, v.Detail)
	}
	g.flush()
}

func newActivate(a *app) *cobra.Command {
	var r control.ActivateRequest
	var output string
	cmd := &cobra.Command{
		Use:   "activate NAME",
		Short: "Make the newest version of a certificate active",
		Long: `Activate the newest stored version of a certificate, install it at every target and verify it. This ends the pin of a
rollback, and tries a version again that an endpoint did not work with.

With --anyway, also activate a version that a listed client would reject, or whose notice has not elapsed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Certificate = args[0]
			return a.follow(cmd.Context(), output, func(b control.Backend, tell func(control.Progress)) (control.Report, error) {
				return b.Activate(cmd.Context(), r, tell)
			})
		},
	}
	cmd.Flags().BoolVar(&r.Anyway, "anyway", false, "although a client would reject it or its notice has not elapsed")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func newRollback(a *app) *cobra.Command {
	var r control.VersionRequest
	var output string
	cmd := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Roll back to an earlier version of a certificate",
		Long: `Activate an earlier version of a certificate again, install it at every target and verify it. It is the version before the
active one, or the one that --to names. It stays active until 'acmed activate', or until it expires. Renewals are stored
meanwhile and not activated.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Certificate = args[0]
			return a.follow(cmd.Context(), output, func(b control.Backend, tell func(control.Progress)) (control.Report, error) {
				report, err := b.Rollback(cmd.Context(), r, tell)
				if err == nil {
					a.warnPinned(report.Results[0])
				}
				return report, err
			})
		},
	}
	cmd.Flags().StringVar(&r.StoredAs, "to", "", "`version` to go back to, as history shows it")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func (a *app) warnPinned(r control.Result) {
	if r.Error != "" {
		return
	}
	a.errf("warning: %s is pinned to version %s, which expires on %s; run 'acmed activate %s' to end that\n",
		r.Certificate, r.Version, stamp(r.NotAfter), r.Certificate)
}

// follow shows the progress of a verb and turns its report into an exit code.
func (a *app) follow(ctx context.Context, output string, verb func(control.Backend, func(control.Progress)) (control.Report, error)) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	if output == "json" {
		report, err := verb(b, func(control.Progress) {})
		if err != nil {
			return err
		}
		if err := a.json(report); err != nil {
			return err
		}
		return reportExit(report)
	}
	display := newDisplay(a.out)
	report, err := verb(b, display.update)
	display.close()
	if err != nil {
		return err
	}
	return reportExit(report)
}
