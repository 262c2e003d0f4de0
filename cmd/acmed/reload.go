package main

import (
	"context"
	"errors"
	"fmt"

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
			client, err := a.dial(cmd.Context(), "there is nothing to reload") // the daemon names the problems
			if err != nil {
				return err
			}
			return client.Reload(cmd.Context())
		},
	}
}

// dial returns the running daemon, for commands that make no sense without one.
func (a *app) dial(ctx context.Context, without string) (*control.Client, error) {
	client, err := control.Dial(ctx, config.Socket(a.config))
	if !errors.Is(err, control.ErrNoDaemon) {
		return client, err
	}
	if _, _, problems := config.Load(a.config); problems != nil {
		return nil, problems // one of them may be the socket
	}
	return nil, &exitError{exitPermission, fmt.Errorf("no acmed is running, so %s; start it with 'systemctl start acmed' (or acmed-single), or with 'acmed run'", without)}
}
