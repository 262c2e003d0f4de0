package systemd

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestAnsible runs the role of deploy/ansible with its example: from nothing to HTTPS, a second time without a change, and then
// without the certificate.
func TestAnsible(t *testing.T) {
	t.Parallel()
	m := boot(t)
	m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
	m.connect("")
	m.shell(onNginx)
	if err := os.CopyFS(filepath.Join(m.root, "root/ansible"), os.DirFS("../../deploy/ansible")); err != nil {
		t.Fatal(err)
	}
	m.copy(built(t, "acmed_*.deb"), "/root/ansible/"+filepath.Base(built(t, "acmed_*.deb")), 0o644)
	play := func(more string) string {
		t.Helper()
		return m.do("bash", "-ec", "cd /root/ansible; ansible-playbook -i localhost, -c local site.yml "+more)
	}
	m.write("/root/ansible/secrets.json", `{"acmed_secrets": {"example": "a-secret-of-ansible"}}`)
	if out := play("-e @secrets.json"); strings.Contains(out, m.secret("a-secret-of-ansible")) {
		t.Errorf("Ansible shows a secret: %s", out)
	}
	m.until("nginx serves the certificate", func() error {
		_, err := m.try("curl", "-sf", "https://www.example.com/")
		return err
	})
	if mode := m.do("stat", "-c", "%U %a", "/etc/acmed/secrets/example"); mode != "root 600" {
		t.Errorf("the secret is %s", mode)
	}
	if out := play(""); !strings.Contains(out, "changed=0") {
		t.Errorf("the second run changes something: %s", out)
	}
	m.write("/root/ansible/broken.json", `{"acmed_certificates": [{"name": "www", "names": ["example.com"], "solvers": ["none"]}]}`)
	m.fails(2, "none", "bash", "-ec", "cd /root/ansible; ansible-playbook -i localhost, -c local site.yml -e @broken.json")
	if out := play(`-e '{"acmed_certificates": []}'`); !strings.Contains(out, "changed=2") {
		t.Errorf("the file goes, the daemon reloads, and nothing else changes: %s", out)
	}
	m.fails(2, "No such file", "ls", "/etc/acmed/conf.d/ansible-www.yaml")
}

// TestCloudInit does what cloud-init does with the example: it writes the files and runs the commands, with a package from here.
func TestCloudInit(t *testing.T) {
	t.Parallel()
	m := boot(t)
	data, err := os.ReadFile("../../deploy/cloud-init/user-data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	terraform, err := os.ReadFile("../../deploy/cloud-init/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	deb, err := os.ReadFile(built(t, "acmed_*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for old, new := range map[string]string{
		"https://downloads.example.com/acmed_1.0.0_amd64.deb": "file:///srv/acmed.deb", "PUT-THE-SHA256-HERE": fmt.Sprintf("%x", sha256.Sum256(deb)),
	} {
		if strings.Count(text, old) != 1 || !strings.Contains(string(terraform), `"`+old+`"`) {
			t.Errorf("%q is not once in user-data.yaml and in main.tf", old)
		}
		text = strings.ReplaceAll(text, old, new)
	}
	var user struct {
		Files []struct{ Path, Content string } `yaml:"write_files"`
		Run   [][]string                       `yaml:"runcmd"`
	}
	if err := yaml.Unmarshal([]byte(text), &user); err != nil || !strings.HasPrefix(text, "#cloud-config\n") {
		t.Fatal(err)
	}
	m.do("systemctl", "--quiet", "disable", "--now", "nginx", "apache2")
	m.connect("")
	m.shell("rm -f /etc/nginx/sites-enabled/*; systemctl --quiet enable --now nginx")
	m.put("/srv/acmed.deb", deb, 0o644)
	for _, file := range user.Files {
		m.write(file.Path, file.Content)
	}
	for _, command := range user.Run {
		m.do(command...)
	}
	m.until("nginx serves the certificate", func() error {
		_, err := m.try("curl", "-sf", "https://www.example.com/")
		return err
	})
}
