package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/certbot"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/store"
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
		Short: "Take over the certificates of certbot",
		Long: `Take over what certbot has: certificates with their keys and earlier versions, accounts, and how each is renewed and
installed. Nothing is ordered, no CA is asked, and nothing of certbot's is changed.

Without --write, the files for conf.d are printed for review. With it they are written, and the certificates and accounts
go into the state directory; the daemon must not run meanwhile. A certificate for which something must be done first, such
as writing down the credentials of a DNS provider, gets a file that ends in .new and says what.

Afterwards stop certbot: systemctl disable --now certbot.timer.`,
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
	flags.StringVar(&f.main.Email, "email", "", "mail address of the account, for a new configuration (default: as certbot knows it)")
	flags.BoolVar(&f.main.AgreeTOS, "agree-tos", false, "agree to the CA's terms of service, for a new configuration")
	flags.StringVar(&f.main.StateDir, "state-dir", "", "state `directory`, for a new configuration (default "+config.DefaultStateDir+")")
	flags.StringVar(&f.main.Socket, "socket", "", "control socket, for a new configuration")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) importCertbot(ctx context.Context, f *importFlags) error {
	m, err := setup.Open(a.config)
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
	} else if err := keep(m, moves); err != nil {
		return err
	}
	return a.tellImport(moves, f.write)
}

// keep writes the files, and puts certificates and accounts into the state directory. The files come first because they
// say where that is. Nobody acts on them before the rest is there: a running daemon does not read them by itself, and
// because it has locked the state directory everything is taken back.
func keep(m *setup.Machine, moves *setup.Import) (err error) {
	dirs := &setup.Change{Dirs: moves.Change.Dirs}
	if err := dirs.Apply(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, moves.Change.Revert(), dirs.Revert())
		}
	}()
	if err := moves.Change.Apply(); err != nil {
		return err
	}
	c, _, err := config.Load(m.Path)
	if err != nil {
		return err
	}
	s, err := store.Open(c.StateDir)
	if locked := (*store.LockedError)(nil); errors.As(err, &locked) {
		return fmt.Errorf("%w; stop the daemon for the import, for example with: systemctl stop acmed", err)
	}
	if err != nil {
		return err
	}
	return errors.Join(moves.Store(s, c, time.Now()), s.Close())
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
		a.printf("nothing was changed; the same with --write does it\n")
		return nil
	}
	a.printf("stop certbot now, so that it does not renew them too: systemctl disable --now certbot.timer\n")
	if waiting > 0 {
		return &exitError{exitAttention, fmt.Errorf("%d certificates wait for something that you must do first", waiting)}
	}
	return nil
}
