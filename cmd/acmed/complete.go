package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// completeTime is how long a shell waits for names at most.
const completeTime = time.Second

// complete lets the shell complete the arguments and options of a command: certificates, issuers, solvers, versions and
// words of a fixed list. It completes nothing where there are none.
func (a *app) complete(cmd *cobra.Command) {
	switch {
	case strings.Contains(cmd.Use, "NAME") && cmd.Name() == "test":
		cmd.ValidArgsFunction = a.completeArgs(a.notifiers)
	case strings.Contains(cmd.Use, "NAME"):
		cmd.ValidArgsFunction = a.completeArgs(a.certificates)
	case strings.Contains(cmd.Use, "ISSUER"):
		cmd.ValidArgsFunction = a.completeArgs(func(*cobra.Command, []string) []string { return a.issuers() })
	case cmd.Name() == "explain":
		cmd.ValidArgsFunction = a.completeArgs(func(*cobra.Command, []string) []string { return codes() })
	}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if list := a.flagWords(cmd, f); list != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
				return beginning(list(cmd, args), begun), cobra.ShellCompDirectiveNoFileComp
			})
		}
	})
}

// flagWords is what the value of an option can be; nil when that is no list.
func (a *app) flagWords(cmd *cobra.Command, f *pflag.Flag) func(*cobra.Command, []string) []string {
	fixed := func(list ...string) func(*cobra.Command, []string) []string {
		return func(*cobra.Command, []string) []string { return list }
	}
	switch f.Name {
	case "output":
		return fixed(strings.FieldsFunc(strings.ReplaceAll(f.Usage, " or ", ","), func(r rune) bool { return r == ',' || r == ' ' })...)
	case "issuer":
		return func(*cobra.Command, []string) []string { return a.issuers() }
	case "solver":
		return func(*cobra.Command, []string) []string { return a.solvers() }
	case "dns":
		return func(*cobra.Command, []string) []string { return providers() }
	case "to", "version":
		if strings.Contains(cmd.Use, "NAME") {
			return a.versions
		}
	}
	if list := fixedWords()[f.Name]; list != nil {
		return fixed(list...)
	}
	return nil
}

// fixedWords are the values of options that take one of a list.
func fixedWords() map[string][]string {
	return map[string][]string{
		"reason":   {"unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"},
		"server":   {setup.Nginx, setup.Apache, "none"},
		"key-type": keyTypes(),
		"mode":     {"proxy", "stateless", "tls-alpn"},
		"starttls": endpoint.StartTLSProtocols(),
	}
}

// completeArgs completes positional arguments out of a list: each once, and as many as the command takes.
func (a *app) completeArgs(list func(*cobra.Command, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !strings.Contains(cmd.Use, "...") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		left := slices.DeleteFunc(list(cmd, args), func(name string) bool { return slices.Contains(args, name) })
		return beginning(left, begun), cobra.ShellCompDirectiveNoFileComp
	}
}

func beginning(list []string, begun string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(word string) bool { return !strings.HasPrefix(word, begun) })
}

// loaded is the configuration as far as it can be read, or an empty one.
func (a *app) loaded() *config.Config {
	if c, _, _ := config.Load(a.config, config.Lenient, config.WithoutFiles); c != nil {
		return c
	}
	return &config.Config{}
}

func (a *app) issuers() []string { return a.loaded().IssuerNames() }

func (a *app) solvers() []string { return a.loaded().SolverNames() }

func (a *app) notifiers(*cobra.Command, []string) (names []string) {
	for _, n := range a.loaded().Notify {
		names = append(names, n.Name)
	}
	return names
}

func providers() (names []string) {
	for p := range catalog.All() {
		names = append(names, p.Name)
	}
	return names
}

// client asks the daemon, if one answers in time.
func (a *app) client(ctx context.Context) (*control.Client, context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	client, err := control.Dial(ctx, config.Socket(a.config))
	if err != nil {
		cancel()
		return nil, nil, func() {}
	}
	return client, ctx, cancel
}

// certificates lists what the configuration has, or what the daemon knows where the configuration cannot be read.
func (a *app) certificates(cmd *cobra.Command, _ []string) (names []string) {
	if c, _, _ := config.Load(a.config, config.Lenient, config.WithoutFiles); c != nil {
		for i := range c.Certificates {
			names = append(names, c.Certificates[i].Name)
		}
		return names
	}
	client, ctx, cancel := a.client(cmd.Context())
	defer cancel()
	if client == nil {
		return nil
	}
	if status, err := client.Status(ctx, control.StatusRequest{}); err == nil {
		for _, c := range status.Certificates {
			names = append(names, c.Name)
		}
	}
	return names
}

// versions lists the stored versions of the certificate that was named, the newest first.
func (a *app) versions(cmd *cobra.Command, args []string) (names []string) {
	client, ctx, cancel := a.client(cmd.Context())
	defer cancel()
	if client == nil || len(args) == 0 {
		return nil
	}
	if h, err := client.History(ctx, control.VersionRequest{Certificate: args[0]}); err == nil {
		for _, v := range h.Versions {
			names = append(names, v.ID)
		}
	}
	return names
}
