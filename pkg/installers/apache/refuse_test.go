package apache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestRefuses has configurations that cannot be edited safely. The error says where, and nothing changes.
func TestRefuses(t *testing.T) {
	secure := func(body string) string {
		return "<VirtualHost *:{tls}>\nServerName a.example\n" + body + "</VirtualHost>\n"
	}
	pair := "SSLCertificateFile {run}/b.pem\nSSLCertificateKeyFile {run}/b.key\n"
	for _, tt := range []struct {
		name   string
		files  map[string]string
		change func(*Config)
		want   string
	}{
		{"no such name", map[string]string{"s.conf": site("b.example", "x")}, nil, `no Apache virtual host has the name "a.example"`},
		{"macro", map[string]string{"s.conf": "<Macro M $n>\n" + site("$n", "x") + "</Macro>\nUse M a.example\n"}, nil, "a macro made it"},
		{"engine off", map[string]string{"s.conf": secure("SSLEngine off\n")}, nil, `{conf}/sites-enabled/s.conf:3: this virtual host answers for a.example on port {tls}, and SSLEngine is "off"`},
		{"one for both", map[string]string{"s.conf": "<VirtualHost *:{plain} *:{tls}>\nServerName a.example\n</VirtualHost>\n"}, nil, "s.conf:1: this virtual host answers on port {tls} and, without TLS, on others"},
		{"another certificate of acmed", map[string]string{"s.conf": secure("# acmed begin other\nSSLEngine on\n" + pair + "# acmed end other\n")}, nil, `acmed serves the certificate "other" here`},
		{"broken marks", map[string]string{"s.conf": secure("# acmed begin test\nSSLEngine on\n" + pair)}, nil, `s.conf:3: there is no "# acmed end test"`},
		{"global certificate", map[string]string{"s.conf": pair + secure("SSLEngine on\n")}, nil, "s.conf:1: this line is for all virtual hosts"},
		{"shared snippet", map[string]string{
			"s.conf": secure("SSLEngine on\nInclude snippet.inc\n") + "<VirtualHost *:{tls}>\nServerName b.example\nSSLEngine on\nInclude snippet.inc\n</VirtualHost>\n",
			"inc":    "<IfModule ssl_module>\n" + pair + "</IfModule>\n",
		}, nil, "snippet.inc:1: a certificate stands under a condition in this file, which is for several virtual hosts: give {conf}/sites-enabled/s.conf:1"},
		{"other names", map[string]string{"s.conf": secure("ServerAlias b.example\nSSLEngine on\n" + pair)}, nil, `the certificate here covers "b.example", which "test" does not`},
		{"openssl command", map[string]string{"s.conf": secure("SSLEngine on\nSSLOpenSSLConfCmd Certificate {run}/b.pem\n")}, nil, "s.conf:4: SSLOpenSSLConfCmd chooses the certificate"},
		{"redirect loop", map[string]string{"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nRedirect permanent / https://a.example/\n</VirtualHost>\n"}, nil, "s.conf:3: this virtual host only redirects to HTTPS"},
		{"rewrite loop", map[string]string{"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nRewriteEngine on\nRewriteRule ^(.*)$ https://%{HTTP_HOST}$1 [R]\n</VirtualHost>\n"}, nil, "s.conf:4: this virtual host only redirects to HTTPS"},
		{"redirect by a proxy's word", map[string]string{"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nRewriteEngine on\nRewriteCond %{HTTP:X-Forwarded-Proto} !https\nRewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]\n</VirtualHost>\n"}, nil, "s.conf:5: this sends requests to HTTPS unless a proxy says"},
		{"redirect by either word", map[string]string{"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nRewriteEngine on\nRewriteCond %{HTTPS} off [OR]\nRewriteCond %{HTTP:X-Forwarded-Proto} !=https\nRewriteRule (.*) https://%{HTTP_HOST}%{REQUEST_URI}\n</VirtualHost>\n"}, nil, "s.conf:6: this sends requests to HTTPS unless a proxy says"},
		{"redirect in an expression", map[string]string{"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\n<If \"%{HTTP:X-Forwarded-Proto} != 'https'\">\nRedirect / https://a.example/\n</If>\n</VirtualHost>\n"}, nil, "s.conf:4: this sends requests to HTTPS unless a proxy says"},
		{"header taken away", map[string]string{"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nHeader always unset Strict-Transport-Security\n</VirtualHost>\n"}, func(c *Config) { c.HSTS = time.Hour }, "s.conf:3: this takes Strict-Transport-Security away"},
		{"redirect switched off", map[string]string{"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nRewriteEngine off\n</VirtualHost>\n"}, func(c *Config) { c.Redirect = true }, "s.conf:3: this switches a redirect off"},
		{"TLS on another port", map[string]string{"s.conf": "<VirtualHost *:8443>\nServerName a.example\nSSLEngine on\n" + pair + "</VirtualHost>\n"}, nil, `s.conf:1: this virtual host answers for "a.example" with TLS, and not on port {tls}: set "listen" to its port`},
		{"other ports", map[string]string{"s.conf": "<VirtualHost *:{plain} *:1>\nServerName a.example\n</VirtualHost>\n"}, nil, "s.conf:1: this virtual host answers on the ports"},
		{"two on other ports", map[string]string{"s.conf": site("a.example", "x") + "<VirtualHost *:1>\nServerName a.example\n</VirtualHost>\n"}, nil, "s.conf:5: this virtual host answers for a.example, and {conf}/sites-enabled/s.conf:1 on another port"},
		{"engine off elsewhere", map[string]string{
			"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nInclude snippet.inc\n</VirtualHost>\n", "inc": "SSLEngine off\n",
		}, nil, "snippet.inc:1: SSLEngine is \"off\" here"},
		{"takes a name", map[string]string{
			"s.conf": "<VirtualHost *:{plain}>\nServerName a.example\nServerAlias *.example\n</VirtualHost>\n",
			"z.conf": "<VirtualHost 127.0.0.1:{tls}>\nServerName a.example.net\nSSLEngine on\n" + pair + "</VirtualHost>\n",
		}, nil, "connections to 127.0.0.1 go to another virtual host"},
		{"no place", map[string]string{"s.conf": site("a.example", "x")}, func(c *Config) { c.Layout = layoutRHEL }, "conf.d: no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newInstance(t, nil)
			a.enableModule("ssl", "socache_shmcb", "macro", "rewrite", "headers")
			other := installertest.Bundle(t, "b.example")
			must(t, os.WriteFile(filepath.Join(a.run, "b.pem"), other.FullChainPEM(), 0o644))
			must(t, os.WriteFile(filepath.Join(a.run, "b.key"), other.KeyPEM, 0o600))
			for name, text := range tt.files {
				if name == "inc" {
					a.write("snippet.inc", text)
				} else {
					a.write("sites-enabled/"+name, text)
				}
			}
			before := a.files()
			l := newLineage(t, "a.example")
			b := installertest.Bundle(t, "a.example")
			l.publish(b)
			cfg := a.config()
			if tt.change != nil {
				tt.change(&cfg)
			}
			err := a.installer(cfg, l).Install(t.Context(), b)
			if stopped := (*installers.NotRunningError)(nil); err == nil || errors.As(err, &stopped) || !strings.Contains(err.Error(), a.expand(tt.want)) {
				t.Errorf("Install = %v, want %s", err, a.expand(tt.want))
			}
			a.wantFiles(before, "a refused configuration was edited")
		})
	}
}

// TestBrokenPairs has certificates with which Apache passes its own test and goes down at the reload.
func TestBrokenPairs(t *testing.T) {
	b := installertest.Bundle(t, "b.example")
	stranger := installertest.Bundle(t, "b.example")
	for name, broken := range map[string]func(cert, key string) error{
		"mismatch":  func(_, key string) error { return os.WriteFile(key, stranger.KeyPEM, 0o600) },
		"truncated": func(cert, _ string) error { return os.WriteFile(cert, b.FullChainPEM()[:200], 0o600) },
		"no key":    func(_, key string) error { return os.WriteFile(key, b.CertPEM, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			a := newInstance(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
			a.enableModule("ssl", "socache_shmcb")
			a.write("sites-enabled/b.conf", a.secureSite("b.example", "site b", b))
			a.start()
			a.get("https", "b.example", "/") // it has read its files for the last time
			must(t, broken(filepath.Join(a.run, "b.example.pem"), filepath.Join(a.run, "b.example.key")))
			before := a.files()
			l := newLineage(t, "a.example")
			mine := installertest.Bundle(t, "a.example")
			l.publish(mine)
			err := a.installer(a.config(), l).Install(t.Context(), mine)
			if sick := (*installers.BrokenServerError)(nil); !errors.As(err, &sick) || !strings.Contains(err.Error(), "sites-enabled/b.conf:5: ") {
				t.Errorf("Install = %v", err)
			}
			a.wantFiles(before, "a broken server was edited")
			if _, body := a.get("https", "b.example", "/"); body != "site b" || a.reloads() > 0 {
				t.Errorf("%d reloads, and then %q", a.reloads(), body)
			}
		})
	}
	t.Run("our own", func(t *testing.T) {
		a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
		l := newLineage(t, "a.example")
		i, _ := a.install(a.config(), l, "a.example")
		mine := installertest.Bundle(t, "a.example")
		l.publish(mine)
		must(t, os.WriteFile(l.Key, stranger.KeyPEM, 0o600))
		reloads := a.reloads()
		if err := i.Install(t.Context(), mine); err == nil || a.reloads() != reloads {
			t.Errorf("Install with a key of somebody else's = %v", err)
		}
		if _, body := a.get("https", "a.example", "/"); body != "hello" {
			t.Errorf("Apache answers %q", body)
		}
	})
}

func TestModules(t *testing.T) {
	for _, tt := range []struct{ name, file, text, want string }{
		{"not available", "mods-available/ssl.load", "", "ssl_module is not loaded by Apache, and cannot be enabled: open {conf}/mods-available/ssl.load"},
		{"no package", "mods-available/ssl.load", "LoadModule ssl_module /nowhere/mod_ssl.so\n", "the module ssl cannot be enabled, install its package: stat /nowhere/mod_ssl.so"},
		{"another module", "mods-available/ssl.load", "LoadModule tls_module /nowhere/mod_ssl.so\n", "ssl.load does not load ssl_module"},
		{"a dependency", "mods-available/socache_shmcb.load", "", "socache_shmcb_module is not loaded by Apache, and cannot be enabled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newInstance(t, map[string]string{"sites-available/a.conf": site("a.example", "hello"), tt.file: tt.text})
			l := newLineage(t, "a.example")
			b := installertest.Bundle(t, "a.example")
			l.publish(b)
			err := a.installer(a.config(), l).Install(t.Context(), b)
			if err == nil || !strings.Contains(err.Error(), a.expand(tt.want)) {
				t.Errorf("Install = %v, want %s", err, a.expand(tt.want))
			}
		})
	}
}

func TestValidate(t *testing.T) {
	bad := Config{
		Binary: "apache2", Root: "etc", Config: "x", PIDFile: "pid", Unit: "x", Layout: "suse", Test: []string{"apache2ctl"}, Reload: []string{"r"},
		Timeout: 5, VerifyTimeout: -1, HSTS: 1e18, Listen: 70000, Verify: []string{"x"}, Names: []string{"a b"},
	}
	err := bad.Validate()
	for _, key := range []string{
		"binary", "root", "config", "pid_file", "unit", "layout", "test", "reload", "timeout", "verify_timeout", "hsts", "listen", "verify", "names",
	} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+key+": ") {
			t.Errorf("%s is not reported: %v", key, err)
		}
	}
	if err := (&Config{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	rhel := Config{Layout: layoutRHEL}.withDefaults()
	if rhel.Binary != rhelBinary || rhel.Unit != rhelUnit {
		t.Errorf("layout rhel: %s, %s", rhel.Binary, rhel.Unit)
	}
	if a, b := (&Config{}).ServerKey(), (&Config{Listen: 8443}).ServerKey(); a != b {
		t.Error("a port makes another server")
	}
	if a, b := (&Config{}).ServerKey(), (&Config{Root: "/x"}).ServerKey(); a == b {
		t.Error("another root makes the same server")
	}
}

func TestPortTaken(t *testing.T) {
	server := installertest.Serve(t, nil)
	port := portOf(t, server.Addr)
	for host, want := range map[string]bool{"": true, "127.0.0.1": true, "127.0.0.2": false} {
		if got := portTaken(host, port); got != want {
			t.Errorf("portTaken(%q) = %v", host, got)
		}
	}
	const table = "  sl  local_address                         remote_address                        st\n" +
		"   0: 000080FE000000000102030405060708:%04X 00000000000000000000000000000000:0000 %s 00000000:00000000\n"
	for _, tt := range []struct {
		host, state string
		want        bool
	}{{"fe80::403:201:807:605", "0A", true}, {"fe80::1", "0A", false}, {"", "0A", true}, {"", "01", false}} {
		if got := listensIn(fmt.Appendf(nil, table, 443, tt.state), tt.host, 443); got != tt.want {
			t.Errorf("%q in state %s: %v", tt.host, tt.state, got)
		}
	}
}
