package systemd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const daemonConfig = `agree_tos: true
issuers:
  - { name: test-ca, directory: "https://127.0.0.1:14000/dir", ca_file: /etc/acmed/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:5002" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
include: conf.d/*.yaml
certificates:
  - { name: www, names: [www.test], install: [ { helper: { target: www } } ] }
  - { name: shop, names: [shop.test], install: [ { helper: { target: shop } } ] }
`

const helperConfig = `targets:
  - { name: www, names: [www.test], install: { nginx: {} } }
  - { name: shop, names: [shop.test], install: { apache: { listen: 8443 } } }
`

const nginxSite = `server {
	listen 80;
	server_name www.test;
	root /var/www/html;
}
`

const apacheSite = `<VirtualHost *:8080>
	ServerName shop.test
	DocumentRoot /var/www/html
</VirtualHost>
`

// TestSystemd is the life of the package on one machine; each step needs those before it.
func TestSystemd(t *testing.T) {
	m := boot(t)
	for _, step := range []struct {
		name string
		do   func(*machine)
	}{
		{"package", installPackage}, {"obtain and install", obtain}, {"reload", reload}, {"strangers", strangers}, {"broken helper", brokenHelper}, {"enable", enable}, {"credentials", credentials},
		{"watchdog", watchdog}, {"out of memory", outOfMemory}, {"stop in each phase", stopAnywhere}, {"stop while the CA hangs", stopHanging},
		{"upgrade", upgrade}, {"sockets", sockets}, {"one process", single}, {"remove", remove},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			m.t = t
			step.do(m)
		}) {
			return
		}
		m.t = t
	}
}

func debs(t *testing.T) string { return built(t, "acmed_*.deb") }

func age(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// installPackage: nothing starts without a configuration.
func installPackage(m *machine) {
	m.copy(debs(m.t), "/root/acmed.deb", 0o644)
	m.write("/etc/acmed/acmed.toml", "")
	m.fails(1, "another program named acmed", "dpkg", "-i", "/root/acmed.deb")
	m.do("rm", "/etc/acmed/acmed.toml")
	if out := m.do("dpkg", "-i", "/root/acmed.deb"); !strings.Contains(out, "nothing is started") {
		m.t.Errorf("dpkg said %s", out)
	}
	m.do("id", "acmed")
	for _, unit := range []string{"acmed.service", "acmed-installd.socket", "acmed-single.service"} {
		if state, _ := m.try("systemctl", "is-active", unit); state != "inactive" {
			m.t.Errorf("%s is %s", unit, state)
		}
		if state, _ := m.try("systemctl", "is-enabled", unit); state != "disabled" {
			m.t.Errorf("%s is %s", unit, state)
		}
	}
	m.do("systemctl", "start", "acmed.service") // the condition is not met
	if state := m.property("acmed.service", "ActiveState"); state != "inactive" {
		m.t.Errorf("without a configuration the daemon is %s", state)
	}
	for _, path := range []string{"/usr/share/man/man1/acmed.1.gz", "/usr/share/bash-completion/completions/acmed", "/etc/acmed/secrets"} {
		m.do("test", "-e", path)
	}
	m.do("systemd-analyze", "verify", "--man=no", "acmed.service", "acmed-installd.service", "acmed-installd.socket", "acmed-single.service")
}

// obtain starts a CA, the daemon and the helper, and waits until both web servers serve.
func obtain(m *machine) {
	m.copy("../../bin/testca", "/usr/local/bin/testca", 0o755)
	m.do("systemd-run", "--unit=testca", "/usr/local/bin/testca", "-http-port", "5002", "-root", "/etc/acmed/ca.pem", "-issuing-root", "/root/issuing.pem")
	m.write("/etc/nginx/sites-enabled/www", nginxSite)
	m.write("/etc/apache2/ports.conf", "Listen 8080\n")
	m.write("/etc/apache2/sites-available/000-default.conf", apacheSite)
	m.do("systemctl", "restart", "nginx", "apache2")
	m.write("/etc/acmed/acmed.yaml", daemonConfig)
	m.write("/etc/acmed/installd.yaml", helperConfig)
	m.until("the CA answers", func() error {
		_, err := m.try("curl", "-sf", "--cacert", "/etc/acmed/ca.pem", "https://127.0.0.1:14000/dir")
		return err
	})
	m.do("acmed", "check")
	m.do("acmed", "installd", "--check")
	m.do("systemctl", "enable", "--now", "acmed-installd.socket", "acmed.service")
	m.healthy("www", "shop")
	m.serves()
	if user := m.do("ps", "-o", "user=", "-p", fmt.Sprint(m.pid("acmed.service"))); user != "acmed" {
		m.t.Errorf("the daemon runs as %s", user)
	}
	if !strings.Contains(m.read("/etc/nginx/sites-enabled/www"), "/var/lib/acmed-installd/certs/www/current/fullchain.pem") {
		m.t.Error("nginx does not read the helper's copy")
	}
	if mode := m.do("stat", "-c", "%U %a", "/var/lib/acmed-installd", "/var/lib/acmed-installd/certs/www/current/privkey.pem"); mode != "root 700\nroot 600" {
		m.t.Errorf("the copies are %q", mode)
	}
	m.until("the status line", func() error {
		if text := m.property("acmed.service", "StatusText"); !strings.HasPrefix(text, "2 certificates, none needs attention") {
			return errors.New(text)
		}
		return nil
	})
	out := m.do("journalctl", "--no-pager", "-o", "json", "CERTIFICATE=www", "EVENT=obtained")
	var entry struct {
		Message, Priority string
		Unit              string `json:"_SYSTEMD_UNIT"`
	}
	if err := json.Unmarshal([]byte(out), &entry); err != nil || !strings.Contains(entry.Message, "www") || entry.Priority != "6" || entry.Unit != "acmed.service" {
		m.t.Errorf("the journal says of the new certificate %+v, %v\n%s", entry, err, out)
	}
}

type certificate struct {
	Name, Health string
	Versions     []struct{ ID string }
}

type status struct{ Certificates []certificate }

func (m *machine) status() (s status, err error) {
	out, err := m.try("acmed", "status", "-o", "json")
	if err != nil && out == "" {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// healthy waits until certificates are obtained, installed and verified.
func (m *machine) healthy(names ...string) {
	m.t.Helper()
	m.until("all is well", func() error {
		s, err := m.status()
		if err != nil {
			return err
		}
		for _, name := range names {
			if !slices.ContainsFunc(s.Certificates, func(c certificate) bool { return c.Name == name && c.Health == "ok" }) {
				return fmt.Errorf("%s is not: %+v", name, s)
			}
		}
		return nil
	})
}

// versions counts what was ever issued and kept.
func (m *machine) versions() int {
	m.t.Helper()
	s, err := m.status()
	if err != nil {
		m.t.Fatal(err)
	}
	n := 0
	for _, c := range s.Certificates {
		n += len(c.Versions)
	}
	return n
}

// serves looks at both servers as a client does.
func (m *machine) serves() {
	m.t.Helper()
	for name, port := range map[string]string{"www.test": "443", "shop.test": "8443"} {
		m.do("curl", "-sf", "-o", "/dev/null", "--cacert", "/root/issuing.pem", "--resolve", name+":"+port+":127.0.0.1", "https://"+name+":"+port+"/")
	}
}

// reload: systemctl waits, and fails with a configuration that cannot be used.
func reload(m *machine) {
	pid := m.pid("acmed.service")
	m.write("/etc/acmed/conf.d/more.yaml", "certificates:\n  - { name: more, names: [more.test] }\n")
	m.do("systemctl", "reload", "acmed")
	m.healthy("www", "shop", "more")
	m.write("/etc/acmed/acmed.yaml", daemonConfig+"nonsense: 1\n")
	m.fails(1, "Job for acmed.service failed", "systemctl", "reload", "acmed")
	m.until("the journal says what is wrong", func() error { return m.logged("nonsense") })
	m.healthy("www", "shop", "more")
	m.write("/etc/acmed/acmed.yaml", daemonConfig)
	m.do("systemctl", "reload", "acmed")
	m.healthy("www", "shop", "more")
	if now := m.pid("acmed.service"); now != pid {
		m.t.Errorf("the daemon was restarted: %d, %d", pid, now)
	}
}

// strangers: nobody gets nothing, and the daemon's user gets no more than targets.
func strangers(m *machine) {
	nobody := []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"}
	m.fails(4, "", append(nobody, "acmed", "status")...)
	ask := []string{"curl", "-s", "--unix-socket", "/run/acmed-installd.sock", "-d", `{"target":"../../etc/passwd"}`, "http://helper/v1/uninstall"}
	m.fails(7, "", append(nobody, ask...)...)
	daemon := []string{"setpriv", "--reuid=acmed", "--regid=acmed", "--clear-groups", "--"}
	if out := m.do(append(daemon, ask...)...); !strings.Contains(out, "has no target") {
		m.t.Errorf("the helper said %s", out)
	}
	m.fails(1, "Permission denied", append(daemon, "cat", "/var/lib/acmed-installd/certs/www/current/privkey.pem")...)
	m.fails(1, "Permission denied", append(daemon, "touch", "/etc/nginx/x")...)
}

// brokenHelper: a helper that cannot work says so to the daemon, and the next one reads the mended configuration.
func brokenHelper(m *machine) {
	m.write("/etc/acmed/installd.yaml", helperConfig+"nonsense: 1\n")
	m.do("systemctl", "stop", "acmed-installd.service")
	m.fails(1, "nonsense", "acmed", "renew", "--force", "--yes", "www")
	m.write("/etc/acmed/installd.yaml", helperConfig)
	time.Sleep(2 * time.Second)
	m.do("acmed", "renew", "www")
	m.healthy("www", "shop", "more")
	m.serves()
}

// enable: one command configures the daemon and the helper, another one takes it all back.
func enable(m *machine) {
	const site = "/etc/nginx/sites-enabled/new"
	before := strings.ReplaceAll(nginxSite, "www.test", "new.test")
	m.write(site, before)
	m.do("systemctl", "reload", "nginx")
	gone := func() {
		m.t.Helper()
		m.do("test", "!", "-e", "/etc/acmed/conf.d/new.test.yaml", "-a", "!", "-e", "/etc/acmed/installd.d/new.test.yaml")
		if after := m.read(site); after != before {
			m.t.Errorf("nginx's file is not as it was:\n%s", after)
		}
	}
	command := []string{"acmed", "enable", "--yes", "-d", "new.test"}
	m.fails(2, "add the line: include: installd.d/*.yaml", command...)
	m.write("/etc/acmed/installd.yaml", "include: installd.d/*.yaml\n"+helperConfig)
	m.fails(1, "new.test is not enabled", append(command, "--listen", "127.0.0.1:1")...)
	gone()
	m.fails(4, "run this as root", append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"}, command...)...)
	if out := m.do(command...); !strings.Contains(out, "https://new.test/ works now") || strings.Contains(out, "no daemon") {
		m.t.Errorf("enable says %s", out)
	}
	m.do("curl", "-sf", "-o", "/dev/null", "--cacert", "/root/issuing.pem", "--resolve", "new.test:443:127.0.0.1", "https://new.test/")
	m.do("grep", "-q", "/var/lib/acmed-installd/certs/new.test/current/fullchain.pem", site)
	if out := m.do("acmed", "installd", "--check"); !strings.Contains(out, "3 targets") {
		m.t.Error(out)
	}
	m.do("acmed", "disable", "--yes", "--purge", "new.test")
	gone()

	// A site that proxies, for which the daemon, which is not root, answers challenges itself.
	before = "server {\n\tlisten 80;\n\tserver_name new.test;\n\tlocation / { proxy_pass http://127.0.0.1:1; }\n}\n"
	m.write(site, before)
	m.do("systemctl", "reload", "nginx")
	if out := m.do(command...); !strings.Contains(out, "https://new.test/ works now") {
		m.t.Errorf("enable says %s", out)
	}
	m.do("acmed", "renew", "--force", "--yes", "new.test")
	m.do("acmed", "disable", "--yes", "--purge", "new.test")
	gone()
	m.do("rm", site)
	m.do("systemctl", "reload", "nginx")
	m.healthy("www", "shop", "more")
	m.serves()
}

// dropIn changes a unit for a while.
func (m *machine) dropIn(unit, text string) (remove func()) {
	m.t.Helper()
	dir := "/run/systemd/system/" + unit + ".d"
	m.do("mkdir", "-p", dir)
	m.do("sh", "-c", `printf '[Service]\n%s\n' "$1" >"$2/test.conf"`, "sh", text, dir)
	m.do("systemctl", "daemon-reload")
	return func() {
		m.t.Helper()
		m.do("rm", "-r", dir)
		m.do("systemctl", "daemon-reload")
		m.do("systemctl", "restart", unit)
	}
}

// restarts waits for systemd to put a new process in the place of pid.
func (m *machine) restarts(pid int) {
	m.t.Helper()
	m.until("systemd restarts the daemon", func() error {
		if now := m.property("acmed.service", "MainPID"); now == "0" || now == fmt.Sprint(pid) {
			return fmt.Errorf("the process is %s", now)
		}
		if state := m.property("acmed.service", "ActiveState"); state != "active" {
			return errors.New(state)
		}
		return nil
	})
}

// credentials: a secret that only root can read reaches the daemon, and commands work although they have not got it.
func credentials(m *machine) {
	m.put("/etc/acmed/secrets/eab", []byte(m.secret(strings.Repeat("c2VjcmV0", 8))), 0o600)
	m.write("/etc/acmed/conf.d/bound.yaml", `issuers:
  - { name: bound, directory: "https://127.0.0.1:1/dir", private: true, eab: { kid: x, hmac_file: $CREDENTIALS_DIRECTORY/eab } }
`)
	m.fails(1, "Job for acmed.service failed", "systemctl", "reload", "acmed")
	remove := m.dropIn("acmed.service", "LoadCredential=eab:/etc/acmed/secrets/eab")
	m.do("systemctl", "restart", "acmed")
	m.do("systemctl", "reload", "acmed")
	m.healthy("www", "shop", "more")
	m.do("rm", "/etc/acmed/conf.d/bound.yaml")
	remove()
}

// watchdog: a daemon that makes no progress is replaced, and nothing is ordered again.
func watchdog(m *machine) {
	before := m.versions()
	remove := m.dropIn("acmed.service", "WatchdogSec=2s\nTimeoutAbortSec=1s\nRestartSec=100ms")
	m.do("systemctl", "restart", "acmed")
	pid := m.pid("acmed.service")
	time.Sleep(5 * time.Second)
	if now := m.pid("acmed.service"); now != pid {
		m.t.Fatalf("an idle daemon was restarted by the watchdog\n%s", m.journal())
	}
	m.do("kill", "-STOP", fmt.Sprint(pid))
	m.restarts(pid)
	if err := m.logged("Watchdog timeout"); err != nil {
		m.t.Errorf("it was not the watchdog: %v", err)
	}
	m.healthy("www", "shop", "more")
	if after := m.versions(); after != before {
		m.t.Errorf("%d versions before, %d after", before, after)
	}
	remove()
}

// outOfMemory: the kernel kills the daemon in the middle of an order; it comes back and goes on.
func outOfMemory(m *machine) {
	before := m.versions()
	remove := m.dropIn("acmed.service", "RestartSec=2s")
	m.do("systemctl", "restart", "acmed")
	m.healthy("www", "shop", "more")
	pid := m.pid("acmed.service")
	lift := limit(m, "acmed.service", 256<<10)
	_, _ = m.try("acmed", "renew", "--force", "--yes", "more")
	m.until("the kernel kills the daemon", func() error { return m.logged("status=9/KILL") })
	lift()
	m.restarts(pid)
	m.healthy("www", "shop", "more")
	if after := m.versions(); after > before+1 {
		m.t.Errorf("%d versions before, %d after", before, after)
	}
	remove()
}

// stopAnywhere stops the daemon and the helper at growing times after the begin of a renewal.
func stopAnywhere(m *machine) {
	for i := range 14 {
		unit := []string{"acmed.service", "acmed-installd.service"}[i%2]
		_, _ = m.try("sh", "-c", fmt.Sprintf("acmed renew --force --yes www shop >/dev/null 2>&1 & sleep %.3f", 0.03*float64(i)))
		begun := time.Now()
		m.do("systemctl", "stop", unit)
		if took := time.Since(begun); took > 60*time.Second {
			m.t.Errorf("%s took %s to stop", unit, took)
		}
		if result := m.property(unit, "Result"); result != "success" {
			m.t.Errorf("%s ended with %s\n%s", unit, result, m.journal())
		}
		m.serves()
		m.do("systemctl", "start", "acmed.service")
	}
	_, _ = m.try("acmed", "renew", "www", "shop") // an installation that was interrupted is tried again after a minute only
	time.Sleep(time.Second)
	_, _ = m.try("acmed", "renew", "www", "shop") // the first may have joined the interrupted one
	m.healthy("www", "shop", "more")
	m.serves()
}

// stopHanging: a CA that does not answer delays a stop by the grace time and no more.
func stopHanging(m *machine) {
	ca := fmt.Sprint(m.pid("testca.service"))
	m.do("kill", "-STOP", ca)
	_, _ = m.try("sh", "-c", "acmed renew --force --yes www >/dev/null 2>&1 & sleep 1")
	begun := time.Now()
	m.do("systemctl", "stop", "acmed.service")
	took := time.Since(begun)
	m.do("kill", "-CONT", ca)
	m.t.Logf("stopped after %s", took.Round(time.Second))
	if took > 60*time.Second || m.property("acmed.service", "Result") != "success" {
		m.t.Errorf("it took %s, %s\n%s", took, m.property("acmed.service", "Result"), m.journal())
	}
	m.do("systemctl", "start", "acmed.service")
	m.healthy("www", "shop", "more")
}

// upgrade: what ran goes on with the new program, and orders nothing.
func upgrade(m *machine) {
	m.write("/etc/acmed/acmed.toml", "")
	m.fails(1, "another program named acmed", "dpkg", "-i", "/root/acmed.deb")
	m.do("rm", "/etc/acmed/acmed.toml")
	m.until("the daemon runs", func() error { _, err := m.status(); return err })
	before, pid := m.versions(), m.pid("acmed.service")
	m.do("dpkg", "-i", "/root/acmed.deb")
	m.restarts(pid)
	m.healthy("www", "shop", "more")
	if after := m.versions(); after != before {
		m.t.Errorf("%d versions before, %d after", before, after)
	}
}

// sockets: with systemd's ports, a daemon that may not open them answers there, also when no order is under way.
func sockets(m *machine) {
	m.do("systemctl", "stop", "nginx", "acmed.service")
	remove := m.dropIn("acmed.service", "CapabilityBoundingSet=\nAmbientCapabilities=")
	m.do("systemd-run", "--unit=testca80", "/usr/local/bin/testca", "-listen", "127.0.0.1:14001", "-http-port", "80", "-root", "/etc/acmed/ca80.pem")
	m.until("the CA answers", func() error {
		_, err := m.try("curl", "-sf", "--cacert", "/etc/acmed/ca80.pem", "https://127.0.0.1:14001/dir")
		return err
	})
	m.write("/etc/acmed/conf.d/port.yaml", `issuers:
  - { name: port-80, directory: "https://127.0.0.1:14001/dir", ca_file: /etc/acmed/ca80.pem, private: true }
certificates:
  - { name: port, names: [port.test], issuers: [port-80], solvers: [http-01] }
`)
	m.do("systemctl", "enable", "--now", "acmed.socket")
	m.do("systemctl", "start", "acmed.service")
	m.healthy("port")
	if code, err := m.try("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1/"); err != nil || code != "404" {
		m.t.Errorf("port 80 answers %q, %v", code, err)
	}
	m.do("rm", "/etc/acmed/conf.d/port.yaml")
	m.do("systemctl", "disable", "--now", "acmed.socket")
	m.do("systemctl", "stop", "acmed.service", "testca80")
	m.do("systemctl", "start", "nginx")
	remove()
	m.healthy("www", "shop", "more")
	holder(m)
}

// holder: root who asks is told who holds a port, although the confined daemon cannot see it.
func holder(m *machine) {
	m.do("systemd-run", "--unit=names", "/usr/local/bin/testca", "-listen", "127.0.0.1:14002", "-dns", "127.0.0.1:53")
	m.write("/etc/acmed/conf.d/port.yaml", `probe: { resolver: "127.0.0.1:53" }
solvers:
  - { name: port-80, http-01: { listen: "127.0.0.1:80" } }
certificates:
  - { name: port, names: [port.test], solvers: [port-80], renew_before: 1h }
`)
	m.do("systemctl", "reload", "acmed")
	m.until("doctor names nginx", func() error {
		if out, _ := m.try("acmed", "doctor", "port"); !regexp.MustCompile(`127\.0\.0\.1:80: nginx \(pid \d+\) is listening there\n.*acmed snippet nginx`).MatchString(out) {
			return errors.New(out)
		}
		return nil
	})
	m.do("rm", "/etc/acmed/conf.d/port.yaml")
	m.do("systemctl", "reload", "acmed")
	m.do("systemctl", "stop", "names")
}

// single: the same state with one process as root.
func single(m *machine) {
	before := m.versions()
	m.do("acmed", "uninstall", "www")
	m.do("acmed", "uninstall", "shop")
	m.do("systemctl", "disable", "--now", "acmed.service", "acmed-installd.socket", "acmed-installd.service")
	m.write("/etc/acmed/acmed.yaml", strings.NewReplacer("helper: { target: www }", "nginx: {}", "helper: { target: shop }", "apache: { listen: 8443 }").Replace(daemonConfig))
	m.do("systemctl", "enable", "--now", "acmed-single.service")
	m.healthy("www", "shop", "more")
	m.serves()
	if after := m.versions(); after != before {
		m.t.Errorf("%d versions before, %d after", before, after)
	}
	m.do("systemctl", "reload", "acmed-single")
	webroot(m)
}

// webroot: what enable sets up for a site with files is renewed by the confined daemon too.
func webroot(m *machine) {
	m.do("systemd-run", "--unit=testca81", "/usr/local/bin/testca", "-listen", "127.0.0.1:14001", "-http-port", "80", "-root", "/etc/acmed/ca80.pem")
	m.until("the CA answers", func() error {
		_, err := m.try("curl", "-sf", "--cacert", "/etc/acmed/ca80.pem", "https://127.0.0.1:14001/dir")
		return err
	})
	m.write("/etc/nginx/sites-enabled/new", strings.ReplaceAll(nginxSite, "www.test", "new.test"))
	m.do("systemctl", "reload", "nginx")
	m.do("systemctl", "stop", "acmed-single")
	out := m.do("acmed", "enable", "--yes", "-d", "new.test", "--directory", "https://127.0.0.1:14001/dir", "--ca-file", "/etc/acmed/ca80.pem")
	if !strings.Contains(out, "https://new.test/ works now") || strings.Contains(out, "ReadWritePaths") {
		m.t.Errorf("enable says %s", out)
	}
	m.do("systemctl", "start", "acmed-single")
	m.do("acmed", "renew", "--force", "--yes", "new.test")
	m.do("acmed", "disable", "--yes", "--purge", "new.test")
}

// remove: the program goes, what servers read stays.
func remove(m *machine) {
	if out := m.do("dpkg", "--purge", "acmed"); !strings.Contains(out, "/var/lib/acmed stays") {
		m.t.Errorf("dpkg said %s", out)
	}
	m.serves()
	m.do("systemctl", "reload", "nginx", "apache2")
	m.serves()
}
