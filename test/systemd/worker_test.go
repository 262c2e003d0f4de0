package systemd

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestWorker: the confined daemon obtains two certificates at once through two credentials of one provider of acmed-dns,
// PowerDNS. Each customer has a server of its own, which refuses the other's key. Nothing of a credential is in the journal,
// and neither a record nor a child stays behind.
func TestWorker(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
	m.internet("-ask 23.192.0.4:53")
	m.shell("for i in 3 4 5; do ip address add 23.192.0.$i/24 dev eth0; done")
	m.write("/etc/resolv.conf", "nameserver 23.192.0.4\n")
	m.write("/etc/bind/named.conf.options", "options { directory \"/var/cache/bind\"; listen-on { 23.192.0.4; }; listen-on-v6 { none; }; dnssec-validation no; empty-zones-enable no; };\n")
	const key = "the-secret-of-team-"
	var bind, solvers, certificates strings.Builder
	for i, zone := range []string{"example.com", "example.org"} {
		server, secret := []string{"23.192.0.3", "23.192.0.5"}[i], m.secret(fmt.Sprintf("%s%d", key, i))
		dir := fmt.Sprintf("/etc/customer-%d", i)
		m.write(dir+"/pdns.conf", fmt.Sprintf("launch=lmdb\nlmdb-filename=%s/zones\nlocal-address=%s\nwebserver=yes\nwebserver-address=127.0.0.1\nwebserver-port=%d\napi=yes\napi-key=%s\nsocket-dir=%[1]s\ncache-ttl=0\n",
			dir, server, 8081+i, secret))
		m.shell(strings.NewReplacer("DIR", dir, "ZONE", zone, "SERVER", server).Replace(`
pdnsutil --config-dir=DIR create-zone ZONE ns1.ZONE >/dev/null 2>&1
pdnsutil --config-dir=DIR add-record ZONE ns1 A 60 SERVER >/dev/null 2>&1
systemd-run --quiet pdns_server --config-dir=DIR --guardian=no --daemon=no`))
		fmt.Fprintf(&bind, "zone %q { type static-stub; server-addresses { %s; }; };\n", zone, server)
		env := fmt.Sprintf("/etc/acmed/secrets/team-%d.env", i)
		m.put(env, fmt.Appendf(nil, "PDNS_API_URL=http://127.0.0.1:%d\nPDNS_API_KEY=%s\n", 8081+i, secret), 0o600)
		fmt.Fprintf(&solvers, "  - { name: team-%d, dns-01: { provider: pdns, env_file: %s, resolvers: [\"%s:53\"] } }\n", i, env, server)
		fmt.Fprintf(&certificates, "  - { name: team-%d, names: [\"*.%s\", %[2]s], solvers: [team-%[1]d] }\n", i, zone)
	}
	m.write("/etc/bind/named.conf.local", bind.String())
	m.write("/etc/acmed/acmed.yaml", "email: ops@example.com\nagree_tos: true\nsolvers:\n"+solvers.String()+"certificates:\n"+certificates.String())
	m.shell("chown acmed: /etc/acmed/secrets/*; systemctl restart named") // which the CA asks; a solver asks its own server, as named remembers what is missing
	m.do("acmed", "check")
	m.do("systemctl", "start", "acmed")
	m.healthy("team-0", "team-1")
	m.until("the records are gone", func() error {
		left := m.do("dig", "+short", "@23.192.0.3", "_acme-challenge.example.com", "TXT") + m.do("dig", "+short", "@23.192.0.5", "_acme-challenge.example.org", "TXT")
		if left != "" {
			return errors.New(left)
		}
		return nil
	})
	if log := m.journal(); strings.Contains(log, key) {
		t.Errorf("a secret is in the journal:\n%s", log)
	}
	m.do("systemctl", "stop", "acmed")
	m.fails(1, "", "pgrep", "acmed-dns")
}
