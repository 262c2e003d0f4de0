package config_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/config"
)

func TestProxy(t *testing.T) {
	dir := t.TempDir()
	auth := filepath.Join(dir, "auth")
	writeFile(t, auth, "user:hunter2\n", 0o600)
	open := filepath.Join(dir, "open")
	writeFile(t, open, "user:hunter2\n", 0o644)
	const issuer = "issuers: [{name: ca, directory: 'https://ca.internal/d'%s}]\n"
	for _, tt := range []struct{ name, top, own, proxy, authFile, err string }{
		{"none", "", "", "", "", ""},
		{"from the top", "proxy: http://p:3128\nproxy_auth_file: AUTH\n", "", "http://p:3128", auth, ""},
		{"its own", "proxy: http://p:3128\nproxy_auth_file: AUTH\n", ", proxy: 'socks5://q:1080'", "socks5://q:1080", "", ""},
		{"direct", "proxy: http://p:3128\n", ", proxy: none", "none", "", ""},
		{"password in the URL", "proxy: http://user:hunter2@p:3128\n", "", "", "", "proxy: put user and password into proxy_auth_file"},
		{"scheme", "", ", proxy: 'ftp://q'", "", "", `issuers[ca].proxy: a proxy is asked by http, https or socks5, not by "ftp"`},
		{"no host", "proxy: 'http://'\n", "", "", "", "proxy: not the URL of a proxy"},
		{"path", "proxy: 'http://p/x'\n", "", "", "", "proxy: the URL of a proxy has a host and a port"},
		{"file for nothing", "", ", proxy_auth_file: AUTH", "", "", "issuers[ca].proxy_auth_file: there is no proxy beside it"},
		{"file of everybody", "proxy: http://p\nproxy_auth_file: OPEN\n", "", "", "", "can be read by others"},
		{"host", "", ", hosts: ['a b']", "", "", "issuers[ca].hosts[0]: "},
		{"url as host", "", ", hosts: ['https://ca-2.internal/x']", "", "", "issuers[ca].hosts[0]: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			main := filepath.Join(t.TempDir(), "acmed.yaml")
			text := strings.NewReplacer("AUTH", auth, "OPEN", open).Replace(tt.top + fmt.Sprintf(issuer, tt.own))
			writeFile(t, main, text, 0o600)
			c, _, err := config.Load(main)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error is %v, want %q and no password", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			is, _ := c.Issuer("ca")
			if is.Proxy != tt.proxy || is.ProxyAuthFile != tt.authFile {
				t.Errorf("the proxy is %q with %q", is.Proxy, is.ProxyAuthFile)
			}
		})
	}
}
