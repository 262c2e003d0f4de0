package imports

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestWords(t *testing.T) {
	for _, test := range []struct {
		line  string
		want  []string
		plain bool
	}{
		{`systemctl reload nginx`, []string{"systemctl", "reload", "nginx"}, true},
		{`a "b c" 'd $e' f\ g ""`, []string{"a", "b c", "d $e", "f g", ""}, true},
		{`a && b`, []string{"a", "&&", "b"}, false},
		{`cp "$X" /y`, []string{"cp", "$X", "/y"}, false},
		{`a 'b`, []string{"a", "b"}, false},
	} {
		got, plain := words(test.line)
		if diff := cmp.Diff(test.want, got); diff != "" || plain != test.plain {
			t.Errorf("%s: plain %v, %s", test.line, plain, diff)
		}
	}
	known := settings("A='x $B'\nexport B=\"y\" # comment\nC=${B}/z\nif [ x ]; then\nD=$B\n", map[string]string{})
	if diff := cmp.Diff(map[string]string{"A": "x $B", "B": "y", "C": "y/z", "D": "y"}, known); diff != "" {
		t.Error(diff)
	}
}

// TestJobs: a crontab, a systemd unit with its environment, and a script.
func TestJobs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/env", "CF_DNS_API_TOKEN=secret\n", 0o600)
	files := map[string]string{
		"cron":         "CF_DNS_API_TOKEN=secret\n5 4 * * * root /usr/bin/lego --dns cloudflare -d a.example renew --days 20 >/dev/null 2>&1\n",
		"lego.service": "[Service]\nEnvironmentFile=-" + dir + "/env\nExecStart=/usr/bin/lego --dns cloudflare \\\n  -d a.example renew --days 20\n",
		"script":       "#!/bin/sh\nexport CF_DNS_API_TOKEN='secret'\ntrue; lego --dns=cloudflare -d a.example renew --days 20 && true\n",
		"prefix":       "CF_DNS_API_TOKEN=secret lego --dns cloudflare -d a.example renew --days 20\n",
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text, 0o644)
		list, err := jobs("lego", []string{filepath.Join(dir, name)})
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %+v, %v", name, list, err)
			continue
		}
		o := list[0].flags()
		if !slices.Equal(o["dns"], []string{"cloudflare"}) || !slices.Equal(o["d"], []string{"a.example"}) || list[0].env["CF_DNS_API_TOKEN"] != "secret" {
			t.Errorf("%s: %v, %+v", name, o, list[0])
		}
	}
	write(t, dir+"/open", files["cron"], 0o666)
	if err := os.Chmod(dir+"/open", 0o666); err != nil {
		t.Fatal(err)
	}
	if list, err := jobs("lego", []string{dir + "/open"}); err == nil || len(list) > 0 {
		t.Error("a crontab that everybody can change was believed")
	}
}

// TestDNSTable: every provider and variable of the table exists, and each client's name leads to its credentials.
func TestDNSTable(t *testing.T) {
	for line := range strings.Lines(dnsTable) {
		fields := strings.Fields(line)
		if fields[0] == "#" {
			continue
		}
		p, err := catalog.Lookup(fields[0])
		if err != nil || len(fields) < 5 {
			t.Errorf("%q: %v", line, err)
			continue
		}
		for _, pair := range fields[4:] {
			name, keys, _ := strings.Cut(pair, "=")
			known := slices.ContainsFunc(slices.Concat(p.Credentials, p.Options), func(v catalog.Variable) bool { return v.Name == name })
			for _, way := range p.Required {
				known = known || slices.ContainsFunc(way, func(group []string) bool { return slices.Contains(group, name) })
			}
			if !known || strings.Count(keys, ",") != 2 {
				t.Errorf("%s: no variable %s, or not three keys in %q", p.Name, name, keys)
			}
		}
	}
	for column, name := range []string{"cloudflare", "cf", "cloudflare"} {
		values := map[string]string{"dns_cloudflare_api_token": "secret", "CF_Token": "secret", "api_token": "secret"}
		c := dnsChallenge(column, name, "x", func(key string) string { return values[key] })
		if c.Provider != "cloudflare" || c.Values["CLOUDFLARE_DNS_API_TOKEN"] != "secret" || catalog.Check(c.Provider, c.Values) != nil {
			t.Errorf("column %d: %+v", column, c)
		}
	}
	if c := dnsChallenge(inAcmeSh, "nobody", "x", nil); !strings.Contains(c.Unknown, "nobody") {
		t.Errorf("got %+v", c)
	}
}

// TestCredentials: what a provider needs is taken over from where each program keeps it.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	a := &acmeSh{Tree: &Tree{Dir: dir}, account: map[string]string{"SAVED_CF_Token": "secret", "NSUPDATE_SERVER": "192.0.2.1", "SAVED_NSUPDATE_KEY": dir + "/key"}}
	if c := a.challenge(map[string]string{"Le_Domain": "a.example", "Le_Webroot": "dns_cf"}); c.Values["CLOUDFLARE_DNS_API_TOKEN"] != "secret" {
		t.Errorf("acme.sh: %+v", c)
	}
	if c := a.challenge(map[string]string{"Le_Domain": "a.example", "Le_Webroot": "dns_nsupdate"}); c.Unknown == "" {
		t.Errorf("acme.sh without the key: %+v", c)
	}
	write(t, dir+"/key", "key \"k\" {...};\n", 0o600)
	if c := a.challenge(map[string]string{"Le_Domain": "a.example", "Le_Webroot": "dns_nsupdate"}); c.TSIGKey == "" || c.RFC2136["nameserver"] != "192.0.2.1:53" {
		t.Errorf("acme.sh: %+v", c)
	}
	c := a.challenge(map[string]string{"Le_Domain": "a.example", "Le_Alt": "b.example,c.example", "Le_Webroot": "/a,/b"})
	if diff := cmp.Diff(map[string]string{"a.example": "/a", "b.example": "/b"}, c.Webroots); diff != "" || c.Webroot != "/b" {
		t.Errorf("%s%q", diff, c.Webroot)
	}
	write(t, dir+"/cf.ini", "dns_cloudflare_api_token = secret\n", 0o600)
	if c := certbotDNS("cloudflare", map[string]string{"dns_cloudflare_credentials": dir + "/cf.ini"}); c.Values["CLOUDFLARE_DNS_API_TOKEN"] != "secret" {
		t.Errorf("certbot: %+v", c)
	}
	write(t, dir+"/rfc.ini", "dns_rfc2136_server = 192.0.2.1\ndns_rfc2136_name = k.\ndns_rfc2136_secret = c2VjcmV0\ndns_rfc2136_algorithm = HMAC-SHA512\n", 0o600)
	if c := certbotDNS("rfc2136", map[string]string{"dns_rfc2136_credentials": dir + "/rfc.ini"}); c.TSIGKey != "hmac-sha512:k.:c2VjcmV0" {
		t.Errorf("certbot: %+v", c)
	}
	i := caddyIssuer{}
	i.Challenges.DNS.Provider = map[string]any{"name": "cloudflare", "api_token": "{env.TOKEN}"}
	if c := i.challenge(map[string]string{"TOKEN": "secret"}); c.Values["CLOUDFLARE_DNS_API_TOKEN"] != "secret" {
		t.Errorf("Caddy: %+v", c)
	}
	env := map[string]string{"CF_DNS_API_TOKEN": "secret", "PATH": "/bin", "CF_ZONE_API_TOKEN_FILE": "/x"}
	if c := legoChallenge("cloudflare", "x", env); len(c.Values) != 2 || c.Values["CF_DNS_API_TOKEN"] != "secret" {
		t.Errorf("lego: %+v", c)
	}
}

// TestHostileFolder: what another user put into a program's directory, or made it lead to, is not read.
func TestHostileFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of another user need root; make test runs as root")
	}
	dir := t.TempDir()
	for dir := dir; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	home := dir + "/home"
	write(t, dir+"/secret", "outside", 0o600)
	write(t, home+"/own", "inside", 0o600)
	write(t, home+"/other", "inside", 0o600)
	write(t, home+"/open", "inside", 0o600)
	write(t, home+"/huge", strings.Repeat("x", maxFile+1), 0o600)
	const user, stranger = acmetest.Nobody, 1234
	for name, uid := range map[string]int{"": user, "own": user, "other": stranger, "open": user, "huge": user} {
		if err := os.Chown(filepath.Join(home, name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	acmetest.AsNobody(t, home, "chmod 666 open; ln -s ../secret up; ln -s "+dir+"/secret absolute; ln -s own link; mkfifo fifo; mkdir dir")
	f, err := openFolder(home)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for _, name := range []string{"own", "link"} {
		if text, err := f.read(name); err != nil || string(text) != "inside" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for _, name := range []string{"other", "open", "huge", "up", "absolute", "fifo", "dir", "../secret", "missing"} {
		if text, err := f.read(name); err == nil {
			t.Errorf("%s was read: %.20q", name, text)
		}
	}
	// A program that decides what runs is believed only if it belongs to root.
	write(t, home+"/account.conf", "", 0o600)
	if err := os.Chown(home+"/account.conf", user, user); err != nil {
		t.Fatal(err)
	}
	if _, err := Read("acme.sh", Source{Dir: home}); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("the configuration of another user was believed: %v", err)
	}
}

// TestDecryptKey: keys as OpenSSL encrypts them, and what is damaged.
func TestDecryptKey(t *testing.T) {
	key, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/key"
	write(t, path, string([]byte(plain)), 0o600)
	for _, options := range [][]string{{"-v2", "aes-256-cbc"}, {"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"}} {
		cmd := exec.Command("openssl", append([]string{"pkcs8", "-topk8", "-in", path, "-passout", "pass:word"}, options...)...)
		text, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		got, err := decryptKey(block.Bytes, []byte("word"))
		if err != nil || !certs.SameKey(got.Public(), key.Public()) {
			t.Errorf("%v: %v", options, err)
		}
		for _, bad := range [][]byte{nil, block.Bytes[:len(block.Bytes)-1], append(slices.Clone(block.Bytes), 0)} {
			if _, err := decryptKey(bad, []byte("word")); err == nil {
				t.Error("a damaged key was read")
			}
		}
		if _, err := decryptKey(block.Bytes, []byte("other")); err == nil {
			t.Error("a wrong passphrase was taken")
		}
	}
}

// TestNothing: a directory without anything of the program is an error that names both.
func TestNothing(t *testing.T) {
	for _, name := range Programs() {
		dir := t.TempDir()
		if _, err := Read(name, Source{Dir: dir}); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read("nobody", Source{}); err == nil {
		t.Error("an unknown program was read")
	}
}

// TestTraefik: files that Traefik 3.6.12 made against the test CA, with certificates of ten years. The keys are of no use
// elsewhere.
func TestTraefik(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/traefik")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme.json", "traefik.yml"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Read("traefik", Source{Dir: dir + "/acme.json", Settings: []string{dir + "/traefik.yml"}})
	if err != nil || len(tree.Lineages) != 1 || len(tree.Problems) > 0 {
		t.Fatalf("%+v, %v", tree, err)
	}
	l := tree.Lineages[0]
	if l.Name != "example.com" || !l.has("www.example.com") || l.Server != "https://127.0.0.1:14010/dir" || l.Challenge.Listen != "127.0.0.1:15010" {
		t.Errorf("got %+v", l)
	}
	if l.Account == nil || l.Account.Key == nil || !strings.HasPrefix(l.Account.URI, "https://127.0.0.1:14010/my-account/") || tree.Email != "ops@example.com" {
		t.Errorf("account %+v", l.Account)
	}
}
