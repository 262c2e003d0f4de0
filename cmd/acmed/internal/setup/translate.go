package setup

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/cmd/acmed/internal/certbot"
)

// translation is one lineage on its way.
type translation struct {
	*importer
	l       *certbot.Lineage
	names   []string
	cert    Certificate
	solvers []Solver
	moved   Moved
}

func (t *translation) look(format string, args ...any) {
	t.moved.Notes = append(t.moved.Notes, fmt.Sprintf(format, args...))
}

// wait keeps the file out of the configuration until somebody has done something.
func (t *translation) wait(format string, args ...any) {
	t.moved.Deferred = true
	t.look(format+fmt.Sprintf("; then rename this file to %s.yaml", t.cert.Name), args...)
}

// authenticator finds the solver for certbot's way to prove names.
func (t *translation) authenticator() {
	kind := t.l.Params["authenticator"]
	dns, isDNS := strings.CutPrefix(kind, "dns-")
	switch {
	case kind == "webroot":
		paths := strings.FieldsFunc(t.l.Params["webroot_path"], func(r rune) bool { return r == ',' || r == ' ' })
		t.webroots(func(name string) string {
			if dir := t.l.Webroot[name]; dir != "" || len(paths) == 0 {
				return dir
			}
			return paths[len(paths)-1]
		})
	case kind == "standalone":
		t.standalone()
	case kind == Nginx, kind == Apache:
		t.webroots(t.rootOf(kind))
	case isDNS:
		t.dns(dns)
	default:
		t.wait("certbot validated the names with its plugin %q; choose a solver, see solvers in acmed.yaml(5)", kind)
	}
}

func (t *translation) webroots(root func(string) string) {
	var without []string
	t.solvers, without = Webroots(t.cert.Name, t.names, root)
	for _, s := range t.solvers {
		t.cert.Solvers = append(t.cert.Solvers, s.Name)
	}
	if len(without) > 0 {
		t.wait("no directory is known that is served for %s on port 80; add a solver for it, such as http-01 with webroot or listen", strings.Join(without, ", "))
	}
}

func (t *translation) standalone() {
	address, port := word(t.l.Params["http01_address"]), cmp.Or(word(t.l.Params["http01_port"]), "80")
	if address == "" && port == "80" {
		t.cert.Solvers = []string{"http-01"}
		return
	}
	t.solvers = []Solver{{Name: t.cert.Name + "-listen", HTTP01: &HTTP01{Listen: net.JoinHostPort(address, port)}}}
	t.cert.Solvers = []string{t.solvers[0].Name}
}

// rootOf looks into the web server's own configuration, as certbot's plugin did.
func (t *translation) rootOf(kind string) func(string) string {
	settings := t.settings(kind)
	key := fmt.Sprint(kind, settings)
	if _, known := t.sites[key]; !known {
		sites, err := Find(t.ctx, kind, settings)
		if err != nil {
			t.note("%s", err)
		}
		t.sites[key] = sites
	}
	return func(name string) string {
		for _, s := range Serves(t.sites[key], name) {
			return s.Root(name)
		}
		return ""
	}
}

// settings are those of the web server's section that certbot was told.
func (t *translation) settings(kind string) map[string]any {
	settings := map[string]any{}
	root := word(t.l.Params[kind+"_server_root"])
	switch {
	case root == "":
	case kind == Nginx && root != "/etc/nginx":
		settings["config"] = filepath.Join(root, "nginx.conf")
	case kind == Apache && root != "/etc/apache2" && root != "/etc/httpd":
		settings["root"] = root
	}
	return settings
}

func (t *translation) installer() {
	switch kind := word(t.l.Params["installer"]); kind {
	case "":
		t.look("certbot installed it nowhere: look for servers that read %s, and let them read the same files below the state directory", filepath.Join(t.tree.Dir, "live", t.l.Name))
	case Nginx, Apache:
		t.cert.Install = []Install{{kind: t.settings(kind)}}
	default:
		t.look("certbot installed it with its plugin %q; add a target, see install in acmed.yaml(5)", kind)
	}
}

// rest names what has no counterpart.
func (t *translation) rest() {
	for _, key := range []string{"pre_hook", "post_hook", "renew_hook"} {
		if hook := word(t.l.Params[key]); hook != "" {
			t.look("certbot ran as %s: %s (acmed runs programs without a shell; see hooks in acmed.yaml(5))", key, hook)
		}
	}
	if strings.EqualFold(t.l.Params["autorenew"], "false") {
		t.look("certbot was set not to renew it; acmed will renew it")
	}
	for _, key := range slices.Sorted(maps.Keys(t.l.Params)) {
		if value := word(t.l.Params[key]); value != "" && !slices.Contains(understood(), key) && !strings.HasPrefix(key, "dns_") {
			t.look("this setting of certbot has no counterpart: %s = %s", key, value)
		}
	}
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

// dnsProvider is what is known of one of certbot's DNS plugins.
type dnsProvider struct {
	provider  string // of acmed-dns
	variables string // for its file
}

// dnsProviders are the plugins of certbot's own repository, by their names without "dns-".
func dnsProviders() map[string]dnsProvider {
	return map[string]dnsProvider{
		"cloudflare":   {"cloudflare", "CF_DNS_API_TOKEN=(dns_cloudflare_api_token)"},
		"digitalocean": {"digitalocean", "DO_AUTH_TOKEN=(dns_digitalocean_token)"},
		"dnsimple":     {"dnsimple", "DNSIMPLE_OAUTH_TOKEN=(dns_dnsimple_token)"},
		"dnsmadeeasy":  {"dnsmadeeasy", "DNSMADEEASY_API_KEY=(dns_dnsmadeeasy_api_key) DNSMADEEASY_API_SECRET=(dns_dnsmadeeasy_secret_key)"},
		"google":       {"gcloud", "GCE_SERVICE_ACCOUNT_FILE=(path of the JSON file)"},
		"linode":       {"linode", "LINODE_TOKEN=(dns_linode_key)"},
		"luadns":       {"luadns", "LUADNS_API_USERNAME=(dns_luadns_email) LUADNS_API_TOKEN=(dns_luadns_token)"},
		"nsone":        {"ns1", "NS1_API_KEY=(dns_nsone_api_key)"},
		"ovh": {"ovh", "OVH_ENDPOINT=(dns_ovh_endpoint) OVH_APPLICATION_KEY=(dns_ovh_application_key) " +
			"OVH_APPLICATION_SECRET=(dns_ovh_application_secret) OVH_CONSUMER_KEY=(dns_ovh_consumer_key)"},
		"route53":     {"route53", "AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... (or nothing, for the role of an EC2 instance)"},
		"sakuracloud": {"sakuracloud", "SAKURACLOUD_ACCESS_TOKEN=(dns_sakuracloud_api_token) SAKURACLOUD_ACCESS_TOKEN_SECRET=(dns_sakuracloud_api_secret)"},
	}
}

// secretsDir is where the packages put the files of DNS accounts.
const secretsDir = "/etc/acmed/secrets"

// dns maps certbot's DNS plugins. The credentials are in a file of another form, which the operator has to write: until
// then the certificate is left out of the configuration.
func (t *translation) dns(plugin string) {
	from := cmp.Or(word(t.l.Params["dns_"+strings.ReplaceAll(plugin, "-", "_")+"_credentials"]), "the environment")
	if plugin == "rfc2136" {
		t.wait("certbot updated the DNS by rfc2136 with %s; add a solver with the section dns-01: { rfc2136: ... } and its key", from)
		return
	}
	known, ok := dnsProviders()[plugin]
	if !ok {
		t.wait("certbot validated the names with its plugin dns-%s with %s; choose a provider of 'acmed-dns list' for a dns-01 solver", plugin, from)
		return
	}
	file := filepath.Join(secretsDir, known.provider+".env")
	t.solvers = []Solver{{Name: t.cert.Name + "-dns", DNS01: map[string]any{"provider": known.provider, "env_file": file}}}
	t.cert.Solvers = []string{t.solvers[0].Name}
	if _, err := os.Stat(file); err != nil {
		t.wait("create %s, mode 0600, with the values of %s, one on each line: %s", file, from, known.variables)
	}
}
