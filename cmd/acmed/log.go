package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/store"
)

func newLog(a *app) *cobra.Command {
	var since, output string
	cmd := &cobra.Command{
		Use:   "log NAME",
		Short: "Show what happened to a certificate",
		Long: `Show what happened to a certificate, the newest last: versions issued, activated, installed and revoked, and failures with
their causes. A failure that repeats is one line with a count. acmed keeps the last 60 entries of each certificate in the
state directory; the log of the daemon has every detail.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "table", "json"); err != nil {
				return err
			}
			from, err := parseSince(since, time.Now())
			if err != nil {
				return usageError(err)
			}
			return a.log(cmd.Context(), control.LogRequest{Certificate: args[0], Since: from}, output)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only what happened since this `time`, such as 2026-12-20T08:00:00Z, or 90m or 2d for how long ago")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (a *app) log(ctx context.Context, r control.LogRequest, output string) error {
	b, done, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	l, err := b.Log(ctx, r)
	if err != nil {
		return err
	}
	if output == "json" {
		return a.json(l)
	}
	if len(l.Entries) == 0 {
		a.printf("nothing is recorded about %s\n", r.Certificate)
		return nil
	}
	g := newGrid(a.out)
	g.width = 0 // nothing is cut off here
	g.add(cell{"TIME", bold}, cell{"EVENT", bold}, cell{"DETAIL", bold})
	for i := range l.Entries {
		e := &l.Entries[i]
		g.line(stamp(e.At), e.Event, logDetail(e))
	}
	g.flush()
	return nil
}

// logDetail is one entry in words: the cause of a failure first, then where, and how often.
func logDetail(e *store.LogEntry) string {
	detail := e.Detail
	if e.Version != "" && e.Code == "" {
		detail += ", version " + e.Version
	}
	if e.Target != "" {
		detail = e.Target + ": " + detail
	}
	if e.Times > 1 {
		detail += fmt.Sprintf(" (%s, last %s)", text.Count(e.Times, "time"), stamp(e.Last))
	}
	return coded(e.Code, detail)
}
