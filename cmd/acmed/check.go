package main

import (
	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/internal/text"
)

func newCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration",
		Long: `Read the configuration as the daemon would and print every problem in it, each with file, line and key path.
Nothing is contacted and nothing is written. The exit code is 2 when there are problems.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, warnings, err := daemon.Check(a.config)
			a.warn(warnings)
			if err != nil {
				return err
			}
			a.printf("%s: %s, no problems\n", a.config, text.Count(len(c.Certificates), "certificate"))
			return nil
		},
	}
}
