package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/internal/control"
	"github.com/acmed/acmed/pkg/renewal"
)

func newStatus(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "Show certificates and what happens to them next",
		Long: `Show the named certificates, or all: state, expiry, next action, targets. The exit code is 3 when one of them needs
attention.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := checkOutput(output, "table", "json"); err != nil {
				return err
			}
			return a.status(cmd.Context(), names, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func checkOutput(output string, allowed ...string) error {
	for _, o := range allowed {
		if output == o {
			return nil
		}
	}
	return usageError(fmt.Errorf("output %q is unknown, use %s", output, strings.Join(allowed, " or ")))
}

func (a *app) status(ctx context.Context, names []string, output string) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := b.Status(ctx, control.StatusRequest{Names: names})
	if err != nil {
		return err
	}
	if output == "json" {
		err = a.json(s)
	} else {
		err = a.table(s, time.Now())
	}
	if len(names) > 0 && output == "table" {
		for _, c := range s.Certificates {
			a.proofs(c)
		}
	}
	if err != nil {
		return err
	}
	for _, c := range s.Certificates {
		if c.Health != renewal.HealthOK {
			return &exitError{code: exitAttention}
		}
	}
	return nil
}

// table prints one line for each certificate, and below it why it needs attention.
func (a *app) table(s control.Status, now time.Time) error {
	if len(s.Certificates) == 0 {
		a.printf("no certificates are configured\n")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(w, printable(strings.Join(cells, "\t"))) }
	line("NAME", "STATE", "EXPIRES", "NEXT", "TARGETS", "NAMES")
	for _, c := range s.Certificates {
		line(c.Name, string(c.Health), expiry(c, now), next(c, now), verified(c), namesCell(c.Names))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range s.Certificates {
		for _, line := range attention(c, now) {
			a.printf("%s: %s\n", c.Name, line)
		}
	}
	if s.Daemon != nil && s.Daemon.ReloadError != "" {
		a.printf("configuration: the one on disk is not in use: %s\n", s.Daemon.ReloadError)
	}
	return nil
}

func expiry(c renewal.Status, now time.Time) string {
	if c.NotAfter.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s)", c.NotAfter.Local().Format(time.DateOnly), inWords(c.NotAfter.Sub(now)))
}

func next(c renewal.Status, now time.Time) string {
	if c.Running {
		return "running"
	}
	if !c.Next.After(now) {
		return string(c.Reason) + " now"
	}
	what := string(c.Reason)
	switch c.Reason {
	case renewal.ReasonNothing, renewal.ReasonHeld, renewal.ReasonPinned:
		what = "look"
	case renewal.ReasonNotice:
		what = "live"
	}
	return fmt.Sprintf("%s in %s", what, inWords(c.Next.Sub(now)))
}

func verified(c renewal.Status) string {
	if len(c.Targets) == 0 {
		return "-"
	}
	n := 0
	for _, t := range c.Targets {
		if t.Installed && t.Error == "" {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(c.Targets))
}

func namesCell(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s +%d", strings.Join(names[:most], " "), len(names)-most)
}

// attention lists what is wrong, each with the time of the next try.
func attention(c renewal.Status, now time.Time) []string {
	var lines []string
	again := func(at time.Time) string {
		if !at.After(now) {
			return ""
		}
		return fmt.Sprintf(" (next try in %s)", inWords(at.Sub(now)))
	}
	if c.Error != "" {
		lines = append(lines, c.Error+again(c.RetryAt))
	} else if c.Health == renewal.HealthMissing || c.Health == renewal.HealthHeld || c.Reason == renewal.ReasonClock {
		lines = append(lines, c.Message)
	}
	for _, t := range c.Targets {
		if t.Error != "" {
			lines = append(lines, t.ID+": "+t.Error+again(t.RetryAt))
		}
	}
	for _, w := range c.Warnings {
		lines = append(lines, "warning: "+w)
	}
	if c.Hook != nil && c.Hook.Error != "" {
		lines = append(lines, "post hook: "+c.Hook.Error+again(c.Hook.RetryAt))
	}
	return append(lines, c.Notes...)
}

// inWords rounds a distance in time to the one unit that matters.
func inWords(d time.Duration) string {
	if d < 0 {
		return "-" + inWords(-d)
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
