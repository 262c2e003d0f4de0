package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
)

func newAccount(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Manage the account at a CA",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, verb := range []struct {
		action      control.AccountAction
		args        string
		short, long string
	}{
		{control.AccountShow, "ISSUER", "Show the account, with DNS records that name it",
			`Show the account at a CA, with ready-made DNS records: CAA records that let only this account obtain certificates
(RFC 8657), and the TXT record of dns-persist-01. If there is no account, acmed registers one.`},
		{control.AccountUpdate, "ISSUER [MAIL...]", "Change the email addresses that the CA has",
			`Change the email addresses that the CA has for the account. Without MAIL, remove them.`},
		{control.AccountRollover, "ISSUER", "Give the account a new key",
			`Give the account a new key. The CA no longer accepts the old one. Stateless challenge answers contain the thumbprint of
the key and must be changed. TXT records of dns-persist-01 stay valid, because they name the account and not its key.`},
		{control.AccountRecover, "ISSUER KEYFILE", "Import the account of an existing key",
			`Import the account that an existing key has at the CA, for example from a backup or from another ACME client. KEYFILE
has the private key in PEM form, belongs to root or to you, and is not readable by others (chmod 600). acmed keeps its
previous key beside the new one. TXT records of dns-persist-01 that name another account must be changed.`},
		{control.AccountDeactivate, "ISSUER", "Close the account for good",
			`Close the account at the CA. This cannot be undone. The next order registers a new account. TXT records of dns-persist-01
name the account; their names cannot be validated until the records name the new one.`},
	} {
		cmd.AddCommand(newAccountVerb(a, verb.action, verb.args, verb.short, verb.long))
	}
	return cmd
}

func newAccountVerb(a *app, action control.AccountAction, args, short, long string) *cobra.Command {
	var output string
	var yes bool
	count := cobra.ExactArgs(1)
	switch action {
	case control.AccountUpdate:
		count = cobra.MinimumNArgs(1)
	case control.AccountRecover:
		count = cobra.ExactArgs(2)
	}
	cmd := &cobra.Command{
		Use: string(action) + " " + args, Short: short, Long: long, Args: count,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			r := control.AccountRequest{Issuer: args[0], Action: action}
			switch action {
			case control.AccountDeactivate:
				question := "Close the account at " + args[0] + " for good? The next order registers another one, which TXT records of dns-persist-01 do not name."
				if err := newAsker(a, yes).agreeTo(cmd.Context(), question); err != nil {
					return err
				}
			case control.AccountUpdate:
				r.Contacts = args[1:]
			case control.AccountRecover:
				var err error
				if r.Key, err = accountKey(args[1]); err != nil {
					return err
				}
			}
			return a.account(cmd.Context(), r, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	if action == control.AccountDeactivate {
		cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	}
	return cmd
}

// accountKey reads a private key as every other secret is read. It is read here because the daemon may not see the file.
func accountKey(file string) (certs.Secret, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	return config.ReadSecret(path)
}

func (a *app) account(ctx context.Context, r control.AccountRequest, output string) error {
	b, done, err := a.backend(ctx)
	if err != nil {
		return err
	}
	defer done()
	account, err := b.Account(ctx, r)
	if err != nil {
		return err
	}
	if output == "json" {
		return a.json(account)
	}
	return a.accountText(account)
}

func (a *app) accountText(c control.Account) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	line := func(key, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", key, text.Lines(value))
		}
	}
	line("issuer", c.Issuer)
	line("directory", c.Directory)
	line("account", c.URI)
	line("status", c.Status)
	line("contacts", strings.Join(c.Contacts, " "))
	line("thumbprint", c.Thumbprint)
	if c.URI != "" {
		line("orders", fmt.Sprintf("%d in the last 3 hours", c.Orders))
	}
	if !c.RetryAt.IsZero() {
		line("rate limited", "until "+stamp(c.RetryAt))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	methods := "http-01,tls-alpn-01,dns-01"
	if len(c.PersistRecords) > 0 {
		methods += ",dns-persist-01"
	}
	for i, ca := range c.CAAIdentities {
		if i == 0 {
			a.printf("\nDNS records that restrict issuance for a domain to this account:\n")
		}
		a.printf("example.com. IN CAA 0 issue \"%s; accounturi=%s; validationmethods=%s\"\n", ca, c.URI, methods)
	}
	if len(c.CAAIdentities) == 0 || c.URI == "" {
		return nil
	}
	a.printf("\nTXT records for dns-persist-01 (add policy=wildcard for wildcards, persistUntil=SECONDS to limit them):\n")
	if len(c.PersistRecords) == 0 {
		a.printf("_validation-persist.example.com. IN TXT \"%s; accounturi=%s\"\n", c.CAAIdentities[0], c.URI)
	}
	for _, line := range c.PersistRecords {
		a.printf("%s\n", text.Printable(line))
	}
	return nil
}
