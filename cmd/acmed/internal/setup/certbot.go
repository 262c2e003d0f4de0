package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/certbot"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/store"
)

// Import is what becomes of a directory of certbot.
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
	Account           *certbot.Account
}

// deferredSuffix takes a file out of what "include: conf.d/*.yaml" reads.
const deferredSuffix = ".new"

// importer turns certbot's settings into acmed's.
type importer struct {
	ctx    context.Context
	m      *Machine
	tree   *certbot.Tree
	caFile string
	out    *Import
	sites  map[string][]Site // by kind and settings, looked up once
}

// Certbot plans an import. It changes nothing. The main file is made when there is none; roots in caFile are for CAs
// that are not configured yet.
func (m *Machine) Certbot(ctx context.Context, tree *certbot.Tree, main Main, caFile string) (*Import, error) {
	if main.Email == "" && len(tree.Accounts) > 0 {
		main.Email = tree.Accounts[0].Contact
	}
	change, err := m.Begin(main)
	if err != nil {
		return nil, err
	}
	i := &importer{ctx: ctx, m: m, tree: tree, caFile: caFile, out: &Import{Change: change, main: m.Path}, sites: map[string][]Site{}}
	for _, problem := range tree.Problems {
		i.note("not imported: %s", problem)
	}
	for _, hook := range tree.Hooks {
		i.note("certbot runs %s for every certificate; acmed does not: see hooks in acmed.yaml(5)", hook)
	}
	for k := range tree.Lineages {
		if err := i.lineage(&tree.Lineages[k]); err != nil {
			return nil, fmt.Errorf("%s: %w", tree.Lineages[k].Name, err)
		}
	}
	return i.out, change.Check()
}

func (i *importer) note(format string, args ...any) {
	i.out.Notes = append(i.out.Notes, fmt.Sprintf(format, args...))
}

func (i *importer) lineage(l *certbot.Lineage) error {
	directory := currentDirectory(l.Params["server"])
	issuer, err := i.m.CA(i.out.Change, directory, i.caFile)
	if err != nil {
		return err
	}
	leaf := l.Bundles[l.Active].Leaf
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	profile := cmp.Or(l.Params["required_profile"], l.Params["preferred_profile"])
	t := &translation{importer: i, l: l, names: names, moved: Moved{Name: nameFor(l.Name)}, cert: Certificate{
		Name: nameFor(l.Name), Names: names, Issuers: []string{issuer}, KeyType: string(certs.KeyTypeOf(leaf.PublicKey)),
		ReuseKey: isTrue(l.Params["reuse_key"]), MustStaple: isTrue(l.Params["must_staple"]), Profile: profile,
		PreferredChain: word(l.Params["preferred_chain"]), RenewBefore: renewBefore(l.Params["renew_before_expiry"]),
	}}
	if err := certs.CheckName(t.cert.Name); err != nil {
		return err
	}
	t.authenticator()
	t.installer()
	t.rest()
	t.moved.Versions = versions(l, issuer, directory, profile)
	d := &Dropin{Notes: t.moved.Notes, Solvers: t.solvers, Certificates: []Certificate{t.cert}}
	text, err := d.Text()
	if err != nil {
		return err
	}
	file := File{Path: i.m.Dropin(t.cert.Name), Content: text, Certificate: t.cert.Name}
	if t.moved.Deferred {
		file.Path += deferredSuffix
	}
	i.out.Change.Files = append(i.out.Change.Files, file)
	i.out.Lineages = append(i.out.Lineages, t.moved)
	i.account(l, issuer, directory)
	return nil
}

// account takes over the account of a lineage. At each CA acmed has one, that of the first certificate there.
func (i *importer) account(l *certbot.Lineage, issuer, directory string) {
	a := i.tree.Account(l)
	if a == nil {
		i.note("%s: its account %s was not found; acmed will register a new one", l.Name, l.Params["account"])
		return
	}
	known := slices.IndexFunc(i.out.Accounts, func(m MovedAccount) bool { return m.Issuer == issuer })
	switch {
	case known < 0:
		i.out.Accounts = append(i.out.Accounts, MovedAccount{Issuer: issuer, Directory: directory, Account: a})
	case i.out.Accounts[known].Account.ID != a.ID:
		i.note("%s: certbot used another account for it at the same CA; acmed uses %s", l.Name, i.out.Accounts[known].Account.URI)
	}
}

// keepVersions is how many earlier versions are taken along, for rollbacks.
const keepVersions = 5

// versions lists the stored versions up to the active one, which is the last. Those after it were never in use.
func versions(l *certbot.Lineage, issuer, directory, profile string) []*certs.Bundle {
	var list []*certs.Bundle
	for n := 1; n <= l.Active; n++ {
		b := l.Bundles[n]
		if b == nil || n < l.Active && time.Now().After(b.Leaf.NotAfter) {
			continue
		}
		b.Issuer, b.Directory, b.Profile = issuer, directory, profile
		list = append(list, b)
	}
	return list[max(0, len(list)-1-keepVersions):]
}

// currentDirectory replaces addresses that Let's Encrypt has given up.
func currentDirectory(server string) string {
	return strings.Replace(server, "https://acme-v01.api.letsencrypt.org/", "https://acme-v02.api.letsencrypt.org/", 1)
}

// nameFor makes certbot's name of a certificate one that acmed can have.
func nameFor(name string) string {
	name = strings.Map(wordRune, strings.ToLower(name))
	return name[:min(len(name), 64)]
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

func isTrue(text string) bool { return strings.EqualFold(text, "true") }

// word is a setting, "" where certbot writes None.
func word(text string) string {
	if text == "None" {
		return ""
	}
	return text
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
