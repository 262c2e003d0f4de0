package e2e

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// dnsWorker builds acmed-dns with the flags of its own tests, whose build cache then serves this one too. Call it before
// seclude: a build may need the network.
func dnsWorker(t *testing.T) string {
	t.Helper()
	const variable = "E2E_ACMED_DNS"
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "acmed-dns")
	build := exec.CommandContext(t.Context(), "go", "-C", "../../cmd/acmed-dns", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("acmed-dns: %v\n%s", err, out)
	}
	t.Setenv(variable, path)
	return path
}

// resolving is a machine without a web server whose resolv.conf names the CA's DNS server. It must be secluded, with
// mounts of its own. The program is in a directory of its own, for a worker beside it.
func resolving(t *testing.T) *minute {
	t.Helper()
	m := bare(t, acmetest.WithListen("127.0.0.1:0", "127.0.0.1:53"))
	m.write("resolv.conf", "nameserver 127.0.0.1\n")
	if out, err := exec.CommandContext(t.Context(), "mount", "--bind", m.dir+"/resolv.conf", "/etc/resolv.conf").CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	program := filepath.Join(t.TempDir(), "acmed")
	if err := os.Link(acmed, program); err != nil {
		t.Fatal(err)
	}
	built := acmed
	t.Cleanup(func() { acmed = built })
	acmed = program
	return m
}

// cloudflare answers as the part of Cloudflare's API that the provider uses, for example.com and one token. Its records are
// those of the CA's DNS server.
func cloudflare(t *testing.T, m *minute, token string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /zones", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"success":true,"result":[{"id":"z","name":"example.com"}],"result_info":{"page":1,"per_page":20,"count":1,"total_count":1}}`)
	})
	mux.HandleFunc("POST /zones/z/dns_records", func(w http.ResponseWriter, r *http.Request) {
		var record struct{ Name, Content string }
		if err := json.NewDecoder(r.Body).Decode(&record); err != nil {
			t.Error(err)
		}
		m.ca.DNS.AddDNSTXTRecord(strings.TrimSuffix(record.Name, ".")+".", strings.Trim(record.Content, `"`))
		fmt.Fprintf(w, `{"success":true,"result":{"id":%q}}`, record.Name)
	})
	mux.HandleFunc("DELETE /zones/z/dns_records/{name}", func(w http.ResponseWriter, r *http.Request) {
		m.ca.DNS.DeleteDNSTXTRecord(strings.TrimSuffix(r.PathValue("name"), ".") + ".")
		_, _ = io.WriteString(w, `{"success":true,"result":{"id":"z"}}`)
	})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+token {
			mux.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`)
	}))
	t.Cleanup(api.Close)
	return api
}

// TestEnableDNSProvider: at a terminal, enable asks for the credentials of a DNS provider, does not show them, tries them
// before it orders, and keeps them in a file that only its owner may read. What does not work leaves nothing behind.
func TestEnableDNSProvider(t *testing.T) {
	worker := dnsWorker(t)
	if !seclude(t, "-m") {
		return
	}
	const wrong, token = "wr0ng-T0ken-of-Example", "r1ght-T0ken-of-Example"
	m := resolving(t)
	if err := os.Link(worker, filepath.Join(filepath.Dir(acmed), "acmed-dns")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLOUDFLARE_BASE_URL", cloudflare(t, m, token).URL)
	file := filepath.Join(m.dir, "secrets/cloudflare.env")
	args := []string{"--state-dir", m.dir + "/state", "--socket", m.dir + "/acmed.sock", "--email", "ops@example.com", "--server", "none",
		"-d", "*.example.com", "-d", "example.com", "--name", "example", "--dns", "cloudflare"}

	p := m.enable(args...)
	p.expect("CLOUDFLARE_DNS_API_TOKEN:")
	p.typeText(wrong + "\n")
	p.expect("go ahead?")
	p.typeText("y\n")
	p.expect("the credentials for cloudflare do not work")
	if code := p.code(); code != 1 {
		t.Errorf("wrong credentials: exit %d", code)
	}
	if strings.Contains(p.text(), wrong) {
		t.Errorf("the terminal shows the token:\n%s", p.text())
	}
	for _, path := range []string{file, m.dir + "/acmed.yaml", m.dir + "/conf.d"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("wrong credentials leave %s", path)
		}
	}
	if n := len(m.ca.Received(acmetest.NewOrder)); n != 0 {
		t.Errorf("%d orders with wrong credentials", n)
	}

	p = m.enable(args...)
	p.expect("CLOUDFLARE_DNS_API_TOKEN:")
	p.typeText(token + "\n")
	p.expect(file + ":\r\n  (credentials, mode 0600)")
	p.expect("go ahead?")
	p.typeText("y\n")
	p.expect("the certificate and its key are in " + m.dir + "/state/certs/example/current/")
	if code := p.code(); code != 0 {
		t.Fatalf("exit %d", code)
	}
	if strings.Contains(p.text(), token) {
		t.Errorf("the terminal shows the token:\n%s", p.text())
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v %v", file, info, err)
	}
	if text := m.read("conf.d/example.yaml"); !strings.Contains(text, file) || strings.Contains(text, token) {
		t.Errorf("conf.d/example.yaml:\n%s", text)
	}

	// The next certificate has the same credentials, without a question.
	out, code := m.run("enable", "--yes", "--server", "none", "-d", "new.example.com", "--dns", "cloudflare", "--directory", m.ca.Directory)
	if code != 0 || !strings.Contains(out, "the credentials for cloudflare are read from "+file) {
		t.Errorf("the second: exit %d:\n%s", code, out)
	}
}

// TestEnableManual: enable prints the record for each name, waits, and goes on when the name servers have it.
func TestEnableManual(t *testing.T) {
	if !seclude(t, "-m") {
		return
	}
	m := resolving(t)
	p := m.enable("--state-dir", m.dir+"/state", "--socket", m.dir+"/acmed.sock", "--email", "ops@example.com", "--server", "none", "--yes",
		"-d", "www.example.com", "--manual")
	p.expect("create this DNS record; acmed continues when the name servers have it, within 1 hour:")
	p.expect(`_acme-challenge.www.example.com. TXT "`)
	p.expect(`"`)
	record := regexp.MustCompile(`(\S+) TXT "([^"]+)"`).FindStringSubmatch(p.text())
	if n := len(m.ca.Received(acmetest.Challenge)); n != 0 {
		t.Errorf("the CA was told to validate %d times before the record is there", n)
	}
	m.ca.DNS.AddDNSTXTRecord(record[1], record[2])
	p.expect("the certificate and its key are in " + m.dir + "/state/certs/www.example.com/current/")
	if code := p.code(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if left, err := filepath.Glob(m.dir + "/state/manual/*"); err != nil || len(left) > 0 {
		t.Errorf("left: %q %v", left, err)
	}
}

// TestEnableOptions: what options set is there, a later enable keeps it, and a setting that does not work never takes the
// place of one that does. The undo is exact to the byte.
func TestEnableOptions(t *testing.T) {
	for _, kind := range []string{"nginx", "apache"} {
		t.Run(kind, func(t *testing.T) {
			m := newMinute(t, kind)
			before := m.content()
			enable := func(want int, args ...string) string {
				t.Helper()
				out, code := m.run(slices.Concat([]string{"enable", "--yes", "--directory", m.ca.Directory}, m.flags, args)...)
				if code != want {
					t.Fatalf("%v: exit %d, want %d:\n%s", args, code, want, out)
				}
				return out
			}
			out := enable(0, "-d", "example.com", "--redirect", "--hsts=720h", "--key-type", "rsa2048", "--ca-file", m.dir+"/ca.pem",
				"--state-dir", m.dir+"/state", "--socket", m.dir+"/acmed.sock")
			if want := "note: the same site serves www.example.com, which the certificate will not have; add -d www.example.com\n"; !strings.Contains(out, want) {
				t.Errorf("%q is not said:\n%s", want, out)
			}
			m.hardened("example.com")

			enable(0, "-d", "example.com", "-d", "www.example.com", "--expand")
			m.hardened("example.com")
			m.hardened("www.example.com")

			good, site := m.read("conf.d/example.com.yaml"), m.content()
			out = enable(1, "-d", "example.com", "-d", "www.example.com", "--listen", "127.0.0.1:1")
			if !strings.Contains(out, "example.com is not enabled; acmed restored its previous configuration") {
				t.Errorf("what was restored is not said:\n%s", out)
			}
			if text := m.read("conf.d/example.com.yaml"); text != good || !slices.Equal(m.content(), site) {
				t.Errorf("a broken setting is left:\n%s", text)
			}
			m.hardened("www.example.com")

			if out, code := m.run("disable", "example.com", "--yes", "--purge"); code != 0 {
				t.Fatalf("disable: exit %d:\n%s", code, out)
			}
			for i, text := range m.content() {
				if text != before[i] {
					t.Errorf("%s is not as it was:\n%s", m.files[i], text)
				}
			}
		})
	}
}

// hardened checks that a name has an RSA key, HSTS, and a redirect from plain HTTP.
func (m *minute) hardened(name string) {
	m.t.Helper()
	if _, ok := m.served().PublicKey.(*rsa.PublicKey); !ok {
		m.t.Errorf("%s has the key %T", name, m.served().PublicKey)
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: m.ca.IssuingRoots()},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, strings.Replace(addr, name, "127.0.0.1", 1))
			}},
	}
	for url, header := range map[string][2]string{
		fmt.Sprintf("https://%s:%d/", name, m.tls):        {"Strict-Transport-Security", "max-age=2592000"},
		fmt.Sprintf("http://%s:%d/", name, m.ca.HTTPPort): {"Location", "https://" + name},
	} {
		resp, err := client.Get(url)
		if err != nil {
			m.t.Errorf("%s: %v", url, err)
			continue
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get(header[0]); !strings.HasPrefix(got, header[1]) {
			m.t.Errorf("%s answers %d with %s %q, want %q", url, resp.StatusCode, header[0], got, header[1])
		}
	}
}
