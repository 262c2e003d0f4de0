package imports

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/pkg/certs"
)

// traefikResolver is what acme.json has of a certificate resolver.
type traefikResolver struct {
	Account *struct {
		Email        string
		Registration struct{ URI string }
		PrivateKey   []byte
	}
	Certificates []struct {
		Domain      struct{ Main string }
		Certificate string
		Key         string
	}
}

// traefikSettings is a certificate resolver of the static configuration. All keys are in lower case.
type traefikSettings struct {
	ACME struct {
		CAServer       string
		PreferredChain string
		Profile        string
		HTTPChallenge  *struct{ EntryPoint string }
		TLSChallenge   any
		DNSChallenge   *struct{ Provider string }
	}
}

type traefikConfig struct {
	CertificatesResolvers map[string]traefikSettings
	EntryPoints           map[string]struct{ Address string }
}

// readTraefik reads acme.json, the static configuration, and the environment of Traefik's unit.
func readTraefik(t *Tree, src Source) error {
	dir, name := filepath.Split(t.Dir)
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer f.close()
	if info, err := f.root.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, "acme.json")
	}
	resolvers := map[string]traefikResolver{}
	if err := f.json(name, &resolvers); err != nil {
		return err
	}
	conf, env, err := traefikConfiguration(src.Settings)
	t.problem("Traefik's configuration", err)
	for _, key := range slices.Sorted(maps.Keys(resolvers)) {
		t.resolver(key, resolvers[key], conf, env, src.Directory)
	}
	if len(t.Lineages)+len(t.Problems) == 0 {
		return errors.New("it has no certificates")
	}
	return nil
}

func (t *Tree) resolver(name string, r traefikResolver, conf traefikConfig, env map[string]string, directory string) {
	var account *Account
	if r.Account != nil {
		key, err := parseKeyDER(r.Account.PrivateKey)
		if err != nil {
			t.problem("account of "+name, err)
		} else {
			account = &Account{ID: name, URI: r.Account.Registration.URI, Contact: r.Account.Email, Key: key}
		}
	}
	s, known := conf.CertificatesResolvers[strings.ToLower(name)]
	server := cmp.Or(s.ACME.CAServer, directory)
	if server == "" && account != nil {
		server = directoryOf(account.URI)
	}
	for _, c := range r.Certificates {
		chain, errChain := base64.StdEncoding.DecodeString(c.Certificate)
		key, errKey := base64.StdEncoding.DecodeString(c.Key)
		var b *certs.Bundle
		err := errors.Join(errChain, errKey)
		if err == nil {
			b, err = newBundle(chain, key)
		}
		if err != nil {
			t.problem(c.Domain.Main, err)
			continue
		}
		l := Lineage{Name: nameOf(b), Server: server, Versions: []*certs.Bundle{b}, Account: account, Profile: s.ACME.Profile, PreferredChain: s.ACME.PreferredChain}
		l.Challenge = Challenge{Unknown: fmt.Sprintf("the static configuration with resolver %s was not found: name its file or Traefik's unit with --settings, "+
			"or choose a solver, see solvers in acmed.yaml(5)", name)}
		if known {
			l.Challenge = l.traefikChallenge(&s, conf, env)
		}
		l.Unserved = "Traefik served it from acme.json; let it read fullchain.pem and privkey.pem below the state directory with tls.certificates, and remove certResolver from its routers"
		t.Lineages = append(t.Lineages, l)
	}
}

func (l *Lineage) traefikChallenge(s *traefikSettings, conf traefikConfig, env map[string]string) Challenge {
	switch a := &s.ACME; {
	case a.DNSChallenge != nil:
		return legoChallenge(a.DNSChallenge.Provider, "the environment of Traefik", env)
	case a.HTTPChallenge != nil:
		l.note("Traefik answered the challenges itself; while it keeps port 80, let it forward them: see behind-a-proxy.md")
		address := conf.EntryPoints[strings.ToLower(a.HTTPChallenge.EntryPoint)].Address
		if host, port, err := net.SplitHostPort(address); err == nil && (host != "" || port != "80") {
			return Challenge{Listen: address}
		}
		return Challenge{}
	}
	l.note("Traefik answered the challenges itself on port 443; while it keeps the port, let it forward http-01: see behind-a-proxy.md")
	return Challenge{ALPN: true}
}

// traefikConfiguration reads the static configuration from a file or from a command line.
func traefikConfiguration(files []string) (conf traefikConfig, env map[string]string, err error) {
	named := len(files) > 0
	var units []string
	if !named {
		files = []string{"/etc/traefik/traefik.yml", "/etc/traefik/traefik.yaml", "/etc/traefik/traefik.toml"}
	}
	doc := map[string]any{}
	for _, file := range files {
		decode := map[string]func([]byte, any) error{".yml": yaml.Unmarshal, ".yaml": yaml.Unmarshal, ".toml": toml.Unmarshal}[filepath.Ext(file)]
		if decode == nil {
			units = append(units, file)
			continue
		}
		text, readErr := readFile(file)
		if isMissing(readErr) && !named {
			continue
		}
		if readErr == nil && decode(text, &doc) != nil {
			readErr = fmt.Errorf("%s cannot be read", file)
		}
		err = errors.Join(err, readErr)
	}
	doc, _ = lowerKeys(doc).(map[string]any)
	env = map[string]string{}
	var list []job
	if !named || len(units) > 0 {
		var jobErr error
		list, jobErr = jobs("traefik", units)
		err = errors.Join(err, jobErr)
	}
	for _, j := range list {
		maps.Copy(env, j.env)
		for key, values := range j.flags() {
			set(doc, strings.Split(strings.ToLower(key), "."), values[len(values)-1])
		}
	}
	return conf, env, errors.Join(err, convert(doc, &conf))
}

// set puts a value into nested maps.
func set(doc map[string]any, path []string, value string) {
	for _, key := range path[:len(path)-1] {
		next, ok := doc[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			doc[key] = next
		}
		doc = next
	}
	if last := path[len(path)-1]; value != "true" || doc[last] == nil {
		doc[last] = value
	}
}

// lowerKeys is what a YAML or TOML document decodes to, with keys in lower case.
func lowerKeys(doc any) any {
	m, ok := doc.(map[string]any)
	if !ok {
		return doc
	}
	lower := map[string]any{}
	for key, value := range m {
		lower[strings.ToLower(key)] = lowerKeys(value)
	}
	return lower
}

// convert decodes such a document into a struct.
func convert(doc, into any) error {
	text, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	return err
}
