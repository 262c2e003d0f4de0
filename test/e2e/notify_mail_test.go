package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestMailThroughPostfix: a test message goes through a real Postfix, which insists on STARTTLS, into a mailbox. A
// certificate that nobody vouches for ends it.
func TestMailThroughPostfix(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, "mail.example.com", "25")
	r.need("postfix:postfix")
	for _, dir := range []string{"etc", "queue", "state"} {
		if err := os.Mkdir(r.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.give("data", "postfix")
	r.give("box", "postfix")
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	r.setUp("/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mail", "-addext", "subjectAltName=IP:127.0.0.1",
		"-keyout", r.path("key.pem"), "-out", r.path("cert.pem"))
	r.file("etc/master.cf", r.addr["25"]+` inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
virtual unix - n n - - virtual
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
postlog unix-dgram n - n - 1 postlogd
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
`)
	r.file("etc/main.cf", fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
inet_protocols = ipv4
myhostname = mail.example.com
mydestination =
alias_maps =
alias_database =
smtpd_tls_cert_file = %[1]s/cert.pem
smtpd_tls_key_file = %[1]s/key.pem
smtpd_tls_security_level = encrypt
virtual_mailbox_domains = example.com
virtual_mailbox_base = %[1]s/box
virtual_mailbox_maps = static:ops
virtual_minimum_uid = 1
virtual_uid_maps = static:%[2]s
virtual_gid_maps = static:%[3]s
`, r.dir, owner.Uid, owner.Gid))
	r.Cleanup(r.stopPostfix)
	r.setUp("/usr/sbin/postfix", "-c", r.path("etc"), "start")
	r.file("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
notify:
  - name: mail
    email: { server: "%[2]s", from: acmed@example.com, to: [ops@example.com], ca_file: %[1]s/cert.pem }
  - name: careless
    email: { server: "%[2]s", from: acmed@example.com, to: [ops@example.com] }
`, r.dir, r.addr["25"]))
	var out string
	await.NoError(t, func() error {
		if out, _ = r.acmed.run("notify", "test"); !strings.Contains(out, "mail (email): ok\n") {
			log, _ := os.ReadFile(r.path("mail.log"))
			return fmt.Errorf("%s\n%s", out, log)
		}
		return nil
	})
	if !strings.Contains(out, "careless (email): failed: mail server "+r.addr["25"]+": STARTTLS: ") {
		log, _ := os.ReadFile(r.path("mail.log"))
		t.Fatalf("%s\n%s", out, log)
	}
	await.NoError(t, func() error {
		text, err := os.ReadFile(r.path("box/ops"))
		if err == nil && strings.Contains(string(text), "this is a test: notifications of acmed arrive") && strings.Contains(string(text), "Auto-Submitted: auto-generated") {
			return nil
		}
		log, _ := os.ReadFile(r.path("mail.log"))
		return errors.Join(fmt.Errorf("%s\n%s", text, log), err)
	})
}
