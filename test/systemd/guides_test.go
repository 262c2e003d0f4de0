package systemd

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// guide is what a guide needs besides its own text.
type guide struct {
	before string // a shell script that makes the reader's machine what the guide takes for granted
	ca     string // further options of the CA
}

// What guides begin with. No web server runs but the one that is started here.
const (
	onNginx  = "rm -f /etc/nginx/sites-enabled/*; printf 'server {\\n\\tlisten 80;\\n\\tserver_name example.com www.example.com;\\n\\troot /var/www/html;\\n}\\n' >/etc/nginx/sites-enabled/www; systemctl --quiet enable --now nginx\n"
	onApache = "printf '<VirtualHost *:80>\\n\\tServerName example.com\\n\\tServerAlias www.example.com\\n\\tDocumentRoot /var/www/html\\n</VirtualHost>\\n' >/etc/apache2/sites-available/000-default.conf; systemctl --quiet enable --now apache2\n"
	noTLS    = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=self-signed -keyout /etc/ssl/self-signed.key -out /etc/ssl/self-signed.pem 2>/dev/null; cat /etc/ssl/self-signed.key >>/etc/ssl/self-signed.pem\n"
	internal = "echo 127.0.0.1 ca.internal >>/etc/hosts; systemd-run --quiet --unit=internalca /usr/local/bin/testca -host ca.internal -listen 127.0.0.1:9000 -http-port 80 -tls-port 443 -root /etc/acmed/internal-root.pem\n" +
		"until test -s /etc/acmed/internal-root.pem; do sleep 0.1; done\n"
	fromFiles = "printf 'email: ops@example.com\\nagree_tos: true\\ninclude: conf.d/*.yaml\\nsolvers: [ { name: webroot, http-01: { webroot: /var/www/html } } ]\\n' >/etc/acmed/acmed.yaml\n"
	enabled   = onNginx + fromFiles + "mkdir -p /etc/acmed/conf.d; printf 'certificates: [ { name: www, names: [example.com, www.example.com], solvers: [webroot], install: [ { nginx: {} } ] } ]\\n' >/etc/acmed/conf.d/www.yaml\n" +
		"systemctl enable --quiet --now acmed-single; acmed renew\n"
	zone     = "echo nameserver 127.0.0.1 >/etc/resolv.conf; printf '$TTL 60\\n@ SOA ns1 hostmaster 1 60 60 3600 1\\n@ NS ns1\\nns1 A 23.192.0.2\\n@ A 23.192.0.2\\n' >/var/lib/bind/example.com.zone; chown bind: /var/lib/bind/example.com.zone\n"
	pinned   = "install -D -m 0644 /root/issuing.pem /etc/acmed/trust/firmware-1.2.pem\n" + enabled + "acmed renew --force; rm /etc/acmed/conf.d/www.yaml\n"
	receiver = fromFiles + "printf '#!/bin/sh\\nexec cat\\n' >/usr/local/bin/page-operator; chmod 755 /usr/local/bin/page-operator; printf 'certificates: [ { name: www, names: [example.com] } ]\\n' >/etc/acmed/conf.d/www.yaml; systemctl --quiet enable --now acmed-single\n"
	certbot  = onNginx + "certbot certonly -q --webroot -w /var/www/html -d example.com -d www.example.com --agree-tos -m ops@example.com\n" +
		"certbot certonly -q --webroot -w /var/www/html -d example.org --agree-tos -m ops@example.com; sed -i 's/^authenticator = .*/authenticator = dns-cloudflare/;/webroot/d' /etc/letsencrypt/renewal/example.org.conf\n"
)

// guides are all of docs/guides. One without an entry, or an entry without a guide, fails.
func guides() map[string]guide {
	return map[string]guide{
		"apache":              {before: onApache},
		"behind-a-proxy":      {before: onNginx + noTLS},
		"dns":                 {before: zone, ca: "-ask 23.192.0.2:53"},
		"emergencies":         {before: enabled},
		"fleets":              {before: onNginx},
		"monitoring":          {before: enabled},
		"moving-from-certbot": {before: certbot},
		"nginx":               {before: onNginx},
		"notifications":       {before: receiver},
		"private-ca":          {before: internal},
		"systemd":             {before: onNginx},
		"trust":               {before: pinned},
	}
}

// elsewhere are the guides whose commands another test runs.
func elsewhere() map[string]string {
	return map[string]string{
		"files-and-mail":  "test/e2e/recipes_test.go",
		"more-servers":    "test/e2e/recipes_more_test.go",
		"moving-to-acmed": "test/e2e/imports_test.go",
		"ssh":             "pkg/installers/ssh/guide_test.go",
	}
}

// TestGuides does what every guide says, as its reader would: each yaml, nginx, apache, haproxy and ini block whose first
// line is a comment with a path becomes that file, each line after "$ " is run in a root shell, and what is shown below it
// has to be in its output, numbers aside. Let's Encrypt is a CA on the machine, which has no other network.
func TestGuides(t *testing.T) {
	files, err := filepath.Glob("../../docs/guides/*.md")
	if err != nil {
		t.Fatal(err)
	}
	known := guides()
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		if where, ok := elsewhere()[name]; ok {
			if text, err := os.ReadFile("../../" + where); err != nil || !strings.Contains(string(text), name+".md") {
				t.Errorf("%s does not read %s.md (%v)", where, name, err)
			}
			continue
		}
		if name == "README" {
			continue
		}
		g, ok := known[name]
		delete(known, name)
		if !ok {
			t.Errorf("%s is tried by no test", file)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			follow(t, g, file)
		})
	}
	if len(known) > 0 {
		t.Errorf("there are no such guides: %v", slices.Sorted(maps.Keys(known)))
	}
}

// pause is how long a reader takes for a line, which is enough for a server that has just been reloaded.
const pause = 300 * time.Millisecond

// follow is one reader with a machine of their own.
func follow(t *testing.T, g guide, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	m := boot(t)
	m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
	m.internet(g.ca)
	m.shell(g.before)
	m.follow(file, steps)
}

// follow does the steps of a file, in /root.
func (m *machine) follow(file string, steps []step) {
	t := m.t
	t.Helper()
	for _, s := range steps {
		if s.path != "" {
			m.write(s.path, s.text)
			continue
		}
		time.Sleep(pause)
		out, err := m.try("bash", "-ec", "cd /root\n"+s.text)
		var exit *exec.ExitError
		if code := 0; err != nil {
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			}
			if code != s.exit {
				t.Fatalf("%s:%d: %v, want exit code %d\n%s", file, s.line, err, s.exit, m.journal())
			}
		} else if s.exit != 0 {
			t.Fatalf("%s:%d: %s succeeds, want exit code %d", file, s.line, s.text, s.exit)
		}
		got := shape(out)
		for _, want := range s.shown {
			if !strings.Contains(got, shape(want)) {
				t.Fatalf("%s:%d: %s does not show %q but:\n%s\n%s", file, s.line, s.text, want, out, m.journal())
			}
		}
	}
}

// internet installs the package and connects the machine.
func (m *machine) internet(options string) {
	m.t.Helper()
	m.copy(debs(m.t), "/root/acmed.deb", 0o644)
	m.copy("../../.cache/acmed-dns", "/usr/bin/acmed-dns", 0o755)
	m.do("dpkg", "-i", "/root/acmed.deb")
	m.connect(options)
}

// connect gives the machine a network with one other machine in it, to which the name of Let's Encrypt leads: a CA, whose
// name server says for every name that it is this machine. Both of its roots are trusted.
func (m *machine) connect(options string) {
	m.t.Helper()
	m.copy("../../bin/testca", "/usr/local/bin/testca", 0o755)
	m.write("/etc/hosts", "127.0.0.1 localhost\n23.192.0.1 acme-v02.api.letsencrypt.org\n")
	m.write("/etc/resolv.conf", "nameserver 23.192.0.1\n")
	m.shell(`systemd-run --quiet --unit=testca -p PrivateNetwork=yes bash -ec "
	until ip address add 23.192.0.1/24 dev ca 2>/dev/null; do sleep 0.05; done
	ip link set ca up
	exec testca -listen 23.192.0.1:443 -dns 23.192.0.1:53 -address 23.192.0.2 -http-port 80 -tls-port 443 \
		-host acme-v02.api.letsencrypt.org -root /root/ca.pem -issuing-root /root/issuing.pem ` + options + `"
ip link add eth0 type veth peer name ca
ip link set ca netns "$(systemctl show --value -p MainPID testca)"
ip address add 23.192.0.2/24 dev eth0
ip link set eth0 up`)
	m.until("the CA answers", func() error {
		_, err := m.try("bash", "-ec", "mkdir -p /etc/ssl/certs; cat /root/ca.pem /root/issuing.pem >/etc/ssl/certs/ca-certificates.crt; curl -sf https://acme-v02.api.letsencrypt.org/directory")
		return err
	})
}

func (m *machine) shell(script string) {
	m.t.Helper()
	m.do("bash", "-ec", script)
}

// step is one thing that the reader does: write a file, or run a command.
type step struct {
	line  int
	path  string   // of a file, "" for a command
	text  string   // the file, or the command
	exit  int      // the command's exit code
	shown []string // lines of its output
}

var (
	atPath  = regexp.MustCompile(`^(?:#|//) (/[^ ]+)$`)
	exits   = regexp.MustCompile(`\s+# exit code (\d+)$`)
	numbers = regexp.MustCompile(`[0-9]+[0-9a-f.:TZ-]*[a-z]*|\s+`)
)

// shape makes two outputs comparable that differ in numbers, times and spaces.
func shape(text string) string {
	return strings.TrimSpace(numbers.ReplaceAllStringFunc(text, func(s string) string {
		if strings.TrimSpace(s) == "" {
			return " "
		}
		return "0"
	}))
}

// parse takes the blocks of a guide apart.
func parse(text string) ([]step, error) {
	var steps []step
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		kind, fenced := strings.CutPrefix(lines[i], "```")
		if !fenced {
			continue
		}
		first := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		block := lines[first:i]
		switch kind {
		case "yaml", "nginx", "apache", "haproxy", "ini", "conf":
			match := atPath.FindStringSubmatch(block[0])
			if match == nil {
				return nil, fmt.Errorf("line %d: a %s block begins with a comment that says which file it is", first+1, kind)
			}
			steps = append(steps, step{line: first + 1, path: match[1], text: strings.Join(block, "\n") + "\n"})
		case "console":
			console, err := commands(block, first+1)
			if err != nil {
				return nil, err
			}
			steps = append(steps, console...)
		case "text", "json", "python": // to be read, not done
		default:
			return nil, fmt.Errorf("line %d: a block of the kind %q, which nothing tries", first, kind)
		}
	}
	return steps, nil
}

// commands are the lines after "$ ", with those that a backslash continues, and what is shown below them.
func commands(block []string, line int) ([]step, error) {
	var steps []step
	for i := 0; i < len(block); i++ {
		command, ok := strings.CutPrefix(block[i], "$ ")
		switch {
		case ok:
			s := step{line: line + i}
			for strings.HasSuffix(command, `\`) && i+1 < len(block) {
				i++
				command += "\n" + block[i]
			}
			if match := exits.FindStringSubmatch(command); match != nil {
				if _, err := fmt.Sscan(match[1], &s.exit); err != nil {
					return nil, err
				}
			}
			s.text = command
			steps = append(steps, s)
		case len(steps) == 0:
			return nil, fmt.Errorf("line %d: output without a command", line+i)
		case strings.TrimSpace(block[i]) != "" && block[i] != "...":
			last := &steps[len(steps)-1]
			last.shown = append(last.shown, block[i])
		}
	}
	return steps, nil
}
