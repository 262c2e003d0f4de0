package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/client"
	"github.com/acmed/acmed/pkg/config"
)

func newFleet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Share certificates with other machines",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFleetInit(a), newFleetStatus(a), newFleetImport(a), newFleetForget(a))
	return cmd
}

func newFleetInit(a *app) *cobra.Command {
	var again bool
	var oldest string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Prepare etcd for the fleet, once",
		Long: `Prepare etcd for the fleet of the configuration. This is done once, on any node. If the first file of seal_files does not
exist, a new key is written into it; copy that file to the other nodes, and keep a copy where your other secrets are.

With --again, the key that seals now is the only one from then on: after a lost key, or one that others may know. What was
stored before cannot be read any more; every node stores what it has again.

With --oldest, nothing but the oldest release that may order is changed, in a fleet that exists. Nodes of earlier releases
then only take what others obtain.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(a.config, config.WithoutFiles)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("oldest") {
				if err := daemon.SetOldest(cmd.Context(), c, oldest); err != nil {
					return err
				}
				a.printf("the oldest release that may order in fleet %s: %s\n", c.Fleet.Name, cmp.Or(oldest, "any"))
				return nil
			}
			made, err := daemon.InitFleet(cmd.Context(), c, again)
			if made != "" {
				a.printf("made the seal key in %s; copy the file to every other node, with mode 0600\n", made)
			}
			if err != nil {
				return err
			}
			a.printf("fleet %s is ready\n", c.Fleet.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&again, "again", false, "replace the seal key of a fleet that exists")
	cmd.Flags().StringVar(&oldest, "oldest", "", "oldest release that may order")
	return cmd
}

func newFleetStatus(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes and what they serve",
		Long: `Show the store, the nodes and the certificates of the fleet, as this node knows them.

The exit code is 3 if the store, a node or a certificate needs attention.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			return a.fleet(cmd.Context(), client.FleetRequest{Action: client.FleetStatus}, func(f client.Fleet) error {
				if output == "json" {
					if err := a.json(f); err != nil {
						return err
					}
				} else {
					a.showFleet(&f, time.Now())
				}
				if fleetNeedsAttention(&f) {
					return &exitError{code: exitAttention}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func newFleetImport(a *app) *cobra.Command {
	var yes, dry bool
	cmd := &cobra.Command{
		Use:   "import [NAME...]",
		Short: "Give the fleet what this machine has",
		Long: `Give the fleet the accounts and certificates of this machine, without ordering anything again. What would happen is shown
first. If the fleet has a version already, the one that begins later counts. If the fleet has another account at a CA, it
counts, and the key of this machine's account is kept aside.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			r := client.FleetRequest{Action: client.FleetImport, Names: names, Dry: true}
			if err := a.fleet(cmd.Context(), r, a.showImport); err != nil || dry {
				return err
			}
			if err := newAsker(a, yes).agreeTo(cmd.Context(), "Do this?"); err != nil {
				return err
			}
			r.Dry = false
			return a.fleet(cmd.Context(), r, a.importFailures)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would happen")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func newFleetForget(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "forget NAME...",
		Short: "Remove certificates from the fleet",
		Long: `Remove certificates that no node has in its configuration any more from etcd: versions, keys and pending orders. The
nodes keep what they have on disk; "acmed delete" removes that.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.fleet(cmd.Context(), client.FleetRequest{Action: client.FleetForget, Names: names}, func(client.Fleet) error {
				a.printf("forgotten: %s\n", strings.Join(names, ", "))
				return nil
			})
		},
	}
}

func (a *app) fleet(ctx context.Context, r client.FleetRequest, show func(client.Fleet) error) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	f, err := b.Fleet(ctx, r)
	if err != nil {
		return err
	}
	return show(f)
}

func (a *app) showImport(f client.Fleet) error {
	for _, row := range f.Imported {
		a.printf("%s: %s\n", row.What, cmp.Or(row.Error, row.Fate))
	}
	return nil
}

func (a *app) importFailures(f client.Fleet) error {
	var errs []error
	for _, row := range f.Imported {
		if row.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", row.What, row.Error))
		}
	}
	if len(errs) == 0 {
		a.printf("imported\n")
	}
	return errors.Join(errs...)
}

// clocksApart is how far two clocks may differ: what is told of a moment elsewhere is off by as much.
const clocksApart = 10 * time.Second

// lagging is how long a node may take to serve a new version.
const lagging = 3 * time.Minute

func fleetNeedsAttention(f *client.Fleet) bool {
	return !f.Store.Up || slices.ContainsFunc(f.Nodes, nodeNeedsAttention) || slices.ContainsFunc(f.Certificates, func(c client.FleetCertificate) bool {
		return c.Problem != "" || c.Stuck || c.Unshared != "" || c.Lag > lagging
	})
}

func nodeNeedsAttention(n client.FleetNode) bool {
	return n.Twice || len(n.Failed) > 0 || n.Ahead.Abs() > clocksApart
}

// showFleet prints the store in one line, a table of nodes and one of certificates, each with what is wrong.
func (a *app) showFleet(f *client.Fleet, now time.Time) {
	store := "store up"
	if !f.Store.Up {
		store = "store unavailable"
		if !f.Store.Contact.IsZero() {
			store += " since " + stamp(f.Store.Contact)
		}
		if f.Store.Error != "" {
			store += ": " + f.Store.Error
		}
	}
	a.printf("fleet %s, node %s, role %s; %s\n\n", f.Name, f.Node, f.Role, store)
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NODE\tHOST\tROLE\tRELEASE\tSINCE\tREMARKS")
	for _, n := range f.Nodes {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", text.Printable(n.ID), text.Printable(n.Address), n.Role, text.Printable(n.Release), stamp(n.Since), text.Printable(nodeRemarks(&n)))
	}
	_ = w.Flush() // as in printf
	a.printf("\n")
	_, _ = fmt.Fprintln(w, "CERTIFICATE\tVERSION\tSERVED HERE\tFROM NODE\tEXPIRES\tREMARKS")
	for _, c := range f.Certificates {
		serves := "yes"
		if !c.Active {
			serves = "no"
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", text.Printable(c.Name), c.N, serves, text.Printable(c.Node), date(c.NotAfter), text.Printable(certificateRemarks(&c, now)))
	}
	_ = w.Flush()
}

func nodeRemarks(n *client.FleetNode) string {
	var list []string
	if n.Command {
		list = append(list, "a command")
	}
	if n.Twice {
		list = append(list, "another machine has the same ID; set fleet.node on one of them")
	}
	if n.Ahead.Abs() > clocksApart {
		list = append(list, fmt.Sprintf("its clock differs by %s", n.Ahead))
	}
	if len(n.Behind) > 0 {
		list = append(list, "behind: "+strings.Join(n.Behind, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(n.Failed)) {
		list = append(list, name+" failed: "+n.Failed[name])
	}
	return strings.Join(list, "; ")
}

func certificateRemarks(c *client.FleetCertificate, now time.Time) string {
	var list []string
	if c.Working != "" {
		list = append(list, fmt.Sprintf("node %s has been working on it for %s", c.Working, now.Sub(c.Since).Round(time.Second)))
	}
	if c.Problem != "" {
		list = append(list, c.Problem)
	}
	if c.Pinned != "" {
		list = append(list, "pinned to "+c.Pinned)
	}
	if c.Unshared != "" {
		list = append(list, "version "+c.Unshared+" is not shared yet")
	}
	if c.Failures > 0 {
		list = append(list, fmt.Sprintf("%d failures", c.Failures))
	}
	if c.Lag > 0 {
		list = append(list, "newer version since "+c.Lag.Round(time.Second).String())
	}
	return strings.Join(list, "; ")
}
