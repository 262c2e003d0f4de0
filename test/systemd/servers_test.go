package systemd

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// server is one of the tested recipes of docs/guides/more-servers.md: how its package is set up, with the settings of the page.
type server struct {
	setup   string // a script; SETTINGS stands for the settings, one on each line
	unit    string
	connect string // for openssl s_client
}

// app is the unit of a program that reads /etc/ssl/app.
const app = "groupadd --force --system app; id app >/dev/null 2>&1 || useradd --system -g app app\nprintf '[Service]\\nUser=app\\nExecStart=%s\\n' >/etc/systemd/system/app.service; systemctl daemon-reload\n"

// servers are all tested recipes, by the first cell of their rows.
func servers() map[string][]server {
	return map[string][]server{
		"Exim 4.96": {{
			setup: "cat >/etc/exim4/exim4.conf.localmacros <<'.'\nSETTINGS\n.\nupdate-exim4.conf\n",
			unit:  "exim4", connect: "127.0.0.1:25 -starttls smtp",
		}},
		"vsftpd 3.0": {{
			setup: "cat >>/etc/vsftpd.conf <<'.'\nSETTINGS\n.\n",
			unit:  "vsftpd", connect: "127.0.0.1:21 -starttls ftp",
		}},
		"ProFTPD 1.3.8": {{
			setup: "systemctl stop vsftpd; dpkg -r vsftpd; dpkg -i /var/cache/acmed/proftpd-*.deb\necho LoadModule mod_tls.c >>/etc/proftpd/modules.conf\ncat >/etc/proftpd/conf.d/tls.conf <<'.'\nSETTINGS\n.\n",
			unit:  "proftpd", connect: "127.0.0.1:21 -starttls ftp",
		}},
		"MariaDB 10.11": {{
			setup: "(echo '[mariadbd]'; cat <<'.'\nSETTINGS\n.\n) >/etc/mysql/mariadb.conf.d/90-tls.cnf\n",
			unit:  "mariadb", connect: "127.0.0.1:3306 -starttls mysql",
		}},
		"OpenLDAP 2.5": {{
			setup: "(printf 'dn: cn=config\\nchangetype: modify\\n'; sed 's/^\\([^:]*\\):.*/replace: \\1\\n&\\n-/' <<'.'\nSETTINGS\n.\n) >/root/tls.ldif\nsystemctl stop slapd; setpriv --reuid=openldap --regid=openldap --init-groups slapmodify -F /etc/ldap/slapd.d -b cn=config </root/tls.ldif\n",
			unit:  "slapd", connect: "127.0.0.1:389 -starttls ldap",
		}},
		"Cockpit 287": {{
			unit: "cockpit.socket", connect: "127.0.0.1:9090",
		}},
		"Prosody 0.12": {{
			setup: "echo 'VirtualHost \"chat.example.com\"' >/etc/prosody/conf.d/chat.cfg.lua; grep -qxF 'SETTINGS' /etc/prosody/prosody.cfg.lua\n",
			unit:  "prosody", connect: "127.0.0.1:5222 -starttls xmpp -xmpphost chat.example.com",
		}},
		"coturn 4.6": {{
			setup: "cat >>/etc/turnserver.conf <<'.'\nlistening-ip=127.0.0.1\nSETTINGS\n.\n",
			unit:  "coturn", connect: "127.0.0.1:5349",
		}},
		"Node.js 18, Python 3.11 behind systemd": {{
			setup: fmt.Sprintf(app, "/usr/bin/node /srv/app.js") + "cat >/srv/app.js <<'.'\nconst fs = require('fs')\n" +
				"require('https').createServer({ cert: fs.readFileSync('/etc/ssl/app/app.crt'), key: fs.readFileSync('/etc/ssl/app/app.key') }).listen(8443, '127.0.0.1')\n.\n",
			unit: "app", connect: "127.0.0.1:8443",
		}, {
			setup: fmt.Sprintf(app, "/usr/bin/python3 /srv/app.py") + "cat >/srv/app.py <<'.'\nimport http.server, ssl\ncontext = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)\n" +
				"context.load_cert_chain('/etc/ssl/app/app.crt', '/etc/ssl/app/app.key')\nserver = http.server.ThreadingHTTPServer(('127.0.0.1', 8443), http.server.SimpleHTTPRequestHandler)\n" +
				"server.socket = context.wrap_socket(server.socket, server_side=True)\nserver.serve_forever()\n.\n",
			unit: "app", connect: "127.0.0.1:8443",
		}},
		"stunnel 5.68": {{
			setup: "(cat <<'.'\nforeground = yes\nSETTINGS\n.\nprintf '[web]\\naccept = 127.0.0.1:8443\\nconnect = 127.0.0.1:80\\n') >/etc/stunnel/web.conf\n",
			unit:  "stunnel@web", connect: "127.0.0.1:8443",
		}},
	}
}

// recipe is a row of the page.
type recipe struct{ target, settings string }

var quoted = regexp.MustCompile("`([^`]+)`")

// recipes reads the rows below the heading of the tested recipes.
func recipes(t *testing.T) (rows []string, found map[string]recipe) {
	t.Helper()
	text, err := os.ReadFile("../../docs/guides/more-servers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(text), "\n## Tested recipes\n")
	if !ok {
		t.Fatal("more-servers.md has no tested recipes")
	}
	part, _, _ = strings.Cut(part, "\n## ")
	found = map[string]recipe{}
	quotes := func(cell, sep string) string {
		var list []string
		for _, match := range quoted.FindAllStringSubmatch(cell, -1) {
			list = append(list, match[1])
		}
		return strings.Join(list, sep)
	}
	for line := range strings.Lines(part) {
		cells := strings.Split(line, " | ")
		if name, ok := strings.CutPrefix(cells[0], "| "); ok && len(cells) == 3 && name != "server" {
			rows = append(rows, name)
			found[name] = recipe{"{ " + quotes(cells[1], ", ") + " }", quotes(cells[2], "\n")}
		}
	}
	return rows, found
}

// TestServers runs every tested recipe of docs/guides/more-servers.md against Debian's package, with its unit, paths and ports, and
// the daemon in its own unit: installed, renewed while the server runs, and undone.
func TestServers(t *testing.T) {
	t.Parallel()
	rows, found := recipes(t)
	known := servers()
	for _, name := range rows {
		if known[name] == nil {
			t.Errorf("%s is tried by no test", name)
		}
	}
	for name := range known {
		if !slices.Contains(rows, name) {
			t.Errorf("more-servers.md has no %s", name)
		}
	}
	if t.Failed() {
		return
	}
	m := boot(t)
	m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
	m.copy(debs(t), "/root/acmed.deb", 0o644)
	m.do("dpkg", "-i", "/root/acmed.deb")
	m.connect("")
	m.shell(strings.ReplaceAll(fromFiles, "webroot: { webroot: /var/www/html }", "") + "mkdir -p /etc/acmed/conf.d /etc/systemd/system/acmed-single.service.d\n" +
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=before -keyout /root/before.key -out /root/before.pem 2>/dev/null; cat /root/before.pem /root/before.key >/root/before.both\n")
	var dirs []string
	for _, r := range found {
		dirs = append(dirs, target(t, r)["dir"])
	}
	slices.Sort(dirs)
	m.write("/etc/systemd/system/acmed-single.service.d/paths.conf", "[Service]\nReadWritePaths=-"+strings.Join(slices.Compact(dirs), " -")+"\n")
	for _, name := range rows {
		for _, s := range known[name] {
			t.Run(strings.Fields(name)[0], func(t *testing.T) {
				on := *m
				on.t = t
				on.serve(s, found[name])
			})
		}
	}
}

// target is the file section of a row, as far as it is made of words.
func target(t *testing.T, r recipe) map[string]string {
	t.Helper()
	var section map[string]any
	if err := yaml.Unmarshal([]byte(r.target), &section); err != nil {
		t.Fatalf("%s: %v", r.target, err)
	}
	words := map[string]string{}
	for key, value := range section {
		if word, ok := value.(string); ok {
			words[key] = word
		}
	}
	return words
}

// serve sets one server up with a certificate of its own, and lets acmed do the rest.
func (m *machine) serve(s server, r recipe) {
	t := m.t
	t.Helper()
	m.shell(strings.ReplaceAll(s.setup, "SETTINGS", r.settings))
	at := target(t, r)
	for name, from := range map[string]string{at["fullchain"]: "before.pem", at["key"]: "before.key", at["combined"]: "before.both"} {
		if name != "" {
			m.do("install", "-D", "-m", "0640", "-g", orRoot(at["group"]), "/root/"+from, at["dir"]+"/"+name)
		}
	}
	m.do("systemctl", "restart", s.unit)
	defer m.do("systemctl", "stop", s.unit)
	before := m.presents(s, "CN = before")
	m.write("/etc/acmed/conf.d/one.yaml", "certificates: [ { name: one, names: [chat.example.com], solvers: [http-01], install: [ { file: "+r.target+" } ] } ]\n")
	m.do("systemctl", "restart", "acmed-single")
	m.do("acmed", "renew", "one")
	first := m.presents(s, "CN = Pebble")
	m.do("acmed", "renew", "--force", "--yes", "one")
	if second := m.presents(s, "CN = Pebble"); second == first {
		t.Error("the old certificate is served after the renewal")
	}
	m.do("acmed", "uninstall", "one")
	if after := m.presents(s, "CN = before"); after != before {
		t.Errorf("after the undo %q is served, before it was %q", after, before)
	}
	m.shell("rm /etc/acmed/conf.d/one.yaml; systemctl stop acmed-single; rm -rf /var/lib/acmed/certs/one")
}

func orRoot(group string) string {
	if group == "" {
		return "root"
	}
	return group
}

// presents is the serial number of the certificate that a client gets, once its issuer is the one that is wanted.
func (m *machine) presents(s server, issuer string) (serial string) {
	m.t.Helper()
	m.until("the server presents the certificate of "+issuer, func() error {
		out, err := m.try("bash", "-c", "timeout 10 openssl s_client -servername chat.example.com -connect "+s.connect+" </dev/null 2>&1 | openssl x509 -noout -issuer -serial")
		if err == nil && !strings.Contains(out, issuer) {
			err = fmt.Errorf("it presents %s", out)
		}
		if err != nil {
			state, _ := m.try("bash", "-c", "systemctl status --no-pager "+s.unit+"; journalctl --no-pager -n 20 -u "+s.unit)
			err = fmt.Errorf("%w\n%s", err, state)
		}
		serial = out
		return err
	})
	return serial
}
