package imports

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// readLego reads the directory of the lego command (--path). How certificates are renewed is not in it, but in the command
// lines of cron jobs and systemd units.
func readLego(t *Tree, src Source) error {
	f, err := openFolder(t.Dir)
	if err != nil {
		return err
	}
	defer f.close()
	found := f.glob("certificates/*.crt")
	if len(found) == 0 {
		return errors.New("there is no certificates/*.crt")
	}
	runs, err := jobs("lego", src.Settings)
	t.problem("how lego is run", err)
	accounts := t.legoAccounts(f)
	for _, file := range found {
		base := strings.TrimSuffix(file, ".crt")
		if strings.HasSuffix(base, ".issuer") {
			continue
		}
		b, err := f.bundle(file, base+".key")
		if err != nil {
			t.problem(path.Base(base), err)
			continue
		}
		l := Lineage{Name: nameOf(b), Versions: []*certs.Bundle{b}}
		l.legoJob(runs)
		var meta struct{ CertURL string }
		t.problem(base, f.json(base+".json", &meta))
		l.legoAccount(accounts, src.Directory, meta.CertURL)
		t.Lineages = append(t.Lineages, l)
	}
	return nil
}

// legoAccount is an account with the folder of its CA.
type legoAccount struct {
	Account
	host string
}

func (t *Tree) legoAccounts(f *folder) (list []legoAccount) {
	for _, file := range f.glob("accounts/*/*/account.json") {
		var a struct {
			Email        string
			Registration struct{ URI string }
		}
		if err := f.json(file, &a); err != nil {
			t.problem(file, err)
			continue
		}
		dir := path.Dir(file)
		text, err := f.read(path.Join(dir, "keys", path.Base(dir)+".key"))
		var key = Account{ID: path.Base(dir), URI: a.Registration.URI, Contact: a.Email}
		if err == nil {
			key.Key, err = certs.ParseKey(text)
		}
		if err != nil {
			t.problem(dir, err)
			continue
		}
		list = append(list, legoAccount{key, path.Base(path.Dir(dir))})
	}
	return list
}

// legoAccount finds account and CA: by --server and --email of the job, or else by the host of the certificate's URL.
func (l *Lineage) legoAccount(accounts []legoAccount, directory, certURL string) {
	l.Server = cmp.Or(l.Server, directory, directoryOf(certURL))
	host := strings.NewReplacer(":", "_", "/", "_").Replace(hostOf(cmp.Or(l.Server, certURL)))
	for i := range accounts {
		if a := &accounts[i]; a.host == host && (l.Account == nil || a.ID == l.Account.ID) {
			l.Account = &a.Account
			return
		}
	}
	l.Account = nil
}

// legoJob takes settings, challenge and hook of the command line that renews the certificate.
func (l *Lineage) legoJob(runs []job) {
	var options map[string][]string
	var j *job
	for i := range runs {
		o := runs[i].flags("accept-tos", "a", "eab", "pem", "pfx", "http", "tls", "dns.disable-cp", "no-bundle", "must-staple", "reuse-key",
			"run-hook-no-bundle", "always-deactivate-authorizations", "dynamic", "no-random-sleep", "ari-disable", "tls-skip-verify")
		if len(o["domains"])+len(o["d"]) == 0 || l.has(slices.Concat(o["domains"], o["d"])...) {
			j, options = &runs[i], o
		}
	}
	if j == nil {
		l.Challenge.Unknown = "lego does not keep how it validates names, and no command line for this certificate was found: " +
			"name the systemd unit, crontab or script with --settings, or choose a solver, see solvers in acmed.yaml(5)"
		return
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := options[n]; len(v) > 0 {
				return v[len(v)-1]
			}
		}
		return ""
	}
	l.Server = cmp.Or(first("server", "s"), j.env["LEGO_SERVER"])
	if email := cmp.Or(first("email", "m"), j.env["LEGO_EMAIL"]); email != "" {
		l.Account = &Account{ID: email}
	}
	l.MustStaple, l.ReuseKey = first("must-staple") == "true", first("reuse-key") == "true"
	l.PreferredChain, l.Profile = first("preferred-chain"), first("profile")
	if days := first("days"); days != "" {
		l.RenewBefore = days + "d"
	}
	if hook := first("renew-hook", "run-hook"); hook != "" {
		l.Hooks = append(l.Hooks, Hook{Text: hook})
	}
	l.Challenge = legoFlags(j, first)
	for _, name := range []string{"pem", "pfx", "csr", "c", "filename"} {
		if v := first(name); v != "" {
			l.note("this option of lego has no counterpart: --%s %s", name, v)
		}
	}
}

func legoFlags(j *job, first func(names ...string) string) Challenge {
	listen := func(flag, usual string) string {
		host, port, err := net.SplitHostPort(first(flag))
		if err != nil || host == "" && port == usual {
			return ""
		}
		return net.JoinHostPort(host, port)
	}
	switch provider := first("dns"); {
	case provider != "":
		return legoChallenge(provider, "the environment of lego in "+j.place, j.env)
	case first("http.webroot") != "":
		return Challenge{Webroot: first("http.webroot"), Webroots: map[string]string{}}
	case first("http") != "":
		return Challenge{Listen: listen("http.port", "80")}
	case first("tls") != "":
		return Challenge{ALPN: true, Listen: listen("tls.port", "443")}
	}
	return Challenge{Unknown: fmt.Sprintf("the command line in %s does not say how names are validated; choose a solver, see solvers in acmed.yaml(5)", j.place)}
}
