package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/imports"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/config"
)

// importFlags are the choices of an import.
type importFlags struct {
	imports.Source
	setup.ImportOptions

	pairs []string
	write bool
	yes   bool
}

func newImport(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import PROGRAM",
		Short: "Import the certificates of another ACME client",
		Long: `Import the certificates of acme.sh, Caddy, certbot, dehydrated, lego, Apache's mod_md or Traefik with their keys, the
accounts at the CAs, and how each certificate is validated and installed. Credentials of DNS providers go into files that
only their owner can read. acmed orders nothing, connects to no CA, and changes none of the program's files.

Without --write, the files for conf.d are printed for review. With it, acmed writes them and stores the certificates and
accounts in the state directory. Stop the daemon first. If a certificate needs a manual step, such as the credentials of a
DNS provider, its file ends in .new and names the step. 'acmed disable NAME' removes what was written for a certificate.

Afterwards stop the other program, see docs/guides/moving-to-acmed.md.`,
		Example: `  acmed import certbot            print what would be written
  acmed import certbot --write
  acmed import lego --dir /srv/lego --settings /etc/cron.d/lego
  acmed import traefik --dir /srv/traefik/acme.json --settings /srv/traefik/traefik.yml`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: imports.Programs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importFrom(cmd.Context(), args[0], &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Dir, "dir", "", "`directory` of the program, for Traefik its acme.json (default: the usual one)")
	flags.StringArrayVar(&f.Settings, "settings", nil, "configuration `file` of the program, or the systemd unit, crontab or script that runs it; may be given several times")
	flags.StringVar(&f.Directory, "directory", "", "`URL` of the CA's ACME directory, where the program does not keep it")
	flags.BoolVar(&f.write, "write", false, "write the files, and store certificates and accounts")
	flags.StringVar(&f.CAFile, "ca-file", "", "PEM `file` with the roots of a private CA that the program used")
	flags.StringVar(&f.Server.Kind, "server", "", "the web server that serves the certificates: nginx or apache (default: both)")
	flags.StringArrayVar(&f.pairs, "set", nil, "with --server: a setting of it as `KEY=VALUE`; may be given several times")
	flags.StringVar(&f.Main.Email, "email", "", "email address of the account, for a new configuration (default: the one of the program's account)")
	flags.BoolVar(&f.Main.AgreeTOS, "agree-tos", false, "agree to the CA's terms of service, for a new configuration")
	flags.StringVar(&f.Main.StateDir, "state-dir", "", "state `directory`, for a new configuration (default "+config.DefaultStateDir+")")
	flags.StringVar(&f.Main.Socket, "socket", "", "control socket, for a new configuration")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (f *importFlags) check() (err error) {
	if !slices.Contains([]string{"", setup.Nginx, setup.Apache}, f.Server.Kind) || f.Server.Kind == "" && len(f.pairs) > 0 {
		return errors.New("--server must be nginx or apache, and --set needs it")
	}
	if f.Server.Settings, err = setup.Settings(f.pairs); err != nil {
		return fmt.Errorf("--set: %w", err)
	}
	return nil
}

func (a *app) importFrom(ctx context.Context, program string, f *importFlags) error {
	if err := f.check(); err != nil {
		return usageError(err)
	}
	m, err := setup.Open(ctx, a.config)
	if err != nil {
		return err
	}
	a.warn(m.Warnings)
	tree, err := imports.Read(program, f.Source)
	if err != nil {
		return err
	}
	if f.write {
		if err := a.askMain(ctx, newAsker(a, f.yes), m, &f.Main, f.CAFile != ""); err != nil {
			return err
		}
	}
	moves, err := m.Import(ctx, tree, f.ImportOptions)
	if err != nil {
		return err
	}
	if !f.write {
		for _, file := range moves.Change.Files {
			a.printf("--- %s\n%s\n", file.Path, shown(file))
		}
	} else if err := moves.Apply(ctx); err != nil {
		return err
	}
	return a.tellImport(tree, moves, f.write)
}

// shown is the content of a file for review: of a secret, the names of its variables alone.
func shown(file setup.File) string {
	if !file.Secret {
		return string(file.Content)
	}
	text := "# mode 0600; the values are not shown\n"
	for line := range strings.Lines(string(file.Content)) {
		if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") && strings.HasSuffix(file.Path, ".env") {
			text += name + "=...\n"
		}
	}
	return text
}

// tellImport sums up what was done, and what is left to do.
func (a *app) tellImport(tree *imports.Tree, moves *setup.Import, written bool) error {
	verb := "would be imported"
	if written {
		verb = "imported"
	}
	waiting := 0
	for _, l := range moves.Lineages {
		last := l.Versions[len(l.Versions)-1]
		a.printf("%s: %s (%d of its versions), valid until %s\n", l.Name, verb, len(l.Versions), date(last.Leaf.NotAfter))
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
	a.printf("stop %s now, so that it does not renew them as well: %s\n", tree.Program, cmp.Or(tree.Stop, "see docs/guides/moving-to-acmed.md"))
	if waiting > 0 {
		return &exitError{exitAttention, errors.New(manualSteps(waiting))}
	}
	return nil
}

func manualSteps(n int) string {
	return "manual steps are needed before acmed can manage " + text.Count(n, "certificate")
}
