package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
)

func newDoctor(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor [NAME...]",
		Short: "Diagnose why names fail validation",
		Long: `Check the names of the given certificates, single names, or all names as a CA would. acmed queries DNS (A, AAAA, CNAME, CAA,
DNSSEC), connects to the ports of http-01 and tls-alpn-01 at each address, tries to listen there, and compares the clock with
that of each CA. Each DNS solver sets and removes one record, each webroot gets a file for a moment. In a fleet, acmed asks
each member of etcd, and compares the seal key. Nothing is ordered.

Targets are examined without changing anything: systemd, the pid file or the container engine says whether the server runs,
the helper answers for its targets, a target on another machine is logged in to, and programs and directories are checked.

The result from this machine can differ from that of a CA if names resolve to other addresses inside your network, or if a
router does not loop packets back. See probe in the configuration. The exit code is 3 if something needs attention.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			return a.doctor(cmd.Context(), names, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func (a *app) doctor(ctx context.Context, names []string, output string) error {
	b, done, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	d, err := b.Doctor(ctx, control.DoctorRequest{Names: names})
	if err != nil {
		return err
	}
	daemon.Identify(ctx, &d)
	if output == "json" {
		if err := a.json(d); err != nil {
			return err
		}
	} else {
		a.diagnosis(&d)
	}
	for _, f := range d.Findings {
		if f.Attention {
			return &exitError{code: exitAttention}
		}
	}
	return nil
}

// diagnosis prints one line for each CA and name, and then what, why and what to do for each finding.
func (a *app) diagnosis(d *control.Diagnosis) {
	for _, is := range d.Issuers {
		if is.Error == "" {
			a.printf("%s: answers, clocks are %d s apart\n", is.Name, max(is.ClockOffset, -is.ClockOffset))
		}
	}
	for _, n := range d.Names {
		a.printf("%s (%s): %s\n", n.Identifier, n.Certificate, verdict(&n))
	}
	for _, f := range d.Findings {
		mark := "note"
		if f.Attention {
			mark = "ATTENTION"
		}
		a.printf("\n%s: %s\n  why: %s\n  do:  %s\n", mark, f.What, oneLine(f.Why), f.Do)
	}
}

func verdict(n *control.NameDiagnosis) string {
	text := "no solver should work"
	if n.Solver != "" {
		text = strings.Join(n.Works, ", ") + " should work"
	}
	if n.Summary != "" {
		text += "; " + n.Summary
	}
	if len(n.Report.DNS.CNAME) > 0 {
		text += "; an alias of " + strings.Join(n.Report.DNS.CNAME, ", ")
	}
	return text
}
