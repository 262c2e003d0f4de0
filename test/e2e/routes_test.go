package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// routed is a site that a first minute begins with. Its text has {dir}, {plain}, {tls}, {app} and {name} to be replaced.
type routed struct {
	kind, what, text string
	routed           bool // challenges can reach acmed only through a location of its own
}

func routedSites() []routed {
	return []routed{
		{"nginx", "plain", `
	server {
		listen 127.0.0.1:{plain};
		server_name {name};
		root {dir}/html;
	}
`, false},
		{"nginx", "proxied", `
	server {
		listen 127.0.0.1:{plain};
		server_name {name};
		auth_basic "staff only"; auth_basic_user_file {dir}/nobody;
		location / { proxy_pass http://127.0.0.1:{app}; }
	}
`, true},
		{"nginx", "redirecting", `
	server { listen 127.0.0.1:{plain}; server_name {name}; return 301 https://$host:{tls}$request_uri; }
	server {
		listen 127.0.0.1:{tls} ssl;
		server_name {name};
		ssl_certificate {dir}/old.pem; # of before
		ssl_certificate_key {dir}/old.key;
		location / { proxy_pass http://127.0.0.1:{app}; }
	}
`, true},
		{"nginx", "php", `
	server {
		listen 127.0.0.1:{plain};
		server_name {name};
		root {dir}/html;
		location / { try_files $uri $uri/ /index.php?$args; }
		location ~ \.php$ { include {dir}/fastcgi_params; fastcgi_pass 127.0.0.1:1; }
		location ~ /\. { deny all; }
	}
`, true},
		{"nginx", "fastcgi", `
	server {
		listen 127.0.0.1:{plain};
		server_name {name};
		location / { include {dir}/fastcgi_params; fastcgi_pass 127.0.0.1:1; }
	}
`, true},
		{"apache", "plain", `<VirtualHost 127.0.0.1:{plain}>
	ServerName {name}
	DocumentRoot {dir}/html
</VirtualHost>
`, false},
		{"apache", "proxied", `<VirtualHost 127.0.0.1:{plain}>
	ServerName {name}
	DocumentRoot {dir}/html
	ProxyPass / http://127.0.0.1:{app}/
</VirtualHost>
`, true},
		{"apache", "proxied by a location", `<VirtualHost 127.0.0.1:{plain}>
	ServerName {name}
	<Location />
		ProxyPass http://127.0.0.1:{app}/
		Require all granted
	</Location>
</VirtualHost>
`, true},
		{"apache", "redirecting", `<VirtualHost 127.0.0.1:{plain}>
	ServerName {name}
	Redirect permanent / https://{name}:{tls}/
</VirtualHost>
<VirtualHost 127.0.0.1:{tls}>
	ServerName {name}
	SSLEngine on
	SSLCertificateFile {dir}/old.pem
	SSLCertificateKeyFile {dir}/old.key
	ProxyPass / http://127.0.0.1:{app}/
</VirtualHost>
`, true},
		{"apache", "rewriting", `<VirtualHost 127.0.0.1:{plain}>
	ServerName {name}
	RewriteEngine on
	RewriteCond %{HTTP_HOST} .
	RewriteRule ^ http://127.0.0.1:{app}%{REQUEST_URI} [P]
</VirtualHost>
`, true},
	}
}

// TestFirstMinuteOfEverySite: enable, on a machine where systemd does not run and no setting says how the server is
// reloaded, switches HTTPS on for sites that serve files, proxy, redirect and pass on to PHP. The site does what it did
// before; a renewal works; the undo is exact to the byte.
func TestFirstMinuteOfEverySite(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd runs this machine")
	}
	if !seclude(t) {
		return
	}
	for _, site := range routedSites() {
		t.Run(site.kind+" "+site.what, func(t *testing.T) {
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello\n") }))
			t.Cleanup(app.Close)
			m := newMinute(t, "")
			m.kind = site.kind
			m.place(site.text, app.Listener.Addr().(*net.TCPAddr).Port)
			before := m.content()
			links := m.links()
			page := m.plainPage()

			flags := append([]string{"enable", "--yes", "-d", "example.com", "--directory", m.ca.Directory, "--ca-file", m.dir + "/ca.pem",
				"--state-dir", m.dir + "/state", "--socket", m.dir + "/acmed.sock"}, m.flags...)
			out, code := m.run(flags...)
			if code != 0 {
				t.Fatalf("exit %d:\n%s\n%s", code, out, m.read("error.log"))
			}
			if got := strings.Contains(out, "forwards challenges"); got != site.routed {
				t.Errorf("a route was made: %v, want %v:\n%s", got, site.routed, out)
			}
			m.served()
			if got := m.plainPage(); got != page {
				t.Errorf("plain HTTP answers %q, before %q", got, page)
			}
			if out, code := m.run("renew", "--force", "--yes", "example.com"); code != 0 {
				t.Errorf("renewal: exit %d:\n%s", code, out)
			}

			if out, code := m.run("disable", "example.com", "--yes", "--purge"); code != 0 {
				t.Fatalf("disable: exit %d:\n%s", code, out)
			}
			for i, text := range m.content() {
				if text != before[i] {
					t.Errorf("%s is not as it was:\n%s", m.files[i], text)
				}
			}
			if got := m.links(); got != links {
				t.Errorf("links are not as they were:\n%s\nbefore:\n%s", got, links)
			}
			if got := m.plainPage(); got != page {
				t.Errorf("after the undo, plain HTTP answers %q, before %q", got, page)
			}
			if _, err := os.Lstat(filepath.Join(m.dir, ".acmed-setup")); err == nil {
				t.Error("the journal is left")
			}
		})
	}
}

// TestFailedRouteIsUndone: when the order fails, the web server's files are as before as well.
func TestFailedRouteIsUndone(t *testing.T) {
	if !seclude(t) {
		return
	}
	for _, site := range routedSites() {
		if site.what != "redirecting" {
			continue
		}
		t.Run(site.kind, func(t *testing.T) {
			m := newMinute(t, "")
			m.kind = site.kind
			m.place(site.text, 1)
			before, links := m.content(), m.links()
			m.ca.Use(acmetest.At(acmetest.Problem(http.StatusForbidden, "rejectedIdentifier", "not this one", ""), acmetest.NewOrder))
			out, code := m.run(append([]string{"enable", "--yes", "-d", "example.com", "--directory", m.ca.Directory, "--ca-file", m.dir + "/ca.pem",
				"--state-dir", m.dir + "/state", "--socket", m.dir + "/acmed.sock"}, m.flags...)...)
			if code != 1 {
				t.Errorf("exit %d:\n%s", code, out)
			}
			m.untouched("after a failed order", before)
			if got := m.links(); got != links {
				t.Errorf("links are not as they were:\n%s\nbefore:\n%s", got, links)
			}
		})
	}
}

// TestEnableLooksBeforeItOrders: a block whose certificate has names that the new one would lose is named before anything is
// ordered or written, and so are the other names of a site.
func TestEnableLooksBeforeItOrders(t *testing.T) {
	m := newMinute(t, "")
	m.kind = "nginx"
	m.place(`
	server {
		listen 127.0.0.1:{plain};
		listen 127.0.0.1:{tls} ssl;
		server_name {name} www.{name} shop.{name};
		root {dir}/html;
		ssl_certificate {dir}/old.pem;
		ssl_certificate_key {dir}/old.key;
	}
`, 1)
	before := m.content()
	out, code := m.run(append([]string{"enable", "--yes", "-d", "www.example.com", "--directory", m.ca.Directory, "--ca-file", m.dir + "/ca.pem",
		"--state-dir", m.dir + "/state", "--socket", m.dir + "/acmed.sock"}, m.flags...)...)
	for _, want := range []string{
		"note: the same site serves example.com, shop.example.com, which the certificate will not have; add -d example.com -d shop.example.com\n",
		"nginx cannot serve the certificate, so it was not ordered: " + m.nginxConf + ":",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	if n := len(m.ca.Received(acmetest.NewOrder)); code != 1 || n != 0 {
		t.Errorf("exit %d, %d orders", code, n)
	}
	m.untouched("after the refusal", before)
}

// TestEnableWithoutSite: a name that has no site is left out with a note when its counterpart has one and the names are not
// validated through their sites. A counterpart that another site serves is mentioned.
func TestEnableWithoutSite(t *testing.T) {
	m := newMinute(t, "")
	m.kind = "nginx"
	m.place(`
	server {
		listen 127.0.0.1:{plain};
		server_name {name} shop.{name};
		root {dir}/html;
	}
	server {
		listen 127.0.0.1:{plain};
		server_name www.shop.{name};
	}
`, 1)
	enable := slices.Concat([]string{"enable", "--yes", "--directory", m.ca.Directory, "--ca-file", m.dir + "/ca.pem", "--state-dir", m.dir + "/state",
		"--socket", m.dir + "/acmed.sock", "-d", "example.com", "-d", "www.example.com", "-d", "shop.example.com"}, m.flags)
	out, code := m.run(enable...)
	if want := `no site is called "www.example.com", so a CA cannot validate it through the web server; add it to the site of example.com`; code != 2 || !strings.Contains(out, want) {
		t.Errorf("exit %d, want %q:\n%s", code, want, out)
	}
	out, code = m.run(append(enable, "--webroot", m.dir+"/html")...)
	note := ": www.example.com has no site on this server, and the certificate is installed without it: add it to a server_name"
	for _, want := range []string{
		") serves www.shop.example.com, which the certificate will not have; add -d www.shop.example.com\n",
		fmt.Sprintf("https://example.com:%d/ works now\n", m.tls), "example.com: note: nginx:" + m.nginxConf + note,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	if code != 0 || strings.Contains(out, "https://www.example.com") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	for _, args := range [][]string{{"install", "example.com"}, {"renew", "--dry-run", "--force", "example.com"}, {"status", "example.com"}} {
		if out, _ := m.run(args...); !strings.Contains(out, note) {
			t.Errorf("%v:\n%s", args, out)
		}
	}
}

// place starts the web server with one site.
func (m *minute) place(text string, app int) {
	m.t.Helper()
	for _, args := range [][]string{
		{"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-subj", "/CN=example.com",
			"-addext", "subjectAltName=DNS:example.com", "-keyout", m.dir + "/old.key", "-out", m.dir + "/old.pem"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			m.t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	m.write("fastcgi_params", "fastcgi_param SCRIPT_NAME $fastcgi_script_name;\n")
	text = strings.NewReplacer("{dir}", m.dir, "{plain}", fmt.Sprint(m.ca.HTTPPort), "{tls}", fmt.Sprint(m.tls), "{app}", fmt.Sprint(app),
		"{name}", "example.com").Replace(text)
	if m.kind == "apache" {
		m.siteText = text
		m.privateApache()
		m.set("binary=/usr/sbin/apache2", "root="+m.dir, "config="+m.dir+"/apache2.conf", "layout=debian")
		return
	}
	m.files = []string{"nginx.conf"}
	m.write("nginx.conf", fmt.Sprintf("pid %s/nginx.pid;\nerror_log %[1]s/error.log;\nevents {}\nhttp {\n\taccess_log off;\n%[2]s}\n", m.dir, text))
	m.startNginx()
	m.set("config="+m.nginxConf, "prefix="+m.dir)
}

// links lists the symbolic links of the web server's configuration.
func (m *minute) links() string {
	m.t.Helper()
	out, err := exec.Command("sh", "-c", "cd "+m.dir+" && find . -path ./state -prune -o -type l -print | sort").CombinedOutput()
	if err != nil {
		m.t.Fatal(err)
	}
	return string(out)
}

// plainPage is what a browser gets without TLS: status, place and text.
func (m *minute) plainPage() string {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/index.html", m.ca.HTTPPort), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Host = "example.com"
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Location"), " ", len(body), err)
}
