package imports

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// dehydrated is its BASEDIR with its configuration.
type dehydrated struct {
	*Tree
	f    *folder
	conf map[string]string
	env  map[string]string // exported for hooks
}

// readDehydrated reads the directory of dehydrated. Its configuration says which programs run, so it must belong to root or
// to the user that runs acmed.
func readDehydrated(t *Tree, src Source) error {
	d := &dehydrated{Tree: t, env: map[string]string{}}
	if err := d.configure(src.Settings); err != nil {
		return err
	}
	certDir := cmp.Or(d.conf["CERTDIR"], filepath.Join(t.Dir, "certs"))
	f, err := openFolder(certDir)
	if err != nil {
		return err
	}
	defer f.close()
	d.f = f
	found := f.glob("*/cert.pem")
	if len(found) == 0 {
		return fmt.Errorf("there is no %s/*/cert.pem", certDir)
	}
	account, err := d.account()
	t.problem("account", err)
	for _, file := range found {
		l, err := d.lineage(path.Dir(file))
		if err != nil {
			t.problem(path.Dir(file), err)
			continue
		}
		l.Account = account
		t.Lineages = append(t.Lineages, *l)
	}
	return nil
}

// configure reads the configuration, with the files that it includes.
func (d *dehydrated) configure(files []string) error {
	d.conf = map[string]string{"BASEDIR": d.Dir, "CA": "letsencrypt"}
	if len(files) == 0 {
		files = []string{"/etc/dehydrated/config", filepath.Join(d.Dir, "config")}
	}
	for _, file := range files {
		text, err := readFile(file)
		switch {
		case isMissing(err) && len(files) == 2:
			continue
		case err != nil:
			return err
		}
		d.conf["SCRIPTDIR"] = filepath.Dir(file)
		d.add(string(text))
		more, _ := filepath.Glob(filepath.Join(cmp.Or(d.conf["CONFIG_D"], "/nonexistent"), "*.sh"))
		for _, file := range more {
			text, err := readFile(file)
			if err != nil {
				return err
			}
			d.add(string(text))
		}
	}
	d.Dir = cmp.Or(d.conf["BASEDIR"], d.Dir)
	return nil
}

func (d *dehydrated) add(text string) {
	settings(text, d.conf)
	for line := range strings.Lines(text) {
		if name, _, ok := assignment(strings.TrimSpace(line)); ok && strings.HasPrefix(strings.TrimSpace(line), "export ") {
			d.env[name] = d.conf[name]
		}
	}
}

// account reads the account at the CA. Its folder is called after the directory's URL, in base64 with the line feed.
func (d *dehydrated) account() (*Account, error) {
	f, err := openFolder(cmp.Or(d.conf["ACCOUNTDIR"], filepath.Join(d.Dir, "accounts")))
	if err != nil {
		return nil, err
	}
	defer f.close()
	dir := base64.RawURLEncoding.EncodeToString([]byte(directoryNamed(d.conf["CA"]) + "\n"))
	text, err := f.read(dir + "/account_key.pem")
	if err != nil {
		return nil, err
	}
	a := &Account{ID: dir}
	if a.Key, err = certs.ParseKey(text); err != nil {
		return nil, err
	}
	var id struct{ URL string }
	var registration struct{ Contact []string }
	err = errors.Join(ignoreMissing(f.json(dir+"/account_id.json", &id)), ignoreMissing(f.json(dir+"/registration_info.json", &registration)))
	a.URI, a.Contact = id.URL, cmp.Or(mail(registration.Contact), d.conf["CONTACT_EMAIL"])
	return a, err
}

func ignoreMissing(err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}

func (d *dehydrated) lineage(dir string) (*Lineage, error) {
	active, err := d.f.bundle(dir+"/fullchain.pem", dir+"/privkey.pem")
	if err != nil {
		return nil, err
	}
	conf := maps.Clone(d.conf)
	own, err := readFile(filepath.Join(d.f.path, dir, "config"))
	if err == nil {
		settings(string(own), conf)
	} else if !isMissing(err) {
		return nil, err
	}
	l := &Lineage{
		Name: strings.Replace(dir, "*", "wildcard", 1), Server: directoryNamed(conf["CA"]), Versions: append(d.earlier(dir, active), active),
		ReuseKey: conf["PRIVATE_KEY_RENEW"] == "no", MustStaple: conf["OCSP_MUST_STAPLE"] == "yes", PreferredChain: conf["PREFERRED_CHAIN"], Profile: conf["ACME_PROFILE"],
	}
	if days := conf["RENEW_DAYS"]; days != "" {
		l.RenewBefore = days + "d"
	}
	l.Challenge = d.challenge(conf)
	if hook := conf["HOOK"]; hook != "" {
		l.Hooks = append(l.Hooks, Hook{Argv: deployHook(hook, active.Leaf.DNSNames)})
	}
	return l, nil
}

// earlier are the earlier versions that are sound, oldest first.
func (d *dehydrated) earlier(dir string, active *certs.Bundle) (list []*certs.Bundle) {
	for _, file := range d.f.glob(literal(dir) + "/fullchain-*.pem") {
		b, err := d.f.bundle(file, strings.Replace(file, "/fullchain-", "/privkey-", 1))
		if err == nil && b.Fingerprint() != active.Fingerprint() && b.Leaf.NotBefore.Before(active.Leaf.NotBefore) {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b *certs.Bundle) int { return a.Leaf.NotBefore.Compare(b.Leaf.NotBefore) })
	return list
}

func (d *dehydrated) challenge(conf map[string]string) Challenge {
	hook := conf["HOOK"]
	switch kind := cmp.Or(conf["CHALLENGETYPE"], "http-01"); {
	case kind == "http-01":
		return Challenge{Dir: cmp.Or(conf["WELLKNOWN"], "/var/www/dehydrated")}
	case kind == "dns-01" && hook != "":
		return Challenge{Command: recordHook(hook), Values: d.env, From: "the configuration of dehydrated"}
	}
	return Challenge{Unknown: fmt.Sprintf("dehydrated validated the names by %s; choose a solver, see solvers in acmed.yaml(5)", conf["CHALLENGETYPE"])}
}

// deployHook calls a hook of dehydrated when a certificate is to be installed, with the arguments that it expects.
func deployHook(hook string, names []string) []string {
	domain := ""
	if len(names) > 0 {
		domain = names[0]
	}
	return []string{"/bin/sh", "-c", `exec "$0" deploy_cert "$1" "$ACMED_KEY" "$ACMED_CERT" "$ACMED_FULLCHAIN" "$ACMED_CHAIN" "$(date +%s)"`, hook, domain}
}

// recordHook calls a hook of dehydrated to set or remove a TXT record. acmed adds the verb, the name and the value.
func recordHook(hook string) []string {
	return []string{"/bin/sh", "-c", `case $1 in present) verb=deploy_challenge ;; *) verb=clean_challenge ;; esac; name=${2#_acme-challenge.}; exec "$0" "$verb" "${name%.}" - "$3"`, hook}
}
