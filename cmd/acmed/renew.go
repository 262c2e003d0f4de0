package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
)

func newRenew(a *app) *cobra.Command {
	var r control.RenewRequest
	var all, dry bool
	var output string
	cmd := &cobra.Command{
		Use:   "renew [NAME...]",
		Short: "Do what is due for certificates now",
		Long: `Bring the named certificates, or all, to where they should be: obtain what is missing or due, activate, install,
verify. Without --force nothing is ordered that is not due.

With --force a new certificate is ordered although the present one is good, and a running wait after a failure is cut
short. The CA's own rate limits are kept nevertheless, and a third certificate within a day needs --yes as well. Many
certificates are renewed gently with --all --force --spread 6h: each gets a time of its own within six hours, those that
expire first come first, and the daemon goes on with it through restarts.

The daemon does the work when one runs; interrupting this command does not stop it then.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if all && len(names) > 0 {
				return usageError(errors.New("give either names or --all"))
			}
			if cmd.Flags().Changed("spread") && r.Spread <= 0 {
				return usageError(fmt.Errorf("--spread needs a time above zero, such as 6h, and not %s", r.Spread))
			}
			r.Names = names
			if dry {
				return a.preview(cmd.Context(), r, output)
			}
			return a.renew(cmd.Context(), r, output)
		},
	}
	cmd.Flags().BoolVarP(&r.Force, "force", "f", false, "renew although it is not due")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would happen, with the diff of every file that would change")
	cmd.Flags().BoolVar(&all, "all", false, "all certificates, as without any name")
	cmd.Flags().DurationVar(&r.Spread, "spread", 0, "with --force: spread the renewals over this `time`, such as 6h")
	cmd.Flags().BoolVarP(&r.Again, "yes", "y", false, "force although it was issued several times today")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func (a *app) renew(ctx context.Context, r control.RenewRequest, output string) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	if output == "json" {
		report, err := b.Renew(ctx, r, func(control.Progress) {})
		if err != nil {
			return err
		}
		return errors.Join(a.json(report), reportExit(report))
	}
	display := newDisplay(a.out)
	report, err := b.Renew(ctx, r, display.update)
	display.close()
	if err != nil {
		return err
	}
	return reportExit(report)
}

func (a *app) json(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
