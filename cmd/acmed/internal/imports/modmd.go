package imports

import (
	"cmp"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// managedDomain is md.json.
type managedDomain struct {
	Name    string
	Domains []string
	CA      struct {
		Account    string
		URL        string
		URLs       []string
		Challenges []string
	}
	RenewWindow string `json:"renew-window"`
	MustStaple  bool   `json:"must-staple"`
	Profile     string
	DNS01       any    `json:"cmd-dns-01"`
	MDCmd       string `json:"dns01-cmd"`
}

// readModMD reads the store of Apache's mod_md (MDStoreDir). The keys of accounts are encrypted there, with a passphrase that
// the store has too.
func readModMD(t *Tree, _ Source) error {
	f, err := openFolder(t.Dir)
	if err != nil {
		return err
	}
	defer f.close()
	found := f.glob("domains/*/md.json")
	if len(found) == 0 {
		return errors.New("there is no domains/NAME/md.json")
	}
	for _, file := range found {
		l, err := t.managedDomain(f, path.Dir(file))
		if err != nil {
			t.problem(path.Base(path.Dir(file)), err)
			continue
		}
		t.Lineages = append(t.Lineages, l...)
	}
	return nil
}

// managedDomain reads a domain. With several keys it has several certificates.
func (t *Tree) managedDomain(f *folder, dir string) ([]Lineage, error) {
	var md managedDomain
	if err := f.json(dir+"/md.json", &md); err != nil {
		return nil, err
	}
	var list []Lineage
	for _, file := range f.glob(literal(dir) + "/pubcert*.pem") {
		b, err := f.bundle(file, strings.Replace(file, "/pubcert", "/privkey", 1))
		if err != nil {
			return nil, err
		}
		l := Lineage{
			Name: strings.Replace(path.Base(dir), "*", "wildcard", 1), Server: cmp.Or(md.CA.URL, slices.Concat(md.CA.URLs, []string{""})[0]),
			Versions: []*certs.Bundle{b}, MustStaple: md.MustStaple, Profile: md.Profile, Target: WebServer{Kind: "apache", Managed: true},
		}
		if key := strings.TrimSuffix(strings.TrimPrefix(path.Base(file), "pubcert"), ".pem"); key != "" {
			l.Name += "-" + strings.TrimPrefix(key, ".")
		}
		l.managedChallenge(&md)
		if l.Account, err = modMDAccount(f, md.CA.Account); err != nil {
			t.problem("account "+md.CA.Account, err)
		}
		l.note("after the first 'acmed renew', remove MDomain for it from Apache's configuration, and let Apache read it again")
		list = append(list, l)
	}
	if len(list) == 0 {
		return nil, errors.New("it has no certificate yet")
	}
	return list, nil
}

func (l *Lineage) managedChallenge(md *managedDomain) {
	l.Challenge = Challenge{Site: WebServer{Kind: "apache"}}
	if command := md.MDCmd; command != "" {
		argv, _ := words(command)
		l.Challenge = Challenge{Unknown: fmt.Sprintf("Apache set TXT records by %q; add a solver with dns-01: { exec: ... }, whose program gets: present|cleanup FQDN VALUE", strings.Join(argv, " "))}
	}
	if slices.Equal(md.CA.Challenges, []string{"tls-alpn-01"}) {
		l.note("Apache validated the names by tls-alpn-01 itself; acmed uses files that the site serves")
	}
}

func modMDAccount(f *folder, id string) (*Account, error) {
	if id == "" || path.Base(id) != id {
		return nil, errors.New("the domain names no account")
	}
	var a struct {
		URL     string
		Contact []string
	}
	if err := f.json("accounts/"+id+"/account.json", &a); err != nil {
		return nil, err
	}
	text, err := f.read("accounts/" + id + "/account.pem")
	if err != nil {
		return nil, err
	}
	account := &Account{ID: id, URI: a.URL, Contact: mail(a.Contact)}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "ENCRYPTED PRIVATE KEY" {
		account.Key, err = certs.ParseKey(text)
		return account, err
	}
	var store struct{ Key string }
	if err := f.json("md_store.json", &store); err != nil {
		return nil, err
	}
	passphrase, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(store.Key, "="))
	if err != nil {
		return nil, errors.New("the passphrase in md_store.json is not base64url")
	}
	account.Key, err = decryptKey(block.Bytes, passphrase)
	return account, err
}
