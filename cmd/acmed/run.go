package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
)

// residentGrowth is by how many percent the daemon's memory grows before it is collected, half of what Go does by itself:
// it holds the same certificates for months and is in no hurry.
const residentGrowth = 50

func newRun(a *app) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground: keep every configured certificate issued, installed and verified, and answer
the other commands. It logs to standard error. SIGHUP reloads the configuration, SIGTERM stops, within 60
seconds even when orders hang.

With --once, check every certificate once, do the work that is due, and exit.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(residentGrowth)
			}
			d, err := a.open(cmd.Context(), once)
			if err != nil {
				return err
			}
			defer d.Close()
			if once {
				return a.runOnce(cmd.Context(), d)
			}
			return d.Run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "do what is due and exit")
	return cmd
}

// runOnce prints nothing but the log: it is meant for timers.
func (a *app) runOnce(ctx context.Context, d *daemon.Daemon) error {
	report, err := d.Renew(ctx, control.RenewRequest{}, func(control.Progress) {})
	if err != nil {
		return err
	}
	return reportExit(report)
}
