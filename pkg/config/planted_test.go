package config_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/config"
)

// nobody is a user who is neither root nor the one that runs acmed.
const nobody = 65534

// TestPlanted: what another user puts into a directory of theirs that the configuration includes is neither used nor
// quoted, and no program that they could have written is accepted.
func TestPlanted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("acting as another user needs root; make test runs as root")
	}
	dir, err := os.MkdirTemp("/tmp", "planted")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	theirs := filepath.Join(dir, "conf.d")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(theirs, 0o755), os.Chown(theirs, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	const secret = "root:$6$saltandhash:19000:0:99999:7:::"
	writeFile(t, filepath.Join(dir, "shadow"), secret+"\n", 0o600)
	writeFile(t, filepath.Join(dir, "rootonly.yaml"), "certificates: [{name: evil, names: [evil.example.com]}]\n", 0o600)
	as(t, theirs, "ln -s ../shadow a.yaml; ln -s ../rootonly.yaml b.yaml; printf '#!/bin/sh\nexit 0\n' >hook; chmod 755 hook")
	main := filepath.Join(dir, "acmed.yaml")
	writeFile(t, main, "include: conf.d/*.yaml\nagree_tos: true\ncertificates: [{name: www, names: [www.example.com]}]\n", 0o600)
	c, _, err := config.Load(main)
	if c != nil || err == nil || strings.Contains(err.Error(), "$6$") || strings.Count(err.Error(), "belongs to user 65534") != 2 {
		t.Errorf("config %v, error %v", c, err)
	}
	hook := filepath.Join(theirs, "hook")
	writeFile(t, filepath.Join(dir, "everybodys"), "#!/bin/sh\n", 0o755)
	if err := os.Chmod(filepath.Join(dir, "everybodys"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{hook, filepath.Join(dir, "everybodys")} {
		for _, section := range []string{
			"hooks: {post: [%q]}", "hooks: {pre: [%q]}", "install: [{command: {run: [%q], verify: ['127.0.0.1:443']}}]",
			"install: [{file: {fullchain: /x/y, key: /x/z, reload: [%q]}}]", "install: [{nginx: {reload: [%q]}}]", "install: [{nginx: {test: [%q]}}]",
			"install: [{apache: {reload: [%q]}}]", "install: [{haproxy: {file: /x/y, reload: [%q]}}]",
		} {
			text := "agree_tos: true\ncertificates: [{name: www, names: [www.example.com], " + fmt.Sprintf(section, program) + "}]\n"
			refused(t, main, text, program)
		}
		refused(t, main, fmt.Sprintf("agree_tos: true\ncertificates: [{name: www, names: [www.example.com]}]\nnotify: [{name: ops, command: {run: [%q]}}]\n", program), program)
		refused(t, main, fmt.Sprintf("agree_tos: true\ncertificates: [{name: www, names: [www.example.com]}]\nsolvers: [{name: d, dns-01: {exec: {command: [%q]}}}]\n", program), program)
	}
}

func refused(t *testing.T, main, text, program string) {
	t.Helper()
	writeFile(t, main, text, 0o600)
	if _, _, err := config.Load(main); err == nil || !strings.Contains(err.Error(), "the program "+program+" is not run: ") {
		t.Errorf("%s\ngot %v", text, err)
	}
}

// as runs a shell command as the other user.
func as(t *testing.T, dir, command string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", command)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// TestPlantedFiles: nothing is read through a link that another user made, whatever key names it, and no error has anything
// of what the link leads to.
func TestPlantedFiles(t *testing.T) {
	theirs := acmetest.TheirDir(t)
	dir := filepath.Dir(theirs)
	writeFile(t, filepath.Join(dir, "shadow"), "root:$6$saltandhash:19000:0:99999:7:::\n", 0o600)
	acmetest.AsNobody(t, theirs, "ln -s ../shadow x")
	main := filepath.Join(dir, "acmed.yaml")
	const certificate = "certificates: [{name: www, names: [www.example.com]}]\n"
	for key, text := range map[string]string{
		"ca_file":         "issuers: [{name: ca, directory: 'https://ca.internal/d', private: true, ca_file: %q}]\n" + certificate,
		"hmac_file":       "issuers: [{name: ca, directory: 'https://ca.internal/d', eab: {kid: k, hmac_file: %q}}]\n" + certificate,
		"proxy_auth_file": "proxy: 'http://proxy.internal:3128'\nproxy_auth_file: %q\n" + certificate,
		"csr_file":        "certificates: [{name: www, names: [www.example.com], csr_file: %q}]\n",
		"anchors":         "trust: [{name: t, anchors: %q}]\ncertificates: [{name: www, names: [www.example.com], trust: [t]}]\n",
		"env_file":        "solvers: [{name: d, dns-01: {provider: cloudflare, env_file: %q}}]\ncertificates: [{name: www, names: [www.example.com], solvers: [d]}]\n",
		"secret_file":     "notify: [{name: ops, webhook: {url: 'https://example.com/x', secret_file: %q}}]\n" + certificate,
		"password_file":   "notify: [{name: ops, email: {server: 'mail.example.com:587', from: a@example.com, to: [a@example.com], username: u, password_file: %q}}]\n" + certificate,
	} {
		writeFile(t, main, "agree_tos: true\n"+fmt.Sprintf(text, filepath.Join(theirs, "x")), 0o600)
		if c, _, err := config.Load(main); c != nil || err == nil || strings.Contains(err.Error(), "$6$") || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
