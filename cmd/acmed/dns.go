package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
)

// tryFlags are the choices of a try.
type tryFlags struct {
	domain, envFile string
	resolvers       []string
}

func newDNS(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dns",
		Short: "List, describe and try DNS providers",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "List the DNS providers",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return catalog.List(a.out) },
	}
	describe := &cobra.Command{
		Use:               "describe PROVIDER",
		Short:             "Print the variables that a DNS provider takes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeProviders,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := catalog.Describe(a.out, args[0]); err != nil {
				return usageError(err)
			}
			return nil
		},
	}
	var f tryFlags
	try := &cobra.Command{
		Use:   "try PROVIDER",
		Short: "Set a TXT record through a DNS provider, and remove it",
		Long: `Set the TXT record _acme-challenge of a name through a DNS provider, and remove it again, as a challenge would. No CA is
contacted and no configuration is read or changed.

The variables of the provider come from --env-file, or else from the environment. acmed asks for those that are missing,
and keeps none of them.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeProviders,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.tryDNS(cmd.Context(), args[0], &f)
		},
	}
	try.Flags().StringVarP(&f.domain, "domain", "d", "", "`name` in a zone of the account")
	try.Flags().StringVar(&f.envFile, "env-file", "", "`file` with the variables, as in the section dns-01")
	try.Flags().StringSliceVar(&f.resolvers, "resolver", nil, "`address` of a DNS server that finds the zone (default: the system's)")
	cmd.AddCommand(list, describe, try)
	return cmd
}

func completeProviders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for p := range catalog.All() {
		names = append(names, p.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) tryDNS(ctx context.Context, provider string, f *tryFlags) error {
	p, err := catalog.Lookup(provider)
	switch {
	case err != nil:
		return usageError(err)
	case f.domain == "":
		return usageError(errors.New("for which name? give one in a zone of the account: -d www.example.com"))
	}
	if err := daemon.CheckWorker(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "acmed-dns")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	conf := dns01.Config{Provider: p.Name, EnvFile: filepath.Join(dir, "env"), Resolvers: f.resolvers}
	if f.envFile != "" {
		conf.EnvFile, err = filepath.Abs(f.envFile)
	} else {
		err = a.askEnvFile(ctx, p.Name, conf.EnvFile)
	}
	if err == nil {
		err = setup.TryProvider(ctx, conf, f.domain)
	}
	if err != nil {
		return err
	}
	a.printf("%s set the record _acme-challenge.%s and removed it\n", p.Name, strings.TrimPrefix(f.domain, "*."))
	return nil
}

// askEnvFile writes the variables of a provider to a file of mode 0600.
func (a *app) askEnvFile(ctx context.Context, provider, file string) error {
	values, err := a.askVariables(ctx, newAsker(a, false), provider, "a file for --env-file")
	if err != nil {
		return err
	}
	return os.WriteFile(file, setup.EnvText(values), 0o600) //nolint:forbidigo // a temporary file
}

// askVariables returns the variables of a provider: those that the environment has, and those of the way with the fewest
// variables that the operator types. The file is where else they could be.
func (a *app) askVariables(ctx context.Context, q *asker, provider, file string) (map[string]string, error) {
	p, err := catalog.Lookup(provider)
	if err != nil {
		return nil, usageError(err)
	}
	values := map[string]string{}
	for _, v := range slices.Concat(p.Credentials, p.Options) {
		for _, name := range []string{v.Name, v.Name + "_FILE"} {
			if value := os.Getenv(name); value != "" {
				values[name] = value
			}
		}
	}
	if catalog.Check(p.Name, values) == nil {
		return values, nil
	}
	groups, err := setup.Variables(p.Name)
	if err != nil {
		return nil, err
	}
	given := func(name string) bool { return values[name]+values[name+"_FILE"] != "" }
	for _, group := range groups {
		if slices.ContainsFunc(group, given) {
			continue
		}
		if values[group[0]], err = a.credential(ctx, q, group, file); err != nil {
			return nil, err
		}
	}
	return values, nil
}
