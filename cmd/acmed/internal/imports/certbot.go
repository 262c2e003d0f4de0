package imports

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// maxVersions bounds the number of a version.
const maxVersions = 10_000

// certbot is its directory, usually /etc/letsencrypt.
type certbot struct {
	*Tree
	accounts []certbotAccount
}

// certbotAccount is a folder below accounts/.
type certbotAccount struct {
	Account
	server string // path below accounts/, which is the directory's URL without the scheme
}

func readCertbot(tree *Tree, _ Source) error {
	t := &certbot{Tree: tree}
	confs, err := os.ReadDir(filepath.Join(t.Dir, "renewal"))
	if err != nil {
		return err
	}
	t.readAccounts()
	for _, entry := range confs {
		name, isConf := strings.CutSuffix(entry.Name(), ".conf")
		if !isConf {
			continue
		}
		l, err := t.lineage(name)
		if err != nil {
			t.problem(name, err)
			continue
		}
		t.Lineages = append(t.Lineages, *l)
	}
	t.Stop = "systemctl disable --now certbot.timer"
	for _, kind := range []string{"pre", "deploy", "post"} {
		hooks, err := filepath.Glob(filepath.Join(t.Dir, "renewal-hooks", kind, "*"))
		if err != nil {
			return err
		}
		for _, hook := range hooks {
			t.Notes = append(t.Notes, fmt.Sprintf("certbot runs %s for every certificate; acmed does not: see hooks in acmed.yaml(5)", hook))
		}
	}
	return nil
}

func (t *certbot) lineage(name string) (*Lineage, error) {
	conf := filepath.Join(t.Dir, "renewal", name+".conf")
	sections, err := readConf(conf)
	if err != nil {
		return nil, err
	}
	params := sections["renewalparams"]
	if params == nil {
		return nil, fmt.Errorf("%s has no section renewalparams", conf)
	}
	live, err := filepath.EvalSymlinks(filepath.Join(t.Dir, "live", name, "cert.pem"))
	if err != nil {
		return nil, err
	}
	active, err := number(filepath.Base(live))
	if err != nil {
		return nil, err
	}
	l := CertbotLineage(name, t.Dir, params, sections["webroot_map"])
	l.RenewBefore = renewBefore(sections[""]["renew_before_expiry"])
	l.Account = t.account(params)
	if l.Account == nil {
		l.note("its account %s was not found; acmed will register a new one", params["account"])
	}
	l.Versions, err = certbotVersions(filepath.Dir(live), active)
	return l, err
}

// CertbotLineage is what the settings of a renewal file say.
func CertbotLineage(name, dir string, params, webroots map[string]string) *Lineage {
	l := &Lineage{
		Name: name, Server: params["server"], ReuseKey: isTrue(params["reuse_key"]), MustStaple: isTrue(params["must_staple"]),
		Profile: cmp.Or(params["required_profile"], params["preferred_profile"]), PreferredChain: word(params["preferred_chain"]),
	}
	l.Challenge = certbotChallenge(params, webroots)
	switch kind := word(params["installer"]); kind {
	case "":
		l.Unserved = fmt.Sprintf("certbot installed it nowhere: look for servers that read %s, and let them read the same files below the state directory", filepath.Join(dir, "live", name))
	case "nginx", "apache":
		l.Target = webServer(kind, params)
	default:
		l.note("certbot installed it with its plugin %q; add a target, see install in acmed.yaml(5)", kind)
	}
	if hook := word(params["renew_hook"]); hook != "" {
		l.Hooks = append(l.Hooks, Hook{Text: hook})
	}
	for _, key := range []string{"pre_hook", "post_hook"} {
		if hook := word(params[key]); hook != "" {
			l.note("certbot ran as %s: %s (acmed runs programs without a shell; see hooks in acmed.yaml(5))", key, hook)
		}
	}
	if strings.EqualFold(params["autorenew"], "false") {
		l.note("certbot was set not to renew it; acmed will renew it")
	}
	for _, key := range slices.Sorted(maps.Keys(params)) {
		if value := word(params[key]); value != "" && !slices.Contains(understood(), key) && !strings.HasPrefix(key, "dns_") {
			l.note("this setting of certbot has no counterpart: %s = %s", key, value)
		}
	}
	return l
}

// webServer is that of certbot's plugin, with its settings.
func webServer(kind string, params map[string]string) WebServer {
	settings := map[string]any{}
	root := word(params[kind+"_server_root"])
	switch {
	case root == "":
	case kind == "nginx" && root != "/etc/nginx":
		settings["config"] = filepath.Join(root, "nginx.conf")
	case kind == "apache" && root != "/etc/apache2" && root != "/etc/httpd":
		settings["root"] = root
	}
	return WebServer{Kind: kind, Settings: settings}
}

// certbotChallenge finds the counterpart of certbot's authenticator.
func certbotChallenge(params, webroots map[string]string) Challenge {
	kind := params["authenticator"]
	plugin, isDNS := strings.CutPrefix(kind, "dns-")
	switch {
	case kind == "webroot":
		c := Challenge{Webroots: webroots}
		if c.Webroots == nil {
			c.Webroots = map[string]string{}
		}
		if paths := strings.FieldsFunc(params["webroot_path"], func(r rune) bool { return r == ',' || r == ' ' }); len(paths) > 0 {
			c.Webroot = paths[len(paths)-1]
		}
		return c
	case kind == "standalone":
		address, port := word(params["http01_address"]), cmp.Or(word(params["http01_port"]), "80")
		if address == "" && port == "80" {
			return Challenge{}
		}
		return Challenge{Listen: net.JoinHostPort(address, port)}
	case kind == "nginx", kind == "apache":
		return Challenge{Site: webServer(kind, params)}
	case isDNS:
		return certbotDNS(plugin, params)
	}
	return Challenge{Unknown: fmt.Sprintf("certbot validated the names with its plugin %q; choose a solver, see solvers in acmed.yaml(5)", kind)}
}

// certbotDNS takes over the credentials of a DNS plugin.
func certbotDNS(plugin string, params map[string]string) Challenge {
	file := word(params["dns_"+strings.ReplaceAll(plugin, "-", "_")+"_credentials"])
	values := map[string]string{"dns_google_credentials": file}
	if plugin != "google" && file != "" {
		if sections, err := readConf(file); err == nil {
			values = sections[""]
		}
	}
	if plugin == "rfc2136" {
		return rfc2136(values["dns_rfc2136_server"], values["dns_rfc2136_port"], strings.ToLower(cmp.Or(values["dns_rfc2136_algorithm"], "hmac-md5")),
			values["dns_rfc2136_name"], values["dns_rfc2136_secret"], file)
	}
	return dnsChallenge(inCertbot, plugin, cmp.Or(file, "the environment"), func(key string) string { return values[key] })
}

// rfc2136 is a name server that takes dynamic updates, with its key.
func rfc2136(server, port, algorithm, name, secret, from string) Challenge {
	if server == "" || name == "" || secret == "" {
		return Challenge{Unknown: fmt.Sprintf("the DNS was updated by rfc2136 with %s; add a solver with the section dns-01: { rfc2136: ... } and its key", cmp.Or(from, "the environment"))}
	}
	return Challenge{RFC2136: map[string]any{"nameserver": net.JoinHostPort(server, cmp.Or(port, "53"))}, TSIGKey: algorithm + ":" + name + ":" + secret, From: from}
}

// number is the N of certN.pem.
func number(file string) (int, error) {
	text, found := strings.CutPrefix(strings.TrimSuffix(file, ".pem"), "cert")
	n, err := strconv.Atoi(text)
	if !found || err != nil || n < 1 || n > maxVersions {
		return 0, fmt.Errorf("%q is not the file of a version", file)
	}
	return n, nil
}

// certbotVersions reads the versions up to the active one, which must be sound. An earlier one that is damaged is left out;
// those after it were never in use.
func certbotVersions(archive string, active int) ([]*certs.Bundle, error) {
	files, err := filepath.Glob(filepath.Join(archive, "cert*.pem"))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, file := range files {
		if n, err := number(filepath.Base(file)); err == nil && n <= active {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	if !slices.Contains(numbers, active) {
		return nil, fmt.Errorf("%s has no version %d", archive, active)
	}
	var list []*certs.Bundle
	for _, n := range numbers {
		chain, err := readFile(filepath.Join(archive, fmt.Sprintf("fullchain%d.pem", n)))
		var key []byte
		if err == nil {
			key, err = readFile(filepath.Join(archive, fmt.Sprintf("privkey%d.pem", n)))
		}
		var b *certs.Bundle
		if err == nil {
			b, err = newBundle(chain, key)
		}
		switch {
		case err == nil:
			list = append(list, b)
		case n == active:
			return nil, fmt.Errorf("the active version: %w", err)
		}
	}
	return list, nil
}

// readAccounts finds the folders with a key below accounts/.
func (t *certbot) readAccounts() {
	root := filepath.Join(t.Dir, "accounts")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "private_key.json" {
			return err
		}
		a, err := readCertbotAccount(filepath.Dir(path))
		if err != nil {
			t.problem(filepath.Dir(path), err)
			return nil
		}
		server, err := filepath.Rel(root, filepath.Dir(filepath.Dir(path)))
		t.accounts = append(t.accounts, certbotAccount{*a, filepath.ToSlash(server)})
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.problem(root, err)
	}
}

func readCertbotAccount(dir string) (*Account, error) {
	a := &Account{ID: filepath.Base(dir)}
	text, err := readFile(filepath.Join(dir, "private_key.json"))
	if err != nil {
		return nil, err
	}
	if a.Key, err = parseJWK(text); err != nil {
		return nil, err
	}
	var registration struct {
		URI  string `json:"uri"`
		Body struct {
			Contact []string `json:"contact"`
		} `json:"body"`
	}
	// Without it the CA finds the account by its key.
	if text, err := readFile(filepath.Join(dir, "regr.json")); err == nil && json.Unmarshal(text, &registration) == nil {
		a.URI = registration.URI
		a.Contact = mail(registration.Body.Contact)
	}
	var meta struct {
		Created time.Time `json:"creation_dt"`
	}
	if text, err := readFile(filepath.Join(dir, "meta.json")); err == nil && json.Unmarshal(text, &meta) == nil {
		a.Created = meta.Created
	}
	return a, nil
}

// account returns the account that a renewal file names, or nil.
func (t *certbot) account(params map[string]string) *Account {
	server := strings.TrimPrefix(params["server"], "https://")
	for i := range t.accounts {
		if a := &t.accounts[i]; a.ID == params["account"] && (a.server == server || strings.HasSuffix(params["server"], a.server)) {
			return &a.Account
		}
	}
	// An account of an earlier URL of the same CA is found by its ID alone.
	for i := range t.accounts {
		if t.accounts[i].ID == params["account"] {
			return &t.accounts[i].Account
		}
	}
	return nil
}

// readConf reads the INI dialect of renewal files: key = value, [section], [[subsection]], # comments. Keys before the
// first section are in the section "".
func readConf(path string) (map[string]map[string]string, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	sections := map[string]map[string]string{"": {}}
	section := ""
	scanner := bufio.NewScanner(strings.NewReader(string(text)))
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = strings.TrimSpace(strings.Trim(line, "[]"))
			if sections[section] == nil {
				sections[section] = map[string]string{}
			}
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found {
			return nil, fmt.Errorf("%s:%d: neither a section nor key = value", path, n)
		}
		sections[section][unquote(key)] = unquote(value)
	}
	return sections, scanner.Err()
}

func unquote(text string) string {
	text = strings.TrimSpace(text)
	if n := len(text); n > 1 && text[0] == text[n-1] && (text[0] == '"' || text[0] == '\'') {
		return text[1 : n-1]
	}
	return text
}

// understood lists the settings of renewal files that are translated, or mean nothing outside of certbot.
func understood() []string {
	return []string{
		"account", "apache_server_root", "archive_dir", "authenticator", "autorenew", "config_dir", "elliptic_curve", "http01_address",
		"http01_port", "installer", "key_type", "logs_dir", "must_staple", "nginx_server_root", "post_hook", "pre_hook", "pref_challs",
		"preferred_chain", "preferred_profile", "renew_before_expiry", "renew_hook", "required_profile", "reuse_key", "rsa_key_size",
		"server", "webroot_path", "work_dir",
	}
}

// renewBefore turns "30 days" into 30d; "" for certbot's default and for what cannot be read.
func renewBefore(text string) string {
	var n int
	var unit string
	if _, err := fmt.Sscanf(text, "%d %s", &n, &unit); err != nil || n <= 0 {
		return ""
	}
	switch strings.TrimSuffix(unit, "s") {
	case "day":
		return fmt.Sprintf("%dd", n)
	case "week":
		return fmt.Sprintf("%dd", 7*n)
	case "hour":
		return fmt.Sprintf("%dh", n)
	}
	return ""
}

func isTrue(text string) bool { return strings.EqualFold(text, "true") }

// word is a setting, "" where certbot writes None.
func word(text string) string {
	if text == "None" {
		return ""
	}
	return text
}
