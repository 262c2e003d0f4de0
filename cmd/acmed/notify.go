package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
)

func newNotify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "Test notifiers",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output string
	test := &cobra.Command{
		Use:   "test [NAME...]",
		Short: "Send a test to notifiers",
		Long: `Send a test event to the named notifiers of the configuration, or to all, at the same time and without retries. Report for
each whether the receiver accepted it. The exit code is 1 if one did not.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			return a.testNotify(cmd.Context(), names, output)
		},
	}
	test.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.AddCommand(test)
	return cmd
}

func (a *app) testNotify(ctx context.Context, names []string, output string) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	report, err := b.TestNotify(ctx, control.NotifyRequest{Names: names})
	if err != nil {
		return err
	}
	if output == "json" {
		if err := a.json(report); err != nil {
			return err
		}
	}
	failed := false
	for _, n := range report.Notifiers {
		failed = failed || n.Error != ""
		switch {
		case output == "json":
		case n.Error != "":
			a.printf("%s (%s): failed: %s\n", n.Name, n.Type, n.Error)
		default:
			a.printf("%s (%s): ok\n", n.Name, n.Type)
		}
	}
	if failed {
		return &exitError{code: exitFailed}
	}
	return nil
}
