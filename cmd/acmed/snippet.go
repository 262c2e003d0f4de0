package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/challenges/snippet"
	"github.com/acmed/acmed/pkg/config"
)

// snippetFlags are the choices of one snippet.
type snippetFlags struct {
	options   snippet.Options
	mode      string
	stateless bool
	issuer    string
}

func newSnippet(a *app) *cobra.Command {
	var f snippetFlags
	servers := words(snippet.Servers())
	cmd := &cobra.Command{
		Use:   "snippet " + strings.Join(servers, "|"),
		Short: "Print web server configuration that forwards challenges to acmed",
		Long: `Print the lines with which another web server or proxy forwards challenges to acmed, or answers them itself.

Modes: proxy forwards http-01 to a solver that listens at --upstream. stateless answers http-01 with the thumbprint of the
account, so that acmed need not be reachable. tls-alpn forwards tls-alpn-01 unopened and everything else to --web (nginx and
HAProxy only).`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: servers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.snippet(cmd.Context(), snippet.Server(args[0]), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.mode, "mode", string(snippet.Proxy), "proxy, stateless or tls-alpn")
	flags.BoolVar(&f.stateless, "stateless", false, "the same as --mode stateless")
	flags.StringVar(&f.issuer, "issuer", "", "issuer whose account stateless answers are for; needed when there are several")
	flags.StringVar(&f.options.Thumbprint, "thumbprint", "", "of the account, instead of asking for it")
	flags.StringVar(&f.options.Upstream, "upstream", "", "where the solver listens, host:port or unix:/path (default 127.0.0.1:5080, for tls-alpn 127.0.0.1:5443)")
	flags.StringVar(&f.options.Web, "web", "", "with tls-alpn: the web server that has TLS (default 127.0.0.1:8443)")
	flags.IntVar(&f.options.Port, "port", 0, "with tls-alpn: where to listen (default 443)")
	return cmd
}

func words[S ~string](list []S) []string {
	text := make([]string, len(list))
	for i, s := range list {
		text[i] = string(s)
	}
	return text
}

// snippet needs the configuration and the account for stateless answers only.
func (a *app) snippet(ctx context.Context, server snippet.Server, f snippetFlags) error {
	mode := snippet.Mode(f.mode)
	if f.stateless {
		mode = snippet.Stateless
	}
	if mode == snippet.Stateless && f.options.Thumbprint == "" {
		thumbprint, err := a.thumbprint(ctx, f.issuer)
		if err != nil {
			return err
		}
		f.options.Thumbprint = thumbprint
	}
	text, err := snippet.Text(server, mode, f.options)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	a.printf("%s", text)
	return nil
}

// thumbprint asks for the account's; it is registered if there is none yet.
func (a *app) thumbprint(ctx context.Context, issuer string) (string, error) {
	if issuer == "" {
		var err error
		if issuer, err = a.onlyIssuer(); err != nil {
			return "", err
		}
	}
	b, done, err := a.backend(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	account, err := b.Account(ctx, control.AccountRequest{Issuer: issuer, Action: control.AccountShow})
	return account.Thumbprint, err
}

// onlyIssuer is the one issuer that all certificates use.
func (a *app) onlyIssuer() (string, error) {
	c, _, err := config.Load(a.config)
	if err != nil {
		return "", err
	}
	used := map[string]bool{}
	var names []string
	for i := range c.Certificates {
		for _, name := range c.Spec(&c.Certificates[i]).Issuers {
			if !used[name] {
				used[name] = true
				names = append(names, name)
			}
		}
	}
	if len(names) != 1 {
		return "", usageError(fmt.Errorf("the certificates use %d different issuers (%s); name the one whose account it is with --issuer", len(names), strings.Join(names, ", ")))
	}
	return names[0], nil
}
