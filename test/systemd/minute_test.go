package systemd

import (
	"strings"
	"testing"
)

// minutes are the sites that a first minute begins with, as test/e2e has them for machines without systemd.
func minutes() []struct{ server, what, text string } {
	const nginx, apache = "server {\n\tlisten 80;\n\tserver_name example.com www.example.com;\n", "<VirtualHost *:80>\n\tServerName example.com\n\tServerAlias www.example.com\n"
	return []struct{ server, what, text string }{
		{"nginx", "plain", nginx + "\troot /var/www/html;\n}\n"},
		{"nginx", "proxied", nginx + "\tlocation / { proxy_pass http://127.0.0.1:9000; }\n}\n"},
		{"nginx", "redirecting", nginx + "\treturn 301 https://$host$request_uri; # to TLS\n}\n" +
			"server {\n\tlisten 443 ssl;\n\tserver_name example.com www.example.com;\n\troot /var/www/html;\n\tssl_certificate /root/old.pem;\n\tssl_certificate_key /root/old.key;\n}\n"},
		{"nginx", "php", nginx + "\troot /var/www/html;\n\tlocation / { try_files $uri $uri/ /index.php?$args; }\n" +
			"\tlocation ~ \\.php$ { include fastcgi_params; fastcgi_pass 127.0.0.1:1; }\n}\n"},
		{"apache2", "plain", apache + "\tDocumentRoot /var/www/html\n</VirtualHost>\n"},
		{"apache2", "proxied", apache + "\tProxyPass / http://127.0.0.1:9000/\n</VirtualHost>\n"},
		{"apache2", "redirecting", apache + "\tRedirect permanent / https://example.com/\n</VirtualHost>\n" +
			"<VirtualHost *:443>\n\tServerName example.com\n\tServerAlias www.example.com\n\tDocumentRoot /var/www/html\n" +
			"\tSSLEngine on\n\tSSLCertificateFile /root/old.pem\n\tSSLCertificateKeyFile /root/old.key\n</VirtualHost>\n"},
		{"apache2", "php", apache + "\tDocumentRoot /var/www/html\n\tFallbackResource /index.php\n" +
			"\t<FilesMatch \\.php$>\n\t\tSetHandler \"proxy:fcgi://127.0.0.1:1\"\n\t</FilesMatch>\n</VirtualHost>\n"},
	}
}

// TestFirstMinuteOfEverySite: where systemd runs the machine, one command switches HTTPS on for sites that serve files, proxy,
// redirect and pass on to PHP. The site does what it did before, a renewal works, and the undo is exact to the byte.
func TestFirstMinuteOfEverySite(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.copy(debs(t), "/root/acmed.deb", 0o644)
	m.do("dpkg", "-i", "/root/acmed.deb")
	m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
	m.connect("")
	m.shell("rm -f /etc/nginx/sites-enabled/* /etc/apache2/sites-enabled/*; echo hello >/var/www/html/page\n" +
		"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=example.com -addext subjectAltName=DNS:example.com,DNS:www.example.com " +
		"-keyout /root/old.key -out /root/old.pem 2>/dev/null\n" +
		"systemd-run --quiet --unit=app python3 -m http.server --bind 127.0.0.1 --directory /var/www/html 9000")
	for _, site := range minutes() {
		if !t.Run(site.server+" "+site.what, func(t *testing.T) {
			m.t = t
			m.minute(site.server, site.text)
		}) {
			break
		}
	}
	m.t = t
}

// minute enables a site and disables it again.
func (m *machine) minute(server, text string) {
	m.t.Helper()
	file := map[string]string{"nginx": "/etc/nginx/sites-enabled/site", "apache2": "/etc/apache2/sites-available/site.conf"}[server]
	m.write(file, text)
	if server == "apache2" {
		m.do("a2enmod", "--quiet", "proxy_http", "proxy_fcgi")
		if strings.Contains(text, "SSL") {
			m.do("a2enmod", "--quiet", "ssl")
		}
		m.do("a2ensite", "--quiet", "site")
	}
	m.do("systemctl", "start", server)
	look := func() (files, page string) {
		m.t.Helper()
		files = m.do("bash", "-ec", "cd /etc; find nginx apache2 -printf '%p %y %m %u %g %l\\n' | sort; find nginx apache2 -type f -print0 | sort -z | xargs -0 sha256sum")
		return files, m.do("curl", "-s", "-w", "%{http_code} %{redirect_url}", "--resolve", "example.com:80:127.0.0.1", "http://example.com/page")
	}
	files, page := look()

	out := m.do("acmed", "enable", "--yes", "--email", "ops@example.com", "--agree-tos", "-d", "example.com", "-d", "www.example.com")
	if !strings.Contains(out, "https://example.com/ works now") {
		m.t.Errorf("enable says %s", out)
	}
	for _, renewed := range []bool{false, true} {
		if renewed {
			m.do("acmed", "renew", "--force", "--yes")
		}
		if got := m.do("curl", "-sf", "--cacert", "/root/issuing.pem", "--resolve", "www.example.com:443:127.0.0.1", "https://www.example.com/page"); got != "hello" {
			m.t.Errorf("https shows %q", got)
		}
		if _, got := look(); got != page {
			m.t.Errorf("plain HTTP answers %q, before %q", got, page)
		}
	}

	m.do("acmed", "disable", "--yes", "--purge", "example.com")
	filesAfter, pageAfter := look()
	if filesAfter != files {
		m.t.Errorf("the configuration is not as it was:\n%s\nbefore:\n%s", filesAfter, files)
	}
	if pageAfter != page {
		m.t.Errorf("after the undo, plain HTTP answers %q, before %q", pageAfter, page)
	}
	m.do("rm", "/etc/acmed/acmed.yaml") // the next minute is a first one too
	m.do("systemctl", "stop", server)
	m.do("rm", "-f", "/etc/nginx/sites-enabled/site", "/etc/apache2/sites-enabled/site.conf")
	if server == "apache2" {
		m.do("a2dismod", "--quiet", "--force", "ssl")
	}
}
