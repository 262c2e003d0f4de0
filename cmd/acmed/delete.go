package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
)

func newDelete(a *app) *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a certificate that is no longer configured",
		Long: `Delete the stored certificate, its key and all earlier versions of a certificate that left the configuration. acmed asks
first, unless --yes is given. If the certificate is still configured, run "acmed disable NAME --purge" instead.`,
		Example: `  acmed delete old.example.com`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.delete(cmd.Context(), newAsker(a, yes), args[0], force)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "delete it although files that acmed installed are still in place")
	return cmd
}

func (a *app) delete(ctx context.Context, q *asker, name string, force bool) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer func() { done() }()
	r := control.ForgetRequest{Certificate: name, Check: true, Force: force}
	if err := b.Forget(ctx, r); err != nil {
		return err
	}
	if err := q.agree(ctx, fmt.Sprintf("delete %s with its key and all versions?", name)); err != nil {
		return err
	}
	r.Check = false
	if err := b.Forget(ctx, r); err != nil {
		return err
	}
	a.printf("%s is deleted\n", name)
	return nil
}
