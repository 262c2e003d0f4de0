package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/advice"
)

// failure is one way for acmed to fail, with the code that must come out of it.
type failure struct {
	code    advice.Code
	options []acmetest.Option
	prepare func(*sick)
	exit    int         // of renew; 0 stands for 1
	stored  advice.Code // what status shows afterwards; "" stands for code, "none" for nothing
	says    string      // more that status says, such as what this machine knows and the CA does not

	condition bool // of acmed or its machine, which status shows above the table and stores nowhere
}

// sick is a machine on which something is wrong: a CA, acmed's files, and what differs from a sound one.
type sick struct {
	*testing.T
	ca        *acmetest.CA
	dir       string
	page      string // address of the status page
	directory string
	resolver  string
	issuer    string // more settings of the issuer
	solver    string
	cert      string   // more settings of the certificate
	more      string   // more sections
	command   []string // instead of renew
	prefix    []string // runs acmed
	before    func()   // runs just before the command
}

func newSick(t *testing.T, opts ...acmetest.Option) *sick {
	t.Helper()
	s := &sick{T: t, dir: openDir(t), page: fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t)), ca: acmetest.Start(t, opts...), command: []string{"renew"}}
	s.directory, s.resolver = s.ca.Directory, s.ca.DNS.Addr
	s.issuer = "ca_file: " + s.dir + "/ca.pem"
	s.solver = fmt.Sprintf("http-01: { listen: \"127.0.0.1:%d\" }", s.ca.HTTPPort)
	s.file("ca.pem", string(s.ca.RootPEM))
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o750); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sick) file(name, text string) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
}

func (s *sick) configure() {
	s.Helper()
	s.file("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
web: { listen: %[10]q }
issuers:
  - { name: test-ca, directory: %[2]q, private: true, %[3]s }
solvers:
  - { name: solver, %[4]s }
probe: { resolver: %[5]q, http_port: %[6]d, tls_port: %[7]d, timeout: 3s }
defaults: { issuers: [test-ca], solvers: [solver] }
%[8]scertificates:
  - name: www
    names: [example.com]
%[9]s`, s.dir, s.directory, s.issuer, s.solver, s.resolver, s.ca.HTTPPort, s.ca.TLSPort, s.more, s.cert, s.page))
}

func (s *sick) run(args ...string) (out string, exit int) {
	s.Helper()
	argv := append(append(append([]string{}, s.prefix...), acmed, "-c", filepath.Join(s.dir, "acmed.yaml")), args...)
	cmd := exec.CommandContext(s.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	text, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		s.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// readOnly runs acmed where the state directory is mounted read-only.
func (s *sick) readOnly() []string {
	mount := fmt.Sprintf("mount --bind %[1]s/state %[1]s/state && mount -o remount,bind,ro %[1]s/state && exec \"$@\"", s.dir)
	return []string{"unshare", "-m", "sh", "-c", mount, "sh"}
}

// answer serves HTTP where the CA validates.
func (s *sick) answer(h http.HandlerFunc) {
	s.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.ca.HTTPPort))
	if err != nil {
		s.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	s.Cleanup(func() { _ = server.Close() })
}

// webroot leaves the answer to whoever listens.
func (s *sick) webroot() {
	s.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, "web"), 0o755); err != nil {
		s.Fatal(err)
	}
	s.solver = fmt.Sprintf("http-01: { webroot: %s/web }", s.dir)
}

// validating is a resolver that finds every signature broken, and answers only those who do not ask for validation.
func (s *sick) validating() string {
	s.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if q.CheckingDisabled {
			s.ca.DNS.ServeDNS(w, q)
			return
		}
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
	})}
	go func() { _ = server.ActivateAndServe() }()
	s.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

// record answers dns-01 with a program.
func (s *sick) record(program string) {
	s.solver = fmt.Sprintf("dns-01: { exec: { command: [%s] }, resolvers: [%q], propagation: resolvers, propagation_timeout: 1s, poll_interval: 100ms }", program, s.ca.DNS.Addr)
}

// nginx is a server for the certificate, which runs unless it is stopped or broken.
func (s *sick) nginx(conf string, run bool) {
	s.Helper()
	s.serve(fmt.Sprintf("listen 127.0.0.1:%d;", acmetest.FreePort(s)), conf, run)
}

// serve is nginx with these lines in its site.
func (s *sick) serve(site, conf string, run bool) {
	s.Helper()
	secure := acmetest.FreePort(s)
	s.file("nginx.conf", fmt.Sprintf(`pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	server {
		%[2]s
		server_name example.com;
	}
}
`, s.dir, site))
	args := []string{"-p", s.dir, "-c", s.dir + "/nginx.conf", "-e", s.dir + "/error.log"}
	if run {
		if out, err := exec.Command("nginx", args...).CombinedOutput(); err != nil {
			s.Fatalf("nginx: %v\n%s", err, out)
		}
		s.Cleanup(func() { _ = exec.Command("kill", strings.TrimSpace(s.text("nginx.pid"))).Run() })
	}
	if conf != "" {
		s.file("nginx.conf", conf)
	}
	s.cert += fmt.Sprintf("    install:\n      - nginx: { config: %[1]s/nginx.conf, prefix: %[1]s, pid_file: %[1]s/nginx.pid, listen: %[2]d, verify_timeout: 2s }\n", s.dir, secure)
}

func (s *sick) text(name string) string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

func proxied(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Server", "cloudflare")
	w.Header().Set("CF-RAY", "8f0a1b2c3d4e5f60-FRA")
	http.Error(w, "not here", http.StatusForbidden)
}

// failures are real ones: nothing in acmed is replaced.
func failures() []failure {
	return slices.Concat(proofFailures(), caFailures(), wordedFailures(), conditionFailures(), machineFailures())
}

func proofFailures() []failure {
	return []failure{
		{code: advice.NameNotResolved, prepare: func(s *sick) { s.ca.DNS.SetDefaultDNSIPv4(""); s.ca.DNS.SetDefaultDNSIPv6("") }},
		{code: advice.PortClosed, prepare: func(s *sick) { s.webroot(); s.nginx("", false) }, says: "example.com: the address is this machine's, and nginx is not running there: start it (systemctl start nginx); "},
		{code: advice.WrongAnswer, prepare: func(s *sick) { s.webroot(); s.answer(http.NotFound) }, says: "/web with the directory that the web server serves for this name"},
		{code: advice.WrongAnswer, prepare: func(s *sick) {
			s.webroot()
			s.serve(fmt.Sprintf("listen 127.0.0.1:%d; root %s/other;", s.ca.HTTPPort, s.dir), "", true)
		}, says: "/web, and the web server serves "},
		{code: advice.WebrootUnusable, prepare: func(s *sick) { s.solver = fmt.Sprintf("http-01: { webroot: %s/gone }", s.dir) }},
		{code: advice.PortTaken, prepare: func(s *sick) { s.answer(http.NotFound) }},
		{code: advice.ProxyInFront, prepare: func(s *sick) { s.issuer += ", preflight: enforce"; s.webroot(); s.answer(proxied) }},
		{code: advice.CAAForbids, options: []acmetest.Option{acmetest.WithCAAIdentities("ca.example.net")}, prepare: func(s *sick) {
			s.issuer += ", preflight: enforce"
			s.ca.DNS.AddDNSCAARecord("example.com.", []challtestsrv.CAAPolicy{{Tag: "issue", Value: "letsencrypt.org"}})
		}},
		{code: advice.ResolverSilent, prepare: func(s *sick) {
			s.issuer += ", preflight: enforce"
			s.resolver = fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(s))
		}},
		{code: advice.DNSSECBroken, prepare: func(s *sick) { s.issuer += ", preflight: enforce"; s.resolver = s.validating() }},
		{code: advice.DNSRefused, prepare: func(s *sick) { s.record("/bin/false") }},
		{code: advice.DNSPropagation, prepare: func(s *sick) { s.record("/bin/true") }},
		{code: advice.FailedTooOften, exit: 75, stored: advice.PortClosed, prepare: func(s *sick) {
			s.webroot()
			s.command = []string{"renew", "--force", "--yes"}
			s.before = func() {
				for range 3 {
					s.run(s.command...)
				}
			}
		}},
	}
}

func caFailures() []failure {
	limit := acmetest.Problem(http.StatusTooManyRequests, "rateLimited", "too many certificates already issued for: example.com", "3600")
	return []failure{
		{code: advice.RateLimited, exit: 75, prepare: func(s *sick) { s.ca.Use(acmetest.At(limit, acmetest.NewOrder)) }},
		{code: advice.NameRefused, options: []acmetest.Option{acmetest.WithBlocklist("example.com")}, prepare: func(*sick) {}},
		{code: advice.ProfileNotOffered, prepare: func(s *sick) { s.cert = "    profile: sixdays\n" }},
		{code: advice.AccountRefused, options: []acmetest.Option{acmetest.WithEAB(map[string]string{"kid": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"})}, prepare: func(*sick) {}},
		{code: advice.CAUnreachable, prepare: func(s *sick) { s.directory = fmt.Sprintf("https://127.0.0.1:%d/dir", acmetest.FreePort(s)) }},
		{code: advice.CAUnreachable, says: "lookup ca.example.com", prepare: func(s *sick) { // a network whose only way out is a proxy
			s.directory = "https://ca.example.com/dir"
			s.file("nsswitch.conf", "hosts: files\n")
			s.prefix = []string{"unshare", "-m", "sh", "-c", "mount --bind " + s.dir + "/nsswitch.conf /etc/nsswitch.conf && exec \"$@\"", "sh"}
		}},
		{code: advice.CAUntrusted, prepare: func(s *sick) { s.issuer = "email: ops@example.com" }},
		{code: advice.ClockWrong, options: []acmetest.Option{acmetest.WithServerFault(acmetest.ServerExpired)}, prepare: func(*sick) {}},
		{code: advice.CertificateRefused, prepare: func(s *sick) {
			f, err := acmetest.NewForger()
			if err != nil {
				s.Fatal(err)
			}
			s.ca.Use(acmetest.At(f.Forge(acmetest.Names("example.org")), acmetest.Certificate))
		}},
	}
}

// wordedFailures are answers in the words of Boulder, which the test CA does not use.
func wordedFailures() []failure {
	boulder := func(status int, kind, detail string) func(*sick) {
		return func(s *sick) { s.ca.Use(acmetest.At(acmetest.Problem(status, kind, detail, ""), acmetest.NewOrder)) }
	}
	return []failure{
		{code: advice.AccountPaused, exit: 75, says: "https://sfe.example/unpause", prepare: boulder(http.StatusTooManyRequests, "rateLimited",
			"Your account is temporarily prevented from requesting certificates for example.com and possibly others. Please visit: https://sfe.example/unpause")},
		{code: advice.RedirectRefused, prepare: boulder(http.StatusBadRequest, "connection", "Fetching http://example.com/x: Redirect loop detected")},
		{code: advice.RedirectRefused, says: "not 8443", prepare: boulder(http.StatusBadRequest, "connection",
			"Fetching https://example.com:8443/x: Invalid port in redirect target. Only ports 80 and 443 are supported, not 8443")},
		{code: advice.ProfileNotOffered, prepare: boulder(http.StatusBadRequest, "rejectedIdentifier", `Profile "classic" does not permit ip type identifiers`)},
		{code: advice.AccountRefused, prepare: boulder(http.StatusBadRequest, "malformed", "JWS verification error")},
		{code: advice.PrivateAddress, prepare: boulder(http.StatusBadRequest, "dns", "no valid A records found for example.com; no valid AAAA records found for example.com")},
		{code: advice.ServerSlow, prepare: boulder(http.StatusBadRequest, "connection", "Fetching http://example.com/x: Timeout after connect (your server may be slow or overloaded)")},
		{code: advice.StapleRefused, prepare: boulder(http.StatusForbidden, "unauthorized", "OCSP must-staple extension is no longer available: see https://letsencrypt.org/2024/12/05/ending-ocsp")},
		{code: advice.NotSupported, stored: "none", prepare: func(s *sick) {
			s.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { delete(doc, "keyChange") }), acmetest.Directory))
			s.command = []string{"account", "rollover", "test-ca"}
		}},
		{code: advice.NotSupported, stored: "none", prepare: func(s *sick) {
			s.ca.Use(acmetest.At(acmetest.Problem(http.StatusNotImplemented, "serverInternal", "key change is not implemented", ""), acmetest.KeyChange))
			s.command = []string{"account", "rollover", "test-ca"}
		}},
	}
}

// conditionFailures are about acmed itself, so "status" shows them, with exit code 3.
func conditionFailures() []failure {
	status := func(before func(*sick)) func(*sick) {
		return func(s *sick) {
			s.command = []string{"status"}
			s.before = func() { s.run("renew"); before(s) }
		}
	}
	return []failure{
		{code: advice.DaemonNotRunning, exit: 3, stored: "none", prepare: status(func(*sick) {})},
		{code: advice.ConfigBroken, exit: 3, stored: "none", condition: true, prepare: func(s *sick) {
			s.more = "include: conf.d/*.yaml\n"
			status(func(s *sick) {
				if err := os.Mkdir(filepath.Join(s.dir, "conf.d"), 0o755); err != nil {
					s.Fatal(err)
				}
				s.file("conf.d/broken.yaml", "certifcates: []\n")
			})(s)
		}},
		{code: advice.StateRepaired, exit: 3, stored: "none", condition: true, prepare: status(func(s *sick) { s.file("state/certs/www/state.json", "{ cut off") })},
	}
}

func machineFailures() []failure {
	return []failure{
		{code: advice.ServerTestFailed, prepare: func(s *sick) {
			s.nginx("events {}\nhttp {\n\tserver {\n\t\tserver_name example.com;\n\t\troot /var/www\n\t}\n}\n", true)
		}},
		{code: advice.ServerNotRunning, prepare: func(s *sick) { s.nginx("", false) }},
		{code: advice.NotServed, prepare: func(s *sick) {
			if err := os.Mkdir(filepath.Join(s.dir, "tls"), 0o755); err != nil {
				s.Fatal(err)
			}
			s.cert = fmt.Sprintf("    install:\n      - file: { dir: %s/tls, verify: [\"127.0.0.1:%d/example.com\"], verify_wait: 1s }\n", s.dir, acmetest.FreePort(s))
		}},
		{code: advice.ClientsLockedOut, prepare: func(s *sick) {
			s.nginx("", true)
			s.before = func() {
				text := strings.Replace(s.text("nginx.conf"), "access_log off;", "access_log off; ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256;", 1)
				s.file("nginx.conf", text)
			}
		}},
		{code: advice.HelperUnreachable, prepare: func(s *sick) {
			s.cert = fmt.Sprintf("    install:\n      - helper: { target: www, socket: %s/installd.sock }\n", s.dir)
		}},
		{code: advice.FileEdited, stored: "none", prepare: func(s *sick) {
			if err := os.Mkdir(filepath.Join(s.dir, "tls"), 0o755); err != nil {
				s.Fatal(err)
			}
			s.cert = fmt.Sprintf("    install:\n      - file: { dir: %s/tls }\n", s.dir)
			s.command = []string{"uninstall", "www"}
			s.before = func() { s.run("renew"); s.file("tls/cert.pem", "mine") }
		}},
		{code: advice.ClientsWouldBreak, stored: "none", prepare: func(s *sick) {
			s.file("firmware.pem", string(s.ca.IntermediatePEM(0)))
			s.more = fmt.Sprintf("trust:\n  - { name: firmware, anchors: %s/firmware.pem }\n", s.dir)
			s.cert = "    trust: [firmware]\n"
			s.command = []string{"activate", "www"}
			s.before = func() {
				s.run("renew")
				if err := s.ca.Forget(); err != nil {
					s.Fatal(err)
				}
				s.run("renew", "--force", "--yes")
				if out, _ := s.run("status", "www"); !strings.Contains(out, "clients-would-break: firmware would not trust it") {
					s.Errorf("status says %s", out)
				}
			}
		}},
		{code: advice.NoPermission, exit: 4, stored: "none", prepare: func(s *sick) {
			s.before = func() {
				if err := os.Chmod(filepath.Join(s.dir, "state"), 0o700); err != nil {
					s.Fatal(err)
				}
			}
			s.prefix = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
		}},
		{code: advice.StateLocked, exit: 4, stored: "none", prepare: func(s *sick) {
			lock, err := os.OpenFile(filepath.Join(s.dir, "state", "lock"), os.O_CREATE|os.O_RDWR, 0o640)
			if err != nil {
				s.Fatal(err)
			}
			s.Cleanup(func() { _ = lock.Close() })
			if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
				s.Fatal(err)
			}
		}},
		{code: advice.NoPermission, stored: "none", prepare: func(s *sick) { s.prefix = s.readOnly() }}, // before the first start
		{code: advice.NoPermission, stored: "none", condition: true, says: "/state cannot be written: ", prepare: func(s *sick) {
			s.command = []string{"renew", "--force", "--yes"}
			s.before = func() { s.run("renew"); s.prefix = s.readOnly() }
		}},
		{code: advice.DiskFull, stored: "none", condition: true, says: "/state cannot be written: ", prepare: func(s *sick) {
			mount := fmt.Sprintf("mount -t tmpfs -o size=64k,mode=0750 none %[1]s/state && { head -c 100000 /dev/zero > %[1]s/state/ballast; exec \"$@\"; }", s.dir)
			s.prefix = []string{"unshare", "-m", "sh", "-c", mount, "sh"}
		}},
	}
}

func ofFleets() []advice.Code {
	return []advice.Code{
		advice.StoreUnreachable, advice.StoreNoQuorum, advice.StoreFull, advice.StoreDenied, advice.StoreUntrusted, advice.FleetMissing, advice.SealKeyWrong,
	}
}

// TestFailures provokes the failures that operators meet most, for real, and reads what acmed says: what, why, what to
// do, and the code, on the terminal, in status and in JSON.
func TestFailures(t *testing.T) {
	for _, e := range advice.All() {
		// A daemon is stuck after an hour without progress: TestProgress of pkg/renewal waits for it. etcd's failures are
		// provoked in pkg/fleet/etcd/etcdtest.
		if e.Code != advice.DaemonStuck && !slices.Contains(ofFleets(), e.Code) && !slices.ContainsFunc(failures(), func(f failure) bool { return f.code == e.Code }) {
			t.Errorf("nothing provokes %s", e.Code)
		}
	}
	for _, f := range failures() {
		t.Run(string(f.code), func(t *testing.T) {
			t.Parallel()
			s := newSick(t, f.options...)
			f.prepare(s)
			s.configure()
			if s.before != nil {
				s.before()
			}
			out, exit := s.run(s.command...)
			t.Logf("acmed %s:\n%s", strings.Join(s.command, " "), out)
			want := f.exit
			if want == 0 {
				want = 1
			}
			e, _ := advice.Lookup(f.code)
			said := strings.Split(out, "\n")
			at := slices.IndexFunc(said, func(line string) bool { return strings.Contains(line, e.What+": ") })
			if at < 0 || at+2 >= len(said) {
				t.Fatalf("%q and two lines after it are not said", e.What)
			}
			for i, end := range []string{"why: " + e.Why, "do: " + e.Do + " (acmed explain " + string(f.code) + ")"} {
				if !strings.HasSuffix(said[at+1+i], end) {
					t.Errorf("%d lines below what it is stands %q, not %q", i+1, said[at+1+i], end)
				}
			}
			if exit != want {
				t.Errorf("exit %d, want %d", exit, want)
			}
			s.checkStatus(f)
			s.night(f)
		})
	}
}

// night is 3 a.m.: an operator who knows nothing runs "acmed status", and learns the cause and the remedy. So does who
// looks at the page or at /healthz, and a program that reads the JSON.
func (s *sick) night(f failure) {
	s.Helper()
	code := cmp.Or(f.stored, f.code)
	if f.condition {
		code = f.code
	}
	if code == "none" {
		return
	}
	e, _ := advice.Lookup(code)
	out, exit := s.run("status")
	for _, part := range []string{string(code), e.Do + " (acmed explain " + string(code) + ")", f.says} {
		if !strings.Contains(out, part) || exit != 3 {
			s.Errorf("status, with exit code %d, does not say %q:\n%s", exit, part, out)
		}
	}
	argv := append(slices.Clone(s.prefix), acmed, "-c", filepath.Join(s.dir, "acmed.yaml"), "run")
	daemon := exec.CommandContext(s.Context(), argv[0], argv[1:]...)
	if err := daemon.Start(); err != nil {
		s.Fatal(err)
	}
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	}()
	s.until("/", "/errors/"+string(code))
	s.until("/metrics", "acmed_condition{code=\"clock-wrong\"} 0")
	if out, exit := s.run("status", "-o", "json"); exit != 3 || !strings.Contains(out, fmt.Sprintf(`"code": %q`, code)) || strings.Contains(out, string(advice.DaemonNotRunning)) {
		s.Errorf("JSON, with exit code %d: %s", exit, out)
	}
	s.until("/healthz", string(code)+": ")
	s.until("/livez", "ok\n")
	if f.condition {
		s.until("/metrics", fmt.Sprintf("acmed_condition{code=%q} 1", code))
	}
}

// until fetches a page of the daemon until it has a text.
func (s *sick) until(path, text string) {
	s.Helper()
	await.NoError(s, func() error {
		resp, err := http.Get("http://" + s.page + path)
		if err != nil {
			return err
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if !strings.Contains(string(body), text) {
			return fmt.Errorf("%s never had %q, last:\n%s", path, text, body)
		}
		return nil
	})
}

// checkStatus reads the code from what was stored.
func (s *sick) checkStatus(f failure) {
	s.Helper()
	code := f.stored
	switch code {
	case "none":
		return
	case "":
		code = f.code
	}
	e, _ := advice.Lookup(code)
	story, _ := s.run("status", "www")
	for _, part := range []string{" " + string(code) + ": ", " why ", e.Why, " do ", e.Do + " (acmed explain " + string(code) + ")"} {
		if !strings.Contains(story, part) {
			s.Errorf("status does not say %q:\n%s", part, story)
		}
	}
	if out, _ := s.run("status", "-o", "json"); !strings.Contains(out, fmt.Sprintf(`"code": %q`, code)) {
		s.Errorf("no code in %s", out)
	}
	if state := s.text("state/certs/www/state.json"); !strings.Contains(state, fmt.Sprintf(`"last_code": %q`, code)) {
		s.Errorf("no code in %s", state)
	}
}
