package dns01

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/google/go-cmp/cmp"
)

// service records the requests it gets and answers with a status.
type service struct {
	*httptest.Server
	status int
	header http.Header
	body   string
	got    []string
}

func newService(t *testing.T) *service {
	s := &service{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		s.got = append(s.got, strings.TrimSpace(fmt.Sprint(r.Method, " ", r.URL.Path, " ", string(body), " ", user, password,
			r.Header.Get("X-Api-User"), r.Header.Get("X-Api-Key"))))
		for k, v := range s.header {
			w.Header()[k] = v
		}
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestHTTPReq(t *testing.T) {
	s := newService(t)
	r := recordOf(challenge(t, "*.example.com", "token"))
	for _, raw := range []bool{false, true} {
		c := &HTTPReqConfig{Endpoint: s.URL + "/dns/", Raw: raw, Username: "acmed:", PasswordFile: secretFile(t, "p4ss word\n")}
		if err := c.validate(); err != nil {
			t.Fatal(err)
		}
		p := newHTTPReq(c)
		if err := p.Present(t.Context(), r); err != nil {
			t.Error(err)
		}
		if err := p.CleanUp(t.Context(), r); err != nil {
			t.Error(err)
		}
		p.poster.client.CloseIdleConnections()
	}
	plain := fmt.Sprintf(`{"fqdn":"_acme-challenge.example.com.","value":%q} acmed`, r.Value)
	rawBody := fmt.Sprintf(`{"domain":"example.com","keyAuth":%q,"token":%q} acmed`, r.KeyAuth, r.Token)
	want := []string{"POST /dns/present " + plain, "POST /dns/cleanup " + plain, "POST /dns/present " + rawBody, "POST /dns/cleanup " + rawBody}
	for i := range s.got { // basic authentication splits at the first colon
		s.got[i] = strings.TrimSuffix(s.got[i], ":p4ss word")
	}
	if diff := cmp.Diff(want, s.got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestHTTPErrors(t *testing.T) {
	for _, tc := range []struct {
		status int
		header http.Header
		body   string
		want   string
		final  bool
		none   bool // nothing was changed
	}{
		{status: 500, body: "out of\norder\x1b[31m", want: "500 Internal Server Error: out of order", final: false},
		{status: 429, want: "429", final: false},
		{status: 403, want: "403", final: true, none: true},
		{status: 307, header: http.Header{"Location": {"http://127.0.0.1:1/"}}, want: "307", final: false},
		{status: 400, body: strings.Repeat("x", 1<<20), want: "xxx…", final: true},
	} {
		s := newService(t)
		s.status, s.header, s.body = tc.status, tc.header, tc.body
		p := newHTTPReq(&HTTPReqConfig{Endpoint: s.URL, Username: "u", PasswordFile: secretFile(t, "p4ssword")})
		err := p.Present(t.Context(), recordOf(challenge(t, "example.com", "x")))
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "p4ss") || len(err.Error()) > 500 {
			t.Errorf("%d: %v, want %q", tc.status, err, tc.want)
		}
		if permanent, nothing := permanence(err); permanent != tc.final || nothing != tc.none {
			t.Errorf("%d: permanent %v, want %v", tc.status, permanent, tc.final)
		}
		if len(s.got) != 1 {
			t.Errorf("%d: requests %q", tc.status, s.got)
		}
		p.poster.client.CloseIdleConnections()
	}
}

func TestACMEDNS(t *testing.T) {
	s := newService(t)
	file := secretFile(t, `{"example.com":{"fulldomain":"D420c923.auth.example.org","subdomain":"d420c923","username":"the-user","password":"the-p4ss","server_url":"x","allowfrom":[]}}`)
	p := newACMEDNS(&ACMEDNSConfig{Server: s.URL, AccountsFile: file})
	defer p.poster.client.CloseIdleConnections()
	r := recordOf(challenge(t, "example.com", "x"))
	err := p.Present(t.Context(), r)
	if want := "add the record: _acme-challenge.example.com. CNAME d420c923.auth.example.org."; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("not delegated: %v, want %q", err, want)
	}
	unknown := recordOf(challenge(t, "example.net", "x"))
	if err := p.Present(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "no account for example.net") {
		t.Errorf("unknown: %v", err)
	}
	r.FQDN = "d420c923.auth.example.org."
	if err := p.Present(t.Context(), r); err != nil {
		t.Error(err)
	}
	want := []string{fmt.Sprintf(`POST /update {"subdomain":"d420c923","txt":%q} the-userthe-p4ss`, r.Value)}
	if diff := cmp.Diff(want, s.got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if err := p.CleanUp(t.Context(), r); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{`[]`: "not a JSON object", `{"a":{"username":"s3cret"}}`: `"a" lacks one of`} {
		if _, err := readAccounts(secretFile(t, text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExec(t *testing.T) {
	t.Setenv("LD_LIBRARY_PATH", "/inherited")
	log := filepath.Join(t.TempDir(), "log")
	p := &execProvider{
		command: []string{script(t, `printf '%s\n' "$@" >>`+log+"\nenv | sort >>"+log+"\n"), "--zone", "a b;c"},
		envFile: secretFile(t, "TOKEN=s3cret-token\n"), timeout: 10 * time.Second,
	}
	r := recordOf(challenge(t, "example.com", "x"))
	for _, step := range []func() error{func() error { return p.Present(t.Context(), r) }, func() error { return p.CleanUp(t.Context(), r) }} {
		if err := step(); err != nil {
			t.Error(err)
		}
	}
	got, _ := os.ReadFile(log)
	var want string
	for _, verb := range []string{"present", "cleanup"} {
		want += "--zone\na b;c\n" + verb + "\n_acme-challenge.example.com.\n" + r.Value + "\nHOME=/nonexistent\nPATH=/usr/local/bin:/usr/bin:/bin\nPWD=/\nTOKEN=s3cret-token\n"
	}
	if diff := cmp.Diff(want, strings.ReplaceAll(string(got), "_=/usr/bin/env\n", "")); diff != "" {
		t.Errorf("arguments and environment (-want +got):\n%s", diff)
	}
}

func TestExecErrors(t *testing.T) {
	env := secretFile(t, "TOKEN=s3cret-token\n")
	for _, tc := range []struct{ name, text, want string }{
		{"fails", "echo no zone with $TOKEN >&2; exit 4", "exit status 4; it printed: no zone with <redacted>"},
		{"hangs", "sleep 3600 & sleep 3600", "did not end within 300ms and was killed"},
		{"floods", "yes $TOKEN; exit 1", "did not end within 300ms and was killed; it printed: <redacted>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := &execProvider{command: []string{script(t, tc.text)}, envFile: env, timeout: 300 * time.Millisecond}
			start := time.Now()
			err := p.Present(t.Context(), recordOf(challenge(t, "example.com", "x")))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if time.Since(start) > time.Minute || len(err.Error()) > 3000 {
				t.Errorf("after %s: %d bytes", time.Since(start), len(err.Error()))
			}
		})
	}
}

func TestValidate(t *testing.T) {
	rfc := func(c RFC2136Config) Config { return Config{RFC2136: &c} }
	for _, tc := range []struct {
		name   string
		config Config
		want   string
	}{
		{"worker", Config{Provider: "cloudflare", EnvFile: "/etc/acmed/cf.env", Resolvers: []string{"9.9.9.9", "[2620:fe::fe]:53", "2620:fe::fe", "dns.example.com:5353"}}, ""},
		{"nothing", Config{}, "give exactly one of"},
		{"two", Config{Provider: "cloudflare", RFC2136: &RFC2136Config{Nameserver: "ns.example.com"}}, "give exactly one of"},
		{"misspelt", Config{Provider: "cloudflair"}, `did you mean "cloudflare"?`},
		{"built in", Config{Provider: "acmedns"}, "acme-dns is built in"},
		{"relative", Config{Provider: "cloudflare", EnvFile: "cf.env"}, "not an absolute path"},
		{"env_file alone", Config{EnvFile: "/x"}, "env_file goes with provider"},
		{"resolver", Config{Provider: "cloudflare", Resolvers: []string{"a b"}}, `"a b" is neither an address`},
		{"port", Config{Provider: "cloudflare", Resolvers: []string{"a:99999"}}, "no valid port"},
		{"propagation", Config{Provider: "cloudflare", Propagation: "maybe"}, `"maybe" is none of`},
		{"long", Config{Provider: "cloudflare", PropagationTimeout: 2 * time.Hour}, "not between 0s and 1h"},
		{"negative", Config{Provider: "cloudflare", PollInterval: -1}, "cannot be negative"},
		{"rfc2136", rfc(RFC2136Config{Nameserver: "[::1]:5353", Zone: "example.com", TTL: time.Minute}), ""},
		{"rfc2136 without server", rfc(RFC2136Config{}), "rfc2136: nameserver"},
		{"rfc2136 zone", rfc(RFC2136Config{Nameserver: "a", Zone: "a b"}), "not a domain name"},
		{"rfc2136 ttl", rfc(RFC2136Config{Nameserver: "a", TTL: -1}), "ttl"},
		{"acme-dns", Config{ACMEDNS: &ACMEDNSConfig{Server: "https://auth.example.org", AccountsFile: "/x"}}, ""},
		{"acme-dns in clear", Config{ACMEDNS: &ACMEDNSConfig{Server: "http://auth.example.org", AccountsFile: "/x"}}, "would send credentials unencrypted"},
		{"acme-dns without accounts", Config{ACMEDNS: &ACMEDNSConfig{Server: "https://auth.example.org"}}, "accounts_file"},
		{"httpreq", Config{HTTPReq: &HTTPReqConfig{Endpoint: "http://dns.internal/x"}}, ""},
		{"httpreq user in the address", Config{HTTPReq: &HTTPReqConfig{Endpoint: "https://u:s3cret@dns.internal"}}, "cannot contain a user"},
		{"httpreq scheme", Config{HTTPReq: &HTTPReqConfig{Endpoint: "file:///etc/passwd"}}, "not an address like"},
		{"httpreq user alone", Config{HTTPReq: &HTTPReqConfig{Endpoint: "https://x", Username: "u"}}, "go together"},
		{"exec", Config{Exec: &ExecConfig{Command: []string{"/bin/true"}}}, ""},
		{"exec relative", Config{Exec: &ExecConfig{Command: []string{"true"}}}, "not an absolute path"},
		{"exec empty", Config{Exec: &ExecConfig{}}, "give the program"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.config, Options{Name: "s"})
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestCheckReadsFilesOnly(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte(testKey), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		config Config
		want   string
	}{
		{"token", Config{Provider: "cloudflare", EnvFile: secretFile(t, "CF_DNS_API_TOKEN=s3cret")}, ""},
		{"no token", Config{Provider: "cloudflare", EnvFile: secretFile(t, "CF_DNS_API_TOKE=s3cret")}, "did you mean CF_DNS_API_TOKEN?"},
		{"no file", Config{Provider: "cloudflare"}, "lacks CLOUDFLARE_EMAIL"},
		{"a constructor would ask the network", Config{Provider: "azuredns"}, ""},
		{"tsig", Config{RFC2136: &RFC2136Config{Nameserver: "a", TSIGKeyFile: secretFile(t, testKey)}}, ""},
		{"tsig open", Config{RFC2136: &RFC2136Config{Nameserver: "a", TSIGKeyFile: open}}, "chmod 600"},
		{"accounts", Config{ACMEDNS: &ACMEDNSConfig{Server: "https://a", AccountsFile: "/nonexistent"}}, "no such file"},
		{"password", Config{HTTPReq: &HTTPReqConfig{Endpoint: "https://a", Username: "u", PasswordFile: open}}, "chmod 600"},
		{"exec", Config{Exec: &ExecConfig{Command: []string{"/bin/sh"}}}, ""},
		{"exec not executable", Config{Exec: &ExecConfig{Command: []string{"/etc/passwd"}}}, "not executable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.config.Check()
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestProtocolLines(t *testing.T) {
	text, err := json.Marshal(Request{ID: 2, Op: OpPresent, Record: &Record{Domain: "d", FQDN: "f", Value: "v", Token: "t", KeyAuth: "k"}})
	if want := `{"id":2,"op":"present","record":{"domain":"d","fqdn":"f","value":"v","token":"t","key_auth":"k"}}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
}

// TestExecOfAnotherUser: a program that another user made or can change is not run, even if it became so after the start.
func TestExecOfAnotherUser(t *testing.T) {
	theirs := acmetest.TheirDir(t)
	ran := filepath.Join(theirs, "ran")
	acmetest.AsNobody(t, theirs, `printf '#!/bin/sh\ntouch ran\n' >hook; chmod 755 hook`)
	open := filepath.Join(filepath.Dir(theirs), "open")
	if err := errors.Join(os.WriteFile(open, []byte("#!/bin/sh\n"), 0o755), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	acmetest.AsNobody(t, theirs, "echo touch "+ran+" >>"+open)
	for program, want := range map[string]string{filepath.Join(theirs, "hook"): "belongs to user 65534", open: "can be changed by others"} {
		p := &execProvider{command: []string{program}, timeout: 10 * time.Second}
		r := recordOf(challenge(t, "example.com", "x"))
		for _, err := range []error{p.Present(t.Context(), r), p.CleanUp(t.Context(), r)} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", program, err, want)
			}
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
}
