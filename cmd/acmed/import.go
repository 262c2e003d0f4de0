package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/certbot"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/config"
)

// importFlags are the choices of an import.
type importFlags struct {
	dir    string
	caFile string
	main   setup.Main
	write  bool
	yes    bool
}

func newImport(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import certbot",
		Short: "Import the certificates of certbot",
		Long: `Import certbot's certificates with their keys and earlier versions, its accounts, and how each certificate is renewed and
installed. acmed orders nothing, connects to no CA, and changes none of certbot's files.

Without --write, the files for conf.d are printed for review. With it, acmed writes them and stores the certificates and
accounts in the state directory. Stop the daemon first. If a certificate needs a manual step, such as the credentials of a
DNS provider, its file ends in .new and names the step.

Afterwards stop certbot: systemctl disable --now certbot.timer.`,
		Example: `  acmed import certbot            print what would be written
  acmed import certbot --write`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"certbot"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.importCertbot(cmd.Context(), &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "/etc/letsencrypt", "`directory` of certbot")
	flags.BoolVar(&f.write, "write", false, "write the files, and store certificates and accounts")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM `file` with the roots of a private CA that certbot used")
	flags.StringVar(&f.main.Email, "email", "", "email address of the account, for a new configuration (default: the one of certbot's account)")
	flags.BoolVar(&f.main.AgreeTOS, "agree-tos", false, "agree to the CA's terms of service, for a new configuration")
	flags.StringVar(&f.main.StateDir, "state-dir", "", "state `directory`, for a new configuration (default "+config.DefaultStateDir+")")
	flags.StringVar(&f.main.Socket, "socket", "", "control socket, for a new configuration")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) importCertbot(ctx context.Context, f *importFlags) error {
	m, err := setup.Open(ctx, a.config)
	if err != nil {
		return err
	}
	a.warn(m.Warnings)
	tree, err := certbot.Read(f.dir)
	if err != nil {
		return err
	}
	if f.write {
		if err := a.askMain(ctx, newAsker(a, f.yes), m, &f.main, f.caFile != ""); err != nil {
			return err
		}
	}
	moves, err := m.Certbot(ctx, tree, f.main, f.caFile)
	if err != nil {
		return err
	}
	if !f.write {
		for _, file := range moves.Change.Files {
			a.printf("--- %s\n%s\n", file.Path, file.Content)
		}
	} else if err := moves.Apply(ctx); err != nil {
		return err
	}
	return a.tellImport(moves, f.write)
}

// tellImport sums up what was done, and what is left to do.
func (a *app) tellImport(moves *setup.Import, written bool) error {
	verb := "would be imported"
	if written {
		verb = "imported"
	}
	waiting := 0
	for _, l := range moves.Lineages {
		last := l.Versions[len(l.Versions)-1]
		a.printf("%s: %s (%d of its versions), valid until %s\n", l.Name, verb, len(l.Versions), last.Leaf.NotAfter.Local().Format(time.DateOnly))
		for _, note := range l.Notes {
			a.printf("%s: look: %s\n", l.Name, note)
		}
		if l.Deferred {
			waiting++
		}
	}
	for _, m := range moves.Accounts {
		a.printf("account at %s: %s (%s)\n", m.Issuer, verb, m.Account.URI)
	}
	for _, note := range moves.Notes {
		a.printf("look: %s\n", note)
	}
	if !written {
		a.printf("nothing was changed; run again with --write to import\n")
		return nil
	}
	a.printf("stop certbot now, so that it does not renew them as well: systemctl disable --now certbot.timer\n")
	if waiting > 0 {
		return &exitError{exitAttention, errors.New(manualSteps(waiting))}
	}
	return nil
}

func manualSteps(n int) string {
	return "manual steps are needed before acmed can manage " + text.Count(n, "certificate")
}
