package main

import (
	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/internal/text"
)

const defaultHelperConfig = "/etc/acmed/installd.yaml"

func newInstalld(a *app) *cobra.Command {
	var config string
	var check bool
	cmd := &cobra.Command{
		Use:   "installd",
		Short: "Run the helper that installs certificates as root",
		Long: `Run the helper that installs certificates as root on behalf of a daemon that runs as another user. systemd starts it
when the daemon connects to acmed-installd.socket; it exits after one idle minute and reads its configuration
again at the next start.

The helper accepts a verb, the name of a target and a certificate with its key, and only from root and the daemon's user. Only
/etc/acmed/installd.yaml says which files change and which commands run. The helper keeps copies of the certificates below
/var/lib/acmed-installd, and configures servers to read them.

With --check, read the configuration, print every problem in it, and exit with code 2 if there are any.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !check {
				return daemon.RunHelper(cmd.Context(), daemon.Options{Config: config, Version: version, LogTo: a.err})
			}
			targets, warnings, err := daemon.CheckHelper(config)
			a.warn(warnings)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			a.printf("%s: %s, no problems\n", config, text.Count(targets, "target"))
			return nil
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", defaultHelperConfig, "configuration `file` of the helper")
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration and exit")
	return cmd
}
