package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
)

func newReload(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its configuration again",
		Long: `Make the daemon read its configuration again, and wait until it is in use. With a problem in it the daemon goes on
with the one it has, and the problems are printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A configuration with problems still says where the socket is, and the daemon names the problems.
			c, _, err := config.Load(a.config)
			if c == nil {
				return err
			}
			client, err := control.Dial(cmd.Context(), c.Socket)
			if errors.Is(err, control.ErrNoDaemon) {
				return &exitError{exitPermission, errors.New("no acmed is running; there is nothing to reload")}
			}
			if err != nil {
				return err
			}
			return client.Reload(cmd.Context())
		},
	}
}
