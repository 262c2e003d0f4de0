package imports

import (
	"cmp"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// acmeSh is its home directory.
type acmeSh struct {
	*Tree
	f       *folder
	account map[string]string // account.conf
}

// readAcmeSh reads the home directory of acme.sh. Its files say which commands run, so all of them must belong to root or
// to the user that runs acmed.
func readAcmeSh(t *Tree, _ Source) error {
	f, err := openFolder(t.Dir)
	if err != nil {
		return err
	}
	defer f.close()
	text, err := readFile(filepath.Join(t.Dir, "account.conf"))
	if err != nil {
		return err
	}
	a := &acmeSh{t, f, settings(string(text), map[string]string{})}
	for _, conf := range f.glob("*/*.conf") {
		dir := path.Dir(conf)
		domain := strings.TrimSuffix(path.Base(conf), ".conf")
		if domain != strings.TrimSuffix(dir, "_ecc") {
			continue
		}
		l, err := a.lineage(dir, domain)
		if err != nil {
			t.problem(dir, err)
			continue
		}
		t.Lineages = append(t.Lineages, *l)
	}
	if len(t.Lineages)+len(t.Problems) == 0 {
		return errors.New("there is no DOMAIN/DOMAIN.conf")
	}
	t.Stop = filepath.Join(t.Dir, "acme.sh") + " --uninstall-cronjob"
	return nil
}

func (a *acmeSh) lineage(dir, domain string) (*Lineage, error) {
	text, err := readFile(filepath.Join(a.Dir, dir, domain+".conf"))
	if err != nil {
		return nil, err
	}
	conf := settings(string(text), map[string]string{})
	for key, value := range conf {
		conf[key] = decodeAcmeSh(value)
	}
	b, err := a.f.bundle(dir+"/fullchain.cer", dir+"/"+domain+".key")
	if err != nil {
		return nil, err
	}
	l := &Lineage{
		Name: strings.Replace(strings.Replace(dir, "*", "wildcard", 1), "_ecc", "-ecc", 1), Server: directoryNamed(conf["Le_API"]), Versions: []*certs.Bundle{b},
		MustStaple: conf["Le_OCSP_Staple"] == "1", PreferredChain: conf["Le_Preferred_Chain"], Profile: conf["Le_Certificate_Profile"],
		ReuseKey: conf["Le_ForceNewDomainKey"] != "1", // its default
	}
	if !strings.Contains(dir, "_ecc") || len(a.f.glob(domain+"/"+domain+".conf")) == 0 {
		l.Name = strings.TrimSuffix(l.Name, "-ecc")
	}
	if l.Account, err = a.readAccount(l.Server); err != nil {
		a.problem("account at "+l.Server, err)
	}
	l.Challenge = a.challenge(conf)
	a.deploy(l, conf)
	return l, nil
}

// decodeAcmeSh decodes a value that acme.sh keeps in base64.
func decodeAcmeSh(value string) string {
	inner, ok := strings.CutPrefix(value, "__ACME_BASE64__START_")
	if !ok {
		return value
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(inner, "__ACME_BASE64__END_"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// readAccount reads the account at a CA: its folder is called after the host and the path of the directory's URL.
func (a *acmeSh) readAccount(server string) (*Account, error) {
	host, _, _ := strings.Cut(hostOf(server), ":")
	_, rest, _ := strings.Cut(strings.TrimPrefix(server, "https://"), "/")
	dir := path.Join("ca", host, rest)
	text, err := a.f.read(dir + "/account.key")
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	if key, err = certs.ParseKey(text); err != nil {
		return nil, err
	}
	account := &Account{ID: dir, Key: key}
	if text, err := a.f.read(dir + "/ca.conf"); err == nil {
		conf := settings(string(text), map[string]string{})
		account.URI, account.Contact = conf["ACCOUNT_URL"], conf["CA_EMAIL"]
	}
	account.Contact = cmp.Or(account.Contact, a.account["ACCOUNT_EMAIL"])
	return account, nil
}

// challenge translates Le_Webroot, which has one entry for each name, or one for all.
func (a *acmeSh) challenge(conf map[string]string) Challenge {
	names := append([]string{conf["Le_Domain"]}, strings.Split(conf["Le_Alt"], ",")...)
	entries := strings.Split(conf["Le_Webroot"], ",")
	c := Challenge{Webroots: map[string]string{}}
	for i, entry := range entries {
		if entry == "" && i > 0 {
			entry = entries[0]
		}
		if !filepath.IsAbs(entry) {
			return a.otherChallenge(entries[0], conf)
		}
		if i < len(names) {
			c.Webroots[names[i]] = entry
		}
		c.Webroot = entry
	}
	return c
}

func (a *acmeSh) otherChallenge(entry string, conf map[string]string) Challenge {
	listen := func(usual, port string) string {
		host := conf["Le_LocalAddress"]
		if port = cmp.Or(port, usual); host == "" && port == usual {
			return ""
		}
		return net.JoinHostPort(host, port)
	}
	kind, config, _ := strings.Cut(entry, ":")
	api, isDNS := strings.CutPrefix(entry, "dns_")
	switch {
	case entry == "no":
		return Challenge{Listen: listen("80", conf["Le_HTTPPort"])}
	case entry == "alpn":
		return Challenge{ALPN: true, Listen: listen("443", conf["Le_TLSPort"])}
	case kind == "nginx" || kind == "apache":
		site := WebServer{Kind: kind}
		if kind == "nginx" && config != "" {
			site.Settings = map[string]any{"config": config}
		}
		return Challenge{Site: site}
	case isDNS:
		return a.dns(api, conf)
	case entry == "stateless":
		return Challenge{Unknown: "acme.sh validated the names by a stateless answer of the web server; add a solver with http-01: { stateless: true }, and see acmed snippet nginx --stateless"}
	}
	return Challenge{Unknown: fmt.Sprintf("acme.sh validated the names by %q; choose a solver, see solvers in acmed.yaml(5)", entry)}
}

// dns takes over the credentials, which acme.sh saves in account.conf with a prefix, or in the file of the certificate.
func (a *acmeSh) dns(api string, conf map[string]string) Challenge {
	value := func(key string) string {
		return decodeAcmeSh(cmp.Or(conf["SAVED_"+key], conf[key], a.account["SAVED_"+key], a.account[key]))
	}
	file := filepath.Join(a.Dir, "account.conf")
	if api != "nsupdate" {
		return dnsChallenge(inAcmeSh, api, file, value)
	}
	server := cmp.Or(value("NSUPDATE_SERVER"), "127.0.0.1")
	c := Challenge{RFC2136: map[string]any{"nameserver": net.JoinHostPort(server, cmp.Or(value("NSUPDATE_SERVER_PORT"), "53"))}, From: file}
	if zone := value("NSUPDATE_ZONE"); zone != "" {
		c.RFC2136["zone"] = zone
	}
	if key := value("NSUPDATE_KEY"); key != "" {
		text, err := readFile(key)
		if err != nil {
			return Challenge{Unknown: fmt.Sprintf("the key for nsupdate was not imported: %s; add a solver with the section dns-01: { rfc2136: ... } and its key", err)}
		}
		c.TSIGKey, c.From = string(text), key
	}
	return c
}

// deploy takes over the copies of --install-cert and the hooks.
func (a *acmeSh) deploy(l *Lineage, conf map[string]string) {
	reload := Hook{Text: conf["Le_ReloadCmd"]}
	c := Copy{Cert: conf["Le_RealCertPath"], Chain: conf["Le_RealCACertPath"], FullChain: conf["Le_RealFullChainPath"], Key: conf["Le_RealKeyPath"], Reload: reload}
	if c.Cert+c.Chain+c.FullChain+c.Key != "" {
		l.Copies = append(l.Copies, c)
	} else if !reload.Empty() {
		l.Hooks = append(l.Hooks, reload)
	}
	if hook := conf["Le_RenewHook"]; hook != "" {
		l.Hooks = append(l.Hooks, Hook{Text: hook})
	}
	if hooks := conf["Le_DeployHook"]; hooks != "" {
		l.note("acme.sh deployed it by %s; add a target, see install in acmed.yaml(5)", hooks)
	}
	for _, key := range []string{"Le_PreHook", "Le_PostHook"} {
		if hook := conf[key]; hook != "" {
			l.note("acme.sh ran as %s: %s (acmed runs programs without a shell; see hooks in acmed.yaml(5))", strings.TrimPrefix(key, "Le_"), hook)
		}
	}
	for _, file := range []string{c.Cert, c.FullChain} {
		if file != "" && !exists(file) {
			l.note("%s does not exist", file)
		}
	}
}
