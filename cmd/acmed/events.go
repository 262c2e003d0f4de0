package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/notify"
)

func newEvents(a *app) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what happens, as JSON lines",
		Long: `Print each event of the daemon as one line of JSON, as webhooks get it, until it is interrupted. If a reader falls more
than 256 events behind, some are lost and the command fails; continue with --since. The daemon remembers the last 1000
events since it was started.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseSince(since, time.Now())
			if err != nil {
				return usageError(err)
			}
			return a.events(cmd.Context(), from)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "also events since this `time`, such as 2026-12-20T08:00:00Z, or 90m or 2d for how long ago")
	return cmd
}

// parseSince reads a time, or how long ago it was; "" is the zero time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	ago, err := config.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since: %q is neither a time such as 2026-12-20T08:00:00Z nor how long ago it was: %w", text, err)
	}
	return now.Add(-ago), nil
}

func (a *app) events(ctx context.Context, since time.Time) error {
	client, err := a.dial(ctx, "nothing happens")
	if err != nil {
		return err
	}
	enc := json.NewEncoder(a.out)
	err = client.Events(ctx, control.EventsRequest{Since: since}, func(e notify.Event) error { return enc.Encode(e) })
	if ctx.Err() != nil { // interrupted, which is how it ends
		return nil
	}
	return err
}
