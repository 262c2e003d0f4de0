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

The helper takes a verb, the name of a target and a certificate with its key, from root and the daemon's user only. Which
files change and which commands run stands in /etc/acmed/installd.yaml and nowhere else. It keeps its own copies of
certificates below /var/lib/acmed-installd, and servers are pointed at them.

With --check, read the configuration, print every problem in it, and end with code 2 when there are any.`,
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
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration and end")
	return cmd
}
