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
	var all, dry, staging bool
	var output string
	cmd := &cobra.Command{
		Use:   "renew [NAME...]",
		Short: "Renew and install certificates that are due",
		Long: `Bring the named certificates, or all, to the configured state: obtain certificates that are missing or due, activate,
install and verify them. Every target is verified now, and installed again if it serves another certificate. Without
--force, only certificates that are due are ordered.

With --force, acmed orders a new certificate even if the current one is valid, and ends a wait after a failure. The rate
limits of the CA still apply, and a third certificate within a day also needs --yes. With --all --force --spread 6h
renewals are spread over six hours, certificates that expire first come first, and the daemon continues after restarts.

With --dry-run, nothing is ordered or changed. With --dry-run --staging, acmed also orders each certificate from the test
directory of its CA with an account that is deactivated afterwards, so that every name is validated as for a real order.
The test certificates are neither stored nor installed.

If the daemon runs, it does the work, and interrupting this command does not stop it.`,
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
			if r.Alone && len(names) == 0 {
				return usageError(errors.New("--alone needs the names of certificates"))
			}
			r.Names = names
			switch {
			case staging && !dry:
				return usageError(errors.New("--staging needs --dry-run; 'acmed enable --staging' configures a test certificate"))
			case staging:
				return a.stagingRun(cmd.Context(), r, output)
			case dry:
				return a.preview(cmd.Context(), r, output)
			}
			return a.renew(cmd.Context(), r, output)
		},
	}
	cmd.Flags().BoolVarP(&r.Force, "force", "f", false, "renew although it is not due")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would happen, with the diff of every file that would change")
	cmd.Flags().BoolVar(&staging, "staging", false, "with --dry-run: also order test certificates, which are discarded")
	cmd.Flags().BoolVar(&all, "all", false, "all certificates, as without any name")
	cmd.Flags().DurationVar(&r.Spread, "spread", 0, "with --force: spread the renewals over this `time`, such as 6h")
	cmd.Flags().BoolVarP(&r.Again, "yes", "y", false, "force although it was issued several times today")
	cmd.Flags().BoolVar(&r.Alone, "alone", false, "in a fleet whose store is unavailable: order anyway, on this node")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// stagingRun shows what would change, and then orders from the staging directories.
func (a *app) stagingRun(ctx context.Context, r control.RenewRequest, output string) error {
	var preview error
	if output != "json" {
		preview = a.preview(ctx, r, output)
	}
	if code := exitCode(preview); code != exitOK && code != exitAttention {
		return preview
	}
	err := a.follow(ctx, output, func(b control.Backend, tell func(control.Progress)) (control.Report, error) {
		return b.RunStaging(ctx, control.StagingRequest{Names: r.Names}, tell)
	})
	if err != nil {
		return err
	}
	return preview
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
