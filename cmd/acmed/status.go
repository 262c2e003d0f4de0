package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
)

// selection says which certificates status shows, and how.
type selection struct {
	names    []string // names and patterns; none stands for all
	failing  bool
	expiring string // a duration; "" for whenever
	output   string
}

func newStatus(a *app) *cobra.Command {
	var s selection
	var live bool
	cmd := &cobra.Command{
		Use:   "status [NAME...]",
		Short: "Show certificates and their next action",
		Long: `Show the named certificates, or all: state, expiry, next action, targets. A single name shows everything about that
certificate: how its names were validated, when it renews and why then, its chain, targets and versions. A name may be a
pattern with * and ?, in quotes. On a terminal the table is cut at its edge; a single name and -o wide show everything.

What is wrong with acmed itself or with this machine comes first: no daemon, a broken configuration file, a full disk.

The exit code is 3 if acmed, this machine or one of the certificates shown needs attention. With --live, it is 3 only if no
daemon answers or the daemon is stuck. Use that where a failed check restarts the daemon.`,
		Example: `  acmed status www
  acmed status --failing
  acmed status --live
  acmed status --expiring 14d 'shop-*'`,
		RunE: func(cmd *cobra.Command, names []string) error {
			s.names = names
			if live {
				return a.live(cmd.Context(), s)
			}
			return a.status(cmd.Context(), s)
		},
	}
	cmd.Flags().BoolVar(&s.failing, "failing", false, "only certificates that need attention")
	cmd.Flags().BoolVar(&live, "live", false, "only whether a daemon answers and is not stuck, for a check that restarts it")
	cmd.Flags().StringVar(&s.expiring, "expiring", "", "only certificates that expire within this `time`, such as 14d")
	cmd.Flags().StringVarP(&s.output, "output", "o", "table", "table, wide or json")
	return cmd
}

// live reports whether a restart of the daemon would help.
func (a *app) live(ctx context.Context, sel selection) error {
	if len(sel.names) > 0 || sel.filtered() || sel.output != "table" {
		return usageError(errors.New("--live is about the daemon alone and takes no names and no other options"))
	}
	b, done, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := b.Status(ctx, control.StatusRequest{})
	if err != nil {
		return err
	}
	stuck := slices.DeleteFunc(s.Conditions, func(c control.Condition) bool {
		return c.Code != advice.DaemonNotRunning && c.Code != advice.DaemonStuck
	})
	a.conditions(stuck)
	if len(stuck) > 0 {
		return &exitError{code: exitAttention}
	}
	return nil
}

func checkOutput(output string, allowed ...string) error {
	for _, o := range allowed {
		if output == o {
			return nil
		}
	}
	return usageError(fmt.Errorf("output %q is unknown, use %s", output, strings.Join(allowed, " or ")))
}

func (a *app) status(ctx context.Context, sel selection) error {
	within, err := sel.check()
	if err != nil {
		return usageError(err)
	}
	b, done, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := b.Status(ctx, sel.request())
	if err != nil {
		return err
	}
	now := time.Now()
	if s.Certificates, err = sel.apply(s.Certificates, now, within); err != nil {
		return usageError(err)
	}
	switch {
	case sel.output == "json":
		err = a.json(s)
	case sel.single():
		a.conditions(s.Conditions)
		a.story(s, now)
	default:
		a.conditions(s.Conditions)
		a.table(s, now, sel)
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(s.Certificates, needsAttention) || len(s.Conditions) > 0 {
		return &exitError{code: exitAttention}
	}
	return nil
}

func needsAttention(c renewal.Status) bool { return c.Health != renewal.HealthOK }

// check returns the duration within which certificates expire, 0 for whenever.
func (sel *selection) check() (within time.Duration, err error) {
	if err := checkOutput(sel.output, "table", "wide", "json"); err != nil {
		return 0, err
	}
	for _, name := range sel.names {
		if _, err := path.Match(name, ""); err != nil {
			return 0, fmt.Errorf("%q is not a valid pattern", name)
		}
	}
	if sel.expiring == "" {
		return 0, nil
	}
	if within, err = config.ParseDuration(sel.expiring); err != nil {
		return 0, fmt.Errorf("--expiring: %w", err)
	}
	return within, nil
}

func isPattern(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// single reports whether exactly one certificate was named.
func (sel *selection) single() bool {
	return len(sel.names) == 1 && !isPattern(sel.names[0]) && sel.output == "table" && !sel.filtered()
}

func (sel *selection) filtered() bool { return sel.failing || sel.expiring != "" }

// request asks for those named, or for all when there is a pattern. Only about a single one everything is asked.
func (sel *selection) request() control.StatusRequest {
	if slices.ContainsFunc(sel.names, isPattern) {
		return control.StatusRequest{}
	}
	return control.StatusRequest{Names: sel.names, Detail: len(sel.names) == 1}
}

// apply leaves out what was not asked for. A pattern that nothing matches is an error: it is a mistyped one more often
// than not.
func (sel *selection) apply(all []renewal.Status, now time.Time, within time.Duration) ([]renewal.Status, error) {
	matched := make([]bool, len(sel.names))
	shown := []renewal.Status{}
	for _, c := range all {
		named := len(sel.names) == 0
		for i, name := range sel.names {
			if ok, _ := path.Match(name, c.Name); ok || name == c.Name {
				named, matched[i] = true, true
			}
		}
		late := within == 0 || c.Version == "" || c.NotAfter.Sub(now) <= within
		if named && late && (!sel.failing || needsAttention(c)) {
			shown = append(shown, c)
		}
	}
	if i := slices.Index(matched, false); i >= 0 {
		return nil, fmt.Errorf("no certificate matches %q", sel.names[i])
	}
	return shown, nil
}
