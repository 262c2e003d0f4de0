package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
)

func newReload(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its configuration again",
		Long: `Make the daemon read its configuration again, and wait until it is in use. If it is invalid, the daemon keeps
the configuration in use, and the problems are printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := control.Dial(cmd.Context(), config.Socket(a.config)) // the daemon names the problems
			if errors.Is(err, control.ErrNoDaemon) {
				if _, _, problems := config.Load(a.config); problems != nil {
					return problems // one of them may be the socket
				}
				return &exitError{exitPermission, errors.New("no acmed is running, so there is nothing to reload; start it with 'systemctl start acmed' (or acmed-single), or with 'acmed run'")}
			}
			if err != nil {
				return err
			}
			return client.Reload(cmd.Context())
		},
	}
}
