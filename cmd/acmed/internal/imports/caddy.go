package imports

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// caddyPolicy is a part of Caddy's configuration: how the certificates of some names are obtained.
type caddyPolicy struct {
	Subjects  []string
	KeyType   string `json:"key_type"`
	ReuseKeys bool   `json:"reuse_private_keys"`
	MustStap  bool   `json:"must_staple"`
	Issuers   []caddyIssuer
}

type caddyIssuer struct {
	CA         string
	Email      string
	Profile    string
	Challenges struct {
		HTTP struct {
			Disabled bool
			Port     int `json:"alternate_port"`
		}
		ALPN struct {
			Disabled bool
			Port     int `json:"alternate_port"`
		} `json:"tls-alpn"`
		DNS struct {
			Provider map[string]any
		}
	}
}

type caddyConfig struct {
	Apps struct {
		TLS struct {
			Automation struct {
				Policies []caddyPolicy
			}
		}
	}
}

// readCaddy reads Caddy's storage directory, and the configuration that Caddy saved or "caddy adapt" prints.
func readCaddy(t *Tree, src Source) error {
	f, err := openFolder(t.Dir)
	if err != nil {
		return err
	}
	defer f.close()
	found := f.glob("certificates/*/*/*.crt")
	if len(found) == 0 {
		return errors.New("there is no certificates/CA/NAME/NAME.crt")
	}
	conf, env, err := caddySettings(t.Dir, src.Settings)
	t.problem("Caddy's configuration", err)
	for _, file := range found {
		base := strings.TrimSuffix(file, ".crt")
		ca := path.Base(path.Dir(path.Dir(file)))
		if ca == "local" {
			continue // of Caddy's own CA
		}
		b, err := f.bundle(file, base+".key")
		if err != nil {
			t.problem(path.Base(base), err)
			continue
		}
		l := Lineage{Name: nameOf(b), Versions: []*certs.Bundle{b}}
		var meta struct {
			IssuerData struct{ URL, CA string } `json:"issuer_data"`
		}
		t.problem(base, f.json(base+".json", &meta))
		issuer := l.caddyPolicy(conf, ca, env)
		l.Server = cmp.Or(meta.IssuerData.CA, issuer, src.Directory, directoryOf(meta.IssuerData.URL))
		l.Account = t.caddyAccount(f, ca)
		if strings.HasPrefix(t.Dir, "/var/lib/caddy/") {
			l.Hooks = append(l.Hooks, Hook{Text: "systemctl reload caddy"})
		}
		t.Lineages = append(t.Lineages, l)
	}
	return nil
}

// caddySettings reads the configuration, and the environment of Caddy's unit.
func caddySettings(dir string, files []string) (conf caddyConfig, env map[string]string, err error) {
	env = map[string]string{}
	if len(files) == 0 {
		for _, file := range []string{filepath.Join(dir, "../../../.config/caddy/autosave.json"), filepath.Join(dir, "../../config/caddy/autosave.json")} {
			if exists(file) {
				files = append(files, file)
			}
		}
	}
	var units []string
	for _, file := range files {
		if filepath.Ext(file) != ".json" {
			units = append(units, file)
			continue
		}
		// Caddy's user writes it: names, challenges and credentials of its own, nothing that is run.
		f, openErr := openFolder(filepath.Dir(file))
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		err = errors.Join(err, f.json(filepath.Base(file), &conf))
		f.close()
	}
	list, jobErr := jobs("caddy", units)
	for _, j := range list {
		maps.Copy(env, j.env)
	}
	return conf, env, errors.Join(err, jobErr)
}

// caddyKey is what Caddy makes of the URL of a directory in the names of its folders.
func caddyKey(server string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	return strings.Trim(strings.NewReplacer("/", "-", ":", "-").Replace(rest), "-")
}

// caddyPolicy takes settings and challenge of the policy for the certificate, and returns the directory's URL if the
// configuration has it.
func (l *Lineage) caddyPolicy(conf caddyConfig, ca string, env map[string]string) (server string) {
	l.Challenge = Challenge{}
	for _, p := range conf.Apps.TLS.Automation.Policies {
		if len(p.Subjects) > 0 && !l.has(p.Subjects...) {
			continue
		}
		i := slices.IndexFunc(p.Issuers, func(i caddyIssuer) bool { return caddyKey(i.CA) == ca })
		if i < 0 && len(p.Issuers) > 0 {
			i = 0
		}
		l.ReuseKey, l.MustStaple = p.ReuseKeys, p.MustStap
		if i >= 0 {
			if caddyKey(p.Issuers[i].CA) == ca {
				server = p.Issuers[i].CA
			}
			l.Profile = p.Issuers[i].Profile
			l.Challenge = p.Issuers[i].challenge(env)
		}
		break
	}
	if l.Challenge.Provider == "" && l.Challenge.Unknown == "" {
		l.note("Caddy answered the challenges itself; while it keeps port 80, let it forward them: see behind-a-proxy.md")
	}
	l.Unserved = "Caddy served it from its own storage; let it read fullchain.pem and privkey.pem below the state directory with its tls directive, and reload it after renewals"
	return server
}

func (i *caddyIssuer) challenge(env map[string]string) Challenge {
	c := &i.Challenges
	if name, _ := c.DNS.Provider["name"].(string); name != "" {
		return dnsChallenge(inCaddy, name, "Caddy's configuration", func(key string) string {
			text, _ := c.DNS.Provider[key].(string)
			if name, ok := strings.CutPrefix(text, "{env."); ok {
				return cmp.Or(env[strings.TrimSuffix(name, "}")], os.Getenv(strings.TrimSuffix(name, "}")))
			}
			if strings.HasPrefix(text, "{") {
				return ""
			}
			return text
		})
	}
	listen := func(port int) string {
		if port == 0 {
			return ""
		}
		return net.JoinHostPort("", fmt.Sprint(port))
	}
	if c.HTTP.Disabled && !c.ALPN.Disabled {
		return Challenge{ALPN: true, Listen: listen(c.ALPN.Port)}
	}
	return Challenge{Listen: listen(c.HTTP.Port)}
}

// caddyAccount is the first account at a CA.
func (t *Tree) caddyAccount(f *folder, ca string) *Account {
	for _, file := range f.glob("acme/" + ca + "/users/*/*.json") {
		var a struct {
			Location string
			Contact  []string
		}
		err := f.json(file, &a)
		var text []byte
		if err == nil {
			text, err = f.read(strings.TrimSuffix(file, ".json") + ".key")
		}
		account := &Account{ID: path.Dir(file), URI: a.Location, Contact: mail(a.Contact)}
		if err == nil {
			account.Key, err = certs.ParseKey(text)
		}
		if err == nil {
			return account
		}
		t.problem(file, err)
	}
	return nil
}
