package setup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/imports"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/store"
)

// Import is what becomes of the files of another client.
type Import struct {
	Change   *Change
	Lineages []Moved
	Accounts []MovedAccount
	Notes    []string // what somebody must look at, besides the notes in the files

	main string // path of the main file
}

// Moved is one certificate with its versions.
type Moved struct {
	Name     string
	Notes    []string // also in the file
	Deferred bool     // its file is not included yet, because something must be done first
	Versions []*certs.Bundle
}

// MovedAccount is one account.
type MovedAccount struct {
	Issuer, Directory string
	Account           *imports.Account
}

// ImportOptions are the choices of an import.
type ImportOptions struct {
	Main   Main
	CAFile string // roots for CAs that are not configured yet
	Server Server // the web server of this machine; the zero value looks for all
}

// deferredSuffix takes a file out of what "include: conf.d/*.yaml" reads.
const deferredSuffix = ".new"

// importer turns another client's settings into acmed's.
type importer struct {
	ctx  context.Context
	m    *Machine
	tree *imports.Tree
	opts ImportOptions
	out  *Import

	sites map[string][]Site // by kind and settings, looked up once
	names map[string]bool   // of certificates
}

// Import plans an import. It changes nothing. The main file is made when there is none.
func (m *Machine) Import(ctx context.Context, tree *imports.Tree, opts ImportOptions) (*Import, error) {
	if opts.Main.Email == "" {
		opts.Main.Email = tree.Email
	}
	change, err := m.Begin(opts.Main)
	if err != nil {
		return nil, err
	}
	i := &importer{
		ctx: ctx, m: m, tree: tree, opts: opts, out: &Import{Change: change, main: m.Path},
		sites: map[string][]Site{}, names: map[string]bool{},
	}
	for _, problem := range tree.Problems {
		i.note("not imported: %s", problem)
	}
	for _, note := range tree.Notes {
		i.note("%s", note)
	}
	for k := range tree.Lineages {
		if err := i.lineage(&tree.Lineages[k]); err != nil {
			return nil, fmt.Errorf("%s: %w", text.Printable(tree.Lineages[k].Name), err)
		}
	}
	return i.out, change.Check()
}

func (i *importer) note(format string, args ...any) {
	i.out.Notes = append(i.out.Notes, text.Printable(fmt.Sprintf(format, args...)))
}

func (i *importer) lineage(l *imports.Lineage) error {
	if l.Server == "" {
		return errors.New("the URL of its CA's directory is not known; give it with --directory")
	}
	directory := currentDirectory(l.Server)
	issuer, err := i.m.CA(i.out.Change, directory, i.opts.CAFile)
	if err != nil {
		return err
	}
	leaf := l.Versions[len(l.Versions)-1].Leaf
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	name := i.nameFor(l.Name)
	t := &translation{importer: i, l: l, names: names, moved: Moved{Name: name, Notes: l.Notes}, cert: Certificate{
		Name: name, Names: names, Issuers: []string{issuer}, KeyType: string(certs.KeyTypeOf(leaf.PublicKey)),
		ReuseKey: l.ReuseKey, MustStaple: l.MustStaple, Profile: l.Profile, PreferredChain: l.PreferredChain, RenewBefore: l.RenewBefore,
	}}
	if err := certs.CheckName(name); err != nil {
		return err
	}
	if err := t.challenge(); err != nil {
		return err
	}
	t.targets()
	t.moved.Versions = versions(l, issuer, directory)
	for k, note := range t.moved.Notes {
		t.moved.Notes[k] = text.Printable(note)
	}
	d := &Dropin{Notes: t.moved.Notes, Solvers: t.solvers, Certificates: []Certificate{t.cert}}
	content, err := d.Text()
	if err != nil {
		return err
	}
	file := File{Path: i.m.Dropin(name), Content: content, Certificate: name}
	if t.moved.Deferred {
		file.Path += deferredSuffix
	}
	i.out.Change.Files = append(i.out.Change.Files, file)
	i.out.Lineages = append(i.out.Lineages, t.moved)
	i.account(l, issuer, directory)
	return nil
}

// account takes over the account of a lineage. At each CA acmed has one, that of the first certificate there.
func (i *importer) account(l *imports.Lineage, issuer, directory string) {
	a := l.Account
	if a == nil {
		return
	}
	known := slices.IndexFunc(i.out.Accounts, func(m MovedAccount) bool { return m.Issuer == issuer })
	switch {
	case known < 0:
		i.out.Accounts = append(i.out.Accounts, MovedAccount{Issuer: issuer, Directory: directory, Account: a})
	case i.out.Accounts[known].Account.ID != a.ID:
		i.note("%s: %s used another account for it at the same CA; acmed uses %s", l.Name, i.tree.Program, i.out.Accounts[known].Account.URI)
	}
}

// keepVersions is how many earlier versions are taken along, for rollbacks.
const keepVersions = 5

// versions lists the stored versions, of which the last one is active.
func versions(l *imports.Lineage, issuer, directory string) []*certs.Bundle {
	var list []*certs.Bundle
	for n, b := range l.Versions {
		if n < len(l.Versions)-1 && time.Now().After(b.Leaf.NotAfter) {
			continue
		}
		b.Issuer, b.Directory, b.Profile = issuer, directory, l.Profile
		list = append(list, b)
	}
	return list[max(0, len(list)-1-keepVersions):]
}

// currentDirectory replaces addresses that Let's Encrypt has given up.
func currentDirectory(server string) string {
	return strings.Replace(server, "https://acme-v01.api.letsencrypt.org/", "https://acme-v02.api.letsencrypt.org/", 1)
}

// nameFor makes the other client's name of a certificate one that acmed can have and that no other one of the import has.
func (i *importer) nameFor(name string) string {
	name = strings.Map(wordRune, strings.ToLower(name))
	name = strings.TrimLeft(name[:min(len(name), 60)], "-.")
	own := name
	for n := 2; i.names[own]; n++ {
		own = fmt.Sprintf("%s-%d", name, n)
	}
	i.names[own] = true
	return own
}

// Apply writes the files, and puts certificates and accounts into the state directory before the files count: a kill in
// between undoes them, so that no new certificate is ordered for what was not imported. On an error everything but what
// the state directory has is as it was before. A daemon must not run.
func (i *Import) Apply(ctx context.Context) error {
	i.Change.within = func(context.Context) (err error) {
		c, _, err := config.Load(i.main)
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
		return errors.Join(i.Store(s, c, time.Now()), s.Close())
	}
	return i.Change.Apply(ctx)
}

// Store puts versions and accounts into the state directory, without asking a CA. What is there already stays. Call it
// before the configuration is in use: otherwise a new certificate is ordered.
func (i *Import) Store(s *store.Store, c *config.Config, now time.Time) error {
	var errs []error
	for _, a := range i.Accounts {
		errs = append(errs, a.store(s, c))
	}
	for _, l := range i.Lineages {
		if err := l.store(s, now); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (a *MovedAccount) store(s *store.Store, c *config.Config) error {
	is, ok := c.Issuer(a.Issuer)
	if !ok {
		return fmt.Errorf("issuer %s is not configured", a.Issuer)
	}
	if have, err := s.Account(is.Directory, is.Email); err != nil || have != nil {
		return err
	}
	account := &store.Account{URI: a.Account.URI, Key: a.Account.Key, Created: a.Account.Created}
	if a.Account.Contact != "" {
		account.Contacts = []string{"mailto:" + a.Account.Contact}
	}
	return s.SaveAccount(is.Directory, is.Email, account)
}

func (l *Moved) store(s *store.Store, now time.Time) error {
	have, err := s.Load(l.Name)
	if err != nil || have.Current != nil {
		return err
	}
	var last string
	for _, b := range l.Versions {
		if last, err = s.AddVersion(l.Name, b, now); err != nil {
			return err
		}
	}
	return s.Activate(l.Name, last)
}

// secretFile adds a file with credentials to the change, readable by its owner alone, and returns its path: NAME in the
// directory of secrets, or one of the certificate's own where that has other content.
func (i *importer) secretFile(certificate, name string, lines []string) (string, error) {
	body := strings.Join(lines, "\n") + "\n"
	content := []byte(seal([]byte(body)) + body)
	same := func(f File) bool { return f.Secret && string(f.Content) == string(content) }
	if k := slices.IndexFunc(i.out.Change.Files, same); k >= 0 {
		i.out.Change.Files[k].Certificate = "" // of several
		return i.out.Change.Files[k].Path, nil
	}
	for _, path := range []string{filepath.Join(i.m.secrets(), name), filepath.Join(i.m.secrets(), certificate+"-"+name)} {
		if slices.ContainsFunc(i.out.Change.Files, func(f File) bool { return f.Path == path }) {
			continue
		}
		if there, err := vetted.ReadFile(path, 0o004, maxFile); err == nil {
			if string(there) == string(content) {
				return path, nil
			}
			continue
		}
		uid := i.m.secretsOwner(i.opts.Main)
		i.out.Change.Dirs = append(i.out.Change.Dirs, parents(filepath.Dir(path), 0o750)...)
		i.out.Change.Files = append(i.out.Change.Files, File{Path: path, Content: content, Secret: true, UID: uid, Certificate: certificate})
		return path, nil
	}
	return "", fmt.Errorf("%s and %s-%s in %s have other credentials; move one of them away", name, certificate, name, i.m.secrets())
}
