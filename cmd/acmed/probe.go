package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/trust"
)

// systemClient is what the trust store of this machine is called when the configuration has no name for it.
const systemClient = "system"

func newProbe(a *app) *cobra.Command {
	var starttls, name, output string
	var must []string
	var least, in days = days(14 * 24 * time.Hour), 0
	cmd := &cobra.Command{
		Use:   "probe HOST[:PORT]",
		Short: "Check a TLS endpoint: what it presents, and which clients accept it",
		Long: `Connect to an endpoint as a client does, and report: the presented chain and what is missing or out of place in it,
which clients accept it, names, expiry, versions of TLS. The clients are the trust stores of the configuration and "system", the
one of this machine; neither daemon nor configuration is needed.

The exit code is 0 when all is well, 3 if the endpoint needs attention, and 1 if there was no handshake. All is well if
at least one client accepts the chain. With --client, each named client must accept it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			report, err := a.look(cmd.Context(), args[0], starttls, name, endpoint.ReportOptions{
				Must: must, At: time.Now().Add(time.Duration(in)), Days: int(time.Duration(least) / (24 * time.Hour)),
			})
			if err != nil {
				return err
			}
			return a.probeReport(report, output)
		},
	}
	cmd.Flags().StringVar(&starttls, "starttls", "", "`protocol` to begin with: "+strings.Join(endpoint.StartTLSProtocols(), ", "))
	cmd.Flags().StringVar(&name, "name", "", "server `name` to ask for; default HOST")
	cmd.Flags().StringSliceVar(&must, "client", nil, "`store` that must accept the chain; may be repeated")
	cmd.Flags().Var(&least, "days", "fewer days left than this are a problem")
	cmd.Flags().Var(&in, "in", "judge as of that many days from now, such as 30d")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// look probes an endpoint with all clients that are known here.
func (a *app) look(ctx context.Context, address, starttls, name string, o endpoint.ReportOptions) (*endpoint.Report, error) {
	at, err := endpointOf(address, starttls, name)
	if err != nil {
		return nil, usageError(err)
	}
	if o.Stores, err = a.clients(); err != nil {
		return nil, err
	}
	for _, must := range o.Must {
		if !slices.ContainsFunc(o.Stores, func(s *trust.Store) bool { return s.Name() == must }) {
			return nil, usageError(fmt.Errorf("there is no trust store %q", must))
		}
	}
	return endpoint.Examine(ctx, at, o)
}

// clients are the trust stores of the configuration, if there is one, and that of this machine.
func (a *app) clients() ([]*trust.Store, error) {
	var stores []*trust.Store
	if _, err := os.Stat(a.config); !errors.Is(err, fs.ErrNotExist) {
		c, _, err := config.Load(a.config, config.WithoutFiles)
		if err != nil {
			return nil, err
		}
		if stores, err = c.TrustStores(); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(stores, func(s *trust.Store) bool { return s.Name() == systemClient }) {
		return stores, nil
	}
	system, err := trust.System(systemClient)
	return append(stores, system), err
}

// endpointOf reads HOST or HOST:PORT; the port without one is that of the protocol.
func endpointOf(address, starttls, name string) (endpoint.Endpoint, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), portOf(starttls))
	}
	if starttls != "" {
		address = starttls + "://" + address
	}
	if name != "" {
		address += "/" + name
	}
	return endpoint.Parse(address)
}

// portOf is the registered port of a protocol (IANA), https without one.
func portOf(starttls string) string {
	switch starttls {
	case "smtp":
		return "25"
	case "imap":
		return "143"
	case "pop3":
		return "110"
	case "ftp":
		return "21"
	case "ldap":
		return "389"
	case "mysql":
		return "3306"
	case "postgres":
		return "5432"
	case "xmpp":
		return "5222"
	}
	return "443"
}

func (a *app) probeReport(r *endpoint.Report, output string) error {
	if output == "json" {
		if err := a.json(r); err != nil {
			return err
		}
	} else if err := a.probeText(r); err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return &exitError{code: exitAttention}
	}
	return nil
}

func (a *app) probeText(r *endpoint.Report) error {
	a.printf("endpoint   %s\n", r.Endpoint)
	a.printf("protocols  %s\n", strings.Join(r.Protocols, ", "))
	a.printf("names      %s\n", strings.Join(r.Names, " "))
	a.printf("expires    %s (%s)\n\n", stamp(r.NotAfter), text.Count(r.DaysLeft, "day"))
	for i, c := range r.Chain {
		a.printf("%d  %s\n   issued by %s\n   %s, %s to %s\n", i, c.Subject, c.Issuer, c.KeyType,
			date(c.NotBefore), date(c.NotAfter))
	}
	a.printf("\n")
	if err := a.clientTable(r); err != nil {
		return err
	}
	if len(r.Problems)+len(r.Notes) > 0 {
		a.printf("\n")
	}
	for _, p := range r.Problems {
		a.printf("problem: %s\n", p)
	}
	for _, n := range r.Notes {
		a.printf("note: %s\n", n)
	}
	return nil
}

// days is a flag that takes 30d or 30.
type days time.Duration

func (d *days) String() string { return strconv.Itoa(int(time.Duration(*d)/(24*time.Hour))) + "d" }

// Set reads a number of days.
func (d *days) Set(text string) error {
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "d"), 10, 16)
	if err != nil {
		return errors.New("write a number of days, such as 30d")
	}
	*d = days(time.Duration(n) * 24 * time.Hour)
	return nil
}

// Type is what the help calls the value.
func (d *days) Type() string { return "days" }
