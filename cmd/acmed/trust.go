package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

func newChain(a *app) *cobra.Command {
	var r control.VersionRequest
	var pins, tlsa bool
	cmd := &cobra.Command{
		Use:   "chain NAME",
		Short: "Print the CA certificates that pinning clients must import",
		Long: `Print the intermediates of a certificate in PEM form, and the root if a configured trust store or this machine has it.
If a new version is held, print its intermediates instead, so that pinning clients can import them before activation.

With --pins, print what clients that pin keys must know: the hashes of the active key, of a held one, and of the next one.
With --tlsa, print them as records for a zone file.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, done, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer done()
			r.Certificate = args[0]
			c, err := b.Chain(cmd.Context(), r)
			if err != nil {
				return err
			}
			switch {
			case pins:
				for _, p := range c.Pins {
					a.printf("%s  %s\n", p.Pin, p.State)
				}
			case tlsa && len(c.TLSA) == 0:
				return fmt.Errorf("%s has no tlsa section in the configuration", r.Certificate)
			case tlsa:
				a.printf("%s\n", strings.Join(c.TLSA, "\n"))
			default:
				_, err = io.WriteString(a.out, c.PEM)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&r.StoredAs, "version", "", "`version` to print, as history shows it")
	cmd.Flags().BoolVar(&pins, "pins", false, "print the hashes of the keys, those of the next one too")
	cmd.Flags().BoolVar(&tlsa, "tlsa", false, "print the TLSA records of the keys")
	cmd.MarkFlagsMutuallyExclusive("version", "pins", "tlsa")
	return cmd
}

func newTrust(a *app) *cobra.Command {
	var name, output string
	var in days
	cmd := &cobra.Command{
		Use:   "trust [NAME | HOST:PORT]",
		Short: "Show which clients accept which chains",
		Long: `Check every chain of a certificate, or of all certificates, against every trust store of the configuration. The table has the
chains of the active version and of a held one, both the presented chain and the alternates that the CA offers. With
HOST:PORT, check the chain that the endpoint presents.

The exit code is 3 if a client that the certificate lists rejects the presented chain.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "table", "json"); err != nil {
				return err
			}
			at := time.Now().Add(time.Duration(in))
			if len(args) == 1 && strings.Contains(args[0], ":") {
				return a.trustEndpoint(cmd.Context(), args[0], name, at, output)
			}
			return a.trust(cmd.Context(), control.TrustRequest{Names: args, At: at}, output)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "server `name` to ask HOST:PORT for; default HOST")
	cmd.Flags().Var(&in, "in", "judge as of that many days from now, such as 30d")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func (a *app) trust(ctx context.Context, r control.TrustRequest, output string) error {
	b, done, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer done()
	t, err := b.Trust(ctx, r)
	if err != nil {
		return err
	}
	if output == "json" {
		err = a.json(t)
	} else {
		err = a.trustTable(t)
	}
	if err != nil {
		return err
	}
	for _, row := range t.Chains {
		for _, c := range row.Clients {
			if c.Listed && !c.Trusted && row.Presented {
				return &exitError{code: exitAttention}
			}
		}
	}
	return nil
}

// trustTable prints a row for each chain and a column for each client; a * marks clients that the certificate must not lose.
func (a *app) trustTable(t control.Trust) error {
	if len(t.Chains) == 0 || len(t.Chains[0].Clients) == 0 {
		a.printf("there is nothing to show: no certificate is stored, or no trust store is configured\n")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	head := []string{"NAME", "VERSION", "STATE", "CHAIN"}
	for _, c := range t.Chains[0].Clients {
		head = append(head, strings.ToUpper(c.Client))
	}
	_, _ = fmt.Fprintln(w, strings.Join(head, "\t"))
	var why []string
	for _, row := range t.Chains {
		state, chain := string(row.State), strings.Join(row.Issuers, " < ")
		if !row.Presented {
			state = "offered"
		}
		cells := []string{row.Certificate, row.StoredAs, state, text.Lines(chain)}
		for _, c := range row.Clients {
			cells = append(cells, verdictCell(c.Trusted, c.Listed, c.Until))
			if !c.Trusted && row.Presented {
				why = append(why, fmt.Sprintf("%s: %s: %s", row.Certificate, c.Client, c.Reason))
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	err := w.Flush()
	for _, line := range why {
		a.printf("%s\n", line)
	}
	return err
}

func verdictCell(trusted, listed bool, until time.Time) string {
	text := "no"
	if trusted {
		text = "until " + date(until)
	}
	if listed {
		text += " *"
	}
	return text
}

func (a *app) trustEndpoint(ctx context.Context, address, name string, at time.Time, output string) error {
	report, err := a.look(ctx, address, "", name, endpoint.ReportOptions{At: at})
	if err != nil {
		return err
	}
	if output == "json" {
		return a.json(report.Clients)
	}
	return a.clientTable(report)
}

func (a *app) clientTable(r *endpoint.Report) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CLIENT\tACCEPTS\tREASON")
	for _, c := range r.Clients {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", c.Client, verdictCell(c.Trusted, false, c.Until), text.Lines(c.Reason))
	}
	return w.Flush()
}
