package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// mail is a machine with a Postfix whose name lies in a signed zone with two name servers, and with a resolver that checks
// signatures, for a Postfix as the client. It has a network of its own.
type mail struct {
	*box
	key string // of updates
}

const (
	mailHost  = "mx.dane.test"
	mailZone  = "dane.test"
	nsPort    = "5353"
	resolver  = "127.0.0.53:53"
	primary   = "127.0.0.1:" + nsPort
	secondary = "127.0.0.2:" + nsPort
)

func newMail(t *testing.T) *mail {
	t.Helper()
	m := &mail{box: newBox(t)}
	m.need("named:bind9", "postfix:postfix", "dnssec-keygen:bind9-utils", "openssl:openssl")
	for _, dir := range []string{"ns1", "ns2", "cache", "etc", "queue", "data", "tls"} {
		if err := os.Mkdir(filepath.Join(m.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.zones()
	m.postfix()
	m.ca.DNS.Addr = primary
	if err := m.ca.Forget(); err != nil { // the new CA asks there
		t.Fatal(err)
	}
	return m
}

func (m *mail) do(name string, args ...string) string {
	m.Helper()
	out, err := exec.CommandContext(m.Context(), name, args...).CombinedOutput()
	if err != nil {
		m.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (m *mail) named(conf string) {
	m.Helper()
	cmd := exec.Command("/usr/sbin/named", "-g", "-c", conf)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if m.Failed() {
			m.Logf("named %s: %s", conf, &log)
		}
	})
}

// zones starts two name servers for dane.test and its parent, and a resolver that knows the key of the parent.
func (m *mail) zones() {
	for _, addr := range []string{"127.0.0.2/8", "127.0.0.53/8"} { // BIND listens only at addresses of interfaces
		m.do("ip", "address", "add", addr, "dev", "lo")
	}
	ns1 := filepath.Join(m.dir, "ns1")
	keyOf := func(zone string) string {
		return filepath.Join(ns1, m.do("dnssec-keygen", "-q", "-k", "default", "-K", ns1, zone)+".key")
	}
	parent, child := keyOf("test"), keyOf(mailZone)
	m.file("ns1/test.zone", "$TTL 1\n@ SOA ns1."+mailZone+". hostmaster 1 60 60 3600 1\n@ NS ns1."+mailZone+".\n"+
		"dane NS ns1.dane\ndane NS ns2.dane\nns1.dane A 127.0.0.1\nns2.dane A 127.0.0.2\n"+m.do("dnssec-dsfromkey", "-2", child)+"\n")
	m.file("ns1/dane.zone", "$TTL 1\n@ SOA ns1 hostmaster 1 60 60 3600 1\n@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2\nmx A 127.0.0.1\n")
	update := "key \"update\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0\";\n};\n"
	m.key = filepath.Join(m.dir, "update.key")
	if err := os.WriteFile(m.key, []byte(update), 0o600); err != nil {
		m.Fatal(err)
	}
	options := `options { directory "%s"; pid-file none; session-keyfile none; listen-on port %s { %s; }; listen-on-v6 { none; };
	allow-query { any; }; allow-transfer { any; }; notify explicit; notify-delay 0; recursion %s; dnssec-validation %s; };
controls { };
`
	m.named(m.file("ns1.conf", fmt.Sprintf(options, ns1, nsPort, "127.0.0.1", "no", "no")+update+fmt.Sprintf(`
zone "test" { type primary; file "test.zone"; dnssec-policy default; inline-signing yes; key-directory %[1]q; also-notify { 127.0.0.2 port %[2]s; }; };
zone "dane.test" { type primary; file "dane.zone"; dnssec-policy default; inline-signing no; key-directory %[1]q; also-notify { 127.0.0.2 port %[2]s; };
	update-policy { grant update zonesub TXT; grant update zonesub TLSA; }; };
`, ns1, nsPort)))
	m.await("the name server answers", func() bool { return len(m.lookup(primary, mailHost, dns.TypeA)) > 1 })
	second := ""
	for _, zone := range []string{"test", mailZone} {
		second += fmt.Sprintf("zone %q { type secondary; file \"%[1]s.zone\"; primaries { 127.0.0.1 port %s; }; };\n", zone, nsPort)
	}
	m.named(m.file("ns2.conf", fmt.Sprintf(options, filepath.Join(m.dir, "ns2"), nsPort, "127.0.0.2", "no", "no")+second))
	anchor := ""
	text, err := os.ReadFile(parent)
	if err != nil {
		m.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if at := strings.Index(line, "DNSKEY 257 3 "); at >= 0 {
			f := strings.Fields(line[at:])
			anchor = fmt.Sprintf("trust-anchors { test. static-key 257 3 %s %q; };\n", f[3], strings.Join(f[4:], ""))
		}
	}
	m.named(m.file("cache.conf", fmt.Sprintf(options, filepath.Join(m.dir, "cache"), "53", "127.0.0.53", "yes", "yes")+anchor+
		fmt.Sprintf("zone test { type forward; forward only; forwarders { 127.0.0.1 port %[1]s; 127.0.0.2 port %[1]s; }; };\n", nsPort)))
	m.await("the resolver and the second name server answer", func() bool {
		return len(m.lookup(resolver, mailHost, dns.TypeA)) > 1 && len(m.lookup(secondary, mailHost, dns.TypeA)) > 1
	})
}

// lookup asks one server, for signatures too.
func (m *mail) lookup(server, name string, qtype uint16) []dns.RR {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(1232, true)
	in, _, err := new(dns.Client).ExchangeContext(m.Context(), q, server)
	if err != nil {
		return nil
	}
	return in.Answer
}

// postfix starts a server with a certificate that nobody knows.
func (m *mail) postfix() {
	m.do("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=before", "-keyout", m.dir+"/before.key", "-out", m.dir+"/before.pem")
	both := m.do("cat", m.dir+"/before.key", m.dir+"/before.pem")
	if err := os.WriteFile(m.dir+"/tls/mail.pem", []byte(both+"\n"), 0o600); err != nil {
		m.Fatal(err)
	}
	m.do("chown", "postfix", m.dir+"/data")
	m.file("etc/master.cf", "127.0.0.1:25"+postfixServices)
	m.file("etc/main.cf", fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
inet_protocols = ipv4
myhostname = %[2]s
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
smtpd_client_connection_rate_limit = 0
smtpd_tls_cert_file = %[1]s/tls/mail.pem
smtpd_tls_key_file = %[1]s/tls/mail.pem
smtpd_tls_security_level = may
smtp_dns_support_level = dnssec
`, m.dir, mailHost))
	m.file("resolv.conf", "nameserver 127.0.0.53\noptions trust-ad\n")
	r := &recipe{front: m.front}
	m.Cleanup(r.stopPostfix)
	m.do("/usr/sbin/postfix", "-c", m.dir+"/etc", "start")
}

// deliver is Postfix as a client of DANE: nil when it would hand over mail.
func (m *mail) deliver() error {
	cmd := exec.CommandContext(m.Context(), "unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, m.dir+"/resolv.conf",
		"posttls-finger", "-c", "-l", "dane-only", "["+mailHost+"]")
	cmd.Env = append(os.Environ(), "MAIL_CONFIG="+m.dir+"/etc")
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Verified TLS connection established")) {
		return fmt.Errorf("refused: %w\n%s", err, out)
	}
	return nil
}

// sender delivers mail all the time. The function ends it, and returns how many connections there were and what refused.
func (m *mail) sender() func() (int, []error) {
	var wg sync.WaitGroup
	stop, all, refused := make(chan struct{}), 0, []error(nil)
	wg.Go(func() {
		for ; ; all++ {
			if err := m.deliver(); err != nil {
				refused = append(refused, err)
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() (int, []error) {
		close(stop)
		wg.Wait()
		return all, refused
	}
}

func (m *mail) configureMail(tlsa string) {
	m.configure("off", fmt.Sprintf("  - { name: dns, dns-01: { rfc2136: { nameserver: %q, tsig_key_file: %s }, resolvers: [%q], authoritative_port: %s } }\n", primary, m.key, resolver, nsPort),
		fmt.Sprintf(`  - name: mail
    names: [%s]
    solvers: [dns]
    %s
    install:
      - file: { dir: %[3]s/tls, combined: mail.pem, mode: "0600", reload: [/usr/sbin/postfix, -c, %[3]s/etc, reload], verify: ["smtp://127.0.0.1:25"] }
`, mailHost, tlsa, m.dir))
}

// published lists the records that a server has.
func (m *mail) published(server string) []string {
	var list []string
	for _, rr := range m.lookup(server, "_25._tcp."+mailHost, dns.TypeTLSA) {
		if r, ok := rr.(*dns.TLSA); ok {
			list = append(list, fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, strings.ToLower(r.Certificate)))
		}
	}
	return list
}

// pins are those of the active and of the next key.
func (m *mail) pins() (active, next string) {
	m.Helper()
	for _, line := range strings.Split(m.must("chain", "mail", "--pins"), "\n") {
		if f := strings.Fields(line); len(f) == 2 && f[1] == "active" {
			active = f[0]
		} else if len(f) == 2 && f[1] == "next" {
			next = f[0]
		}
	}
	return active, next
}

func hexOf(t *testing.T, pin string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(pin, "sha256/"))
	if err != nil || len(raw) != 32 {
		t.Fatalf("the pin %q: %v", pin, err)
	}
	return hex.EncodeToString(raw)
}

// look makes the daemon look at the certificate, which it does every 30 seconds at most by itself.
func (m *mail) look() {
	time.Sleep(500 * time.Millisecond)
	m.must("renew", "mail")
}

// TestDANE: a Postfix that insists on DANE delivers through three renewals, each to a new key, and through a compromise.
func TestDANE(t *testing.T) {
	if !seclude(t) {
		return
	}
	m := newMail(t)
	m.configureMail(`tlsa: { services: [_25._tcp], records: ["3 1 1", "2 1 1"], ttl: 1s }`)
	m.run()
	m.await("the first certificate was obtained", m.healthy)
	// The active and the next key, and the issuer of the one, at both name servers.
	m.await("all records are there", func() bool { m.look(); return len(m.published(primary)) == 3 && len(m.published(secondary)) == 3 })
	m.await("Postfix delivers", func() bool { return m.deliver() == nil })
	printed := m.must("chain", "mail", "--tlsa")
	for _, record := range m.published(primary) {
		if !strings.Contains(printed, "_25._tcp."+mailHost+". IN TLSA "+record) {
			t.Errorf("%s is published and not printed: %s", record, printed)
		}
	}
	end := m.sender()
	for n := range 4 {
		active, next := m.pins()
		if n < 3 {
			m.must("renew", "--force", "--yes", "mail")
		} else {
			m.must("revoke", "mail", "--reason", "keyCompromise", "--yes")
		}
		m.await(fmt.Sprintf("the next key is live after change %d", n), func() bool { m.look(); a, _ := m.pins(); return a == next && m.healthy() })
		old := fmt.Sprintf("3 1 1 %s", hexOf(t, active))
		m.await("the old record is gone", func() bool {
			m.look()
			return !strings.Contains(strings.Join(append(m.published(primary), m.published(secondary)...), "\n"), old)
		})
	}
	all, refused := end()
	t.Logf("%d connections, %d refused", all, len(refused))
	if len(refused) > 0 || all < 4 {
		t.Errorf("%d of %d connections were refused, the first: %v", len(refused), all, refused[:min(1, len(refused))])
	}
}
