package haproxy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestFirstInstallation: haproxy.cfg names a file that does not exist yet, so the running process does not know it, and
// HAProxy could not be reloaded before.
func TestFirstInstallation(t *testing.T) {
	h := start(t, options{crt: "certs/default.pem"})
	h.configure(options{crt: "certs/default.pem", extra: "crt " + h.path("certs/www.pem")})
	c := h.config()
	c.Config, c.VerifyTimeout = h.path("haproxy.cfg"), time.Minute
	c.Reload = []string{"/bin/sh", "-c", fmt.Sprintf("echo reload >>%s; %s -c -q -f %s && kill -USR2 %d", h.path("reloads"), binary, c.Config, h.cmd.Process.Pid)}
	p, _ := mustNew(t, c)
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
	if n := h.reloads(); n > 2 { // one is repeated where the master process was busy
		t.Errorf("%d reloads", n)
	}
}

// TestRefusesCipherList: what can be read in haproxy.cfg is refused there, and no file is touched.
func TestRefusesCipherList(t *testing.T) {
	for name, o := range map[string]options{
		"of the port": {crt: "certs/www.pem", extra: "ciphers ECDHE-RSA-AES128-GCM-SHA256:!aNULL"},
		"of all":      {crt: "certs/www.pem", global: "ssl-default-bind-ciphers 'ECDHE-RSA-AES128-GCM-SHA256'"},
		"of a list":   {crt: "certs/www.pem", list: true, extra: `ciphers "AES128-SHA:!aNULL"`},
	} {
		t.Run(name, func(t *testing.T) {
			h := prepare(t, o)
			h.write("certs/www.pem", installertest.Dual(t, "www.example.com").RSA)
			h.run()
			before := h.files()
			c := h.config()
			c.Config = h.path("haproxy.cfg")
			p, _ := mustNew(t, c)
			err := p.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
			if advice.Of(err) != advice.ClientsLockedOut || !strings.HasPrefix(fmt.Sprint(err), c.Config+":") || !strings.Contains(err.Error(), endpoint.Remedy) {
				t.Errorf("Install = %v", err)
			}
			if diff := cmp.Diff(before, h.files()); diff != "" {
				t.Error(diff)
			}
			mustInstall(t, p, installertest.Dual(t, "www.example.com").RSA)
		})
	}
}

func TestReadCfg(t *testing.T) {
	dir := t.TempDir()
	cfg, list := filepath.Join(dir, "haproxy.cfg"), filepath.Join(dir, "list")
	if err := os.WriteFile(list, []byte("# all\n/c/other.pem\nwww.pem [alpn h2] www.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text string
		want uses
	}{
		{"frontend a\n bind :443 ssl crt /c/www.pem\n", uses{named: true}},
		{"frontend a\n bind :443 ssl crt \"/c/www.pem\" # x\n", uses{named: true}},
		{"frontend a\n # bind :443 ssl crt /c/www.pem\n bind :80\n bind :443 ssl crt /c/other.pem\n", uses{}},
		{"global\n crt-base /c\nlisten a\n bind :443 ssl crt www.pem\n", uses{named: true}},
		{"global\n crt-base /c\nlisten a\n bind :443 ssl crt-list " + list + "\n", uses{named: true}},
		{"frontend a\n bind :443 ssl crt /c/\n", uses{named: true}},
		{"frontend a\n bind :443 ssl crt /c/other.pem crt /c/www.pem ciphers AES128-SHA\n", uses{named: true, ciphers: []ciphers{{cfg, 2, "AES128-SHA"}}}},
		{"frontend a\n bind :443 ssl crt /c/www.pem ciphers AES128-SHA ssl-min-ver TLSv1.3\n", uses{named: true}},
		{"global\n ssl-default-bind-ciphers A:B\n ssl-default-bind-options no-tls-tickets ssl-min-ver TLSv1.2\nfrontend a\n bind :443 ssl crt /c/www.pem\n",
			uses{named: true, ciphers: []ciphers{{cfg, 2, "A:B"}}}},
		{"global\n ssl-default-bind-ciphers A:B\n ssl-default-bind-options ssl-min-ver TLSv1.3\nfrontend a\n bind :443 ssl crt /c/www.pem\n", uses{named: true}},
		// HAProxy 3
		{"crt-store web\n crt-base /c/\n load crt \"www.pem\" key \"www.key\" alias \"www\"\nfrontend a\n bind :443 ssl crt \"@web/www\" ciphers C\n",
			uses{named: true, name: "@web/www", ciphers: []ciphers{{cfg, 5, "C"}}}},
		{"crt-store\n load crt /c/www.pem alias www\n load crt /c/other.pem\nfrontend a\n bind :443 ssl crt @/www\n", uses{named: true, name: "@/www"}},
		{"crt-store web\n load crt /c/www.pem key /c/www.key\n", uses{named: true}},
		{"frontend a\n bind :443 ssl\n ssl-f-use crt /c/www.pem ciphers D\n", uses{named: true, ciphers: []ciphers{{cfg, 3, "D"}}}},
		{"frontend a\n bind :443 ssl crt /c/www\\.pem crt 'x", uses{named: true}},
	} {
		if err := os.WriteFile(cfg, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, readCfg(cfg, "/c/www.pem"), cmp.AllowUnexported(uses{}, ciphers{})); diff != "" {
			t.Errorf("%s:\n%s", tt.text, diff)
		}
	}
}
