package ssh

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-viper/mapstructure/v2"
	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestGuide does what docs/guides/ssh.md says: the host key by ssh-keyscan, a login key by ssh-keygen, and the section ssh of
// its configuration, with the machine of the test in the place of the guide's.
func TestGuide(t *testing.T) {
	m := newMachine(t, options{})
	text, err := os.ReadFile("../../../docs/guides/ssh.md")
	if err != nil {
		t.Fatal(err)
	}
	guide := string(text)
	_, block, _ := strings.Cut(guide, "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	var file struct {
		Certificates []struct {
			Install []map[string]map[string]any `yaml:"install"`
		} `yaml:"certificates"`
	}
	if err := yaml.Unmarshal([]byte(block), &file); err != nil {
		t.Fatal(err)
	}
	var c Config
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{Result: &c, ErrorUnused: true})
	if err == nil {
		err = decoder.Decode(file.Certificates[0].Install[0]["ssh"])
	}
	if err != nil || c.Validate() != nil {
		t.Fatalf("%v, %v", err, c.Validate())
	}
	for _, line := range []string{
		"ssh-keyscan nas.example.com >/etc/acmed/known_hosts", "ssh-keygen -lf /etc/acmed/known_hosts",
		"ssh-keygen -t ed25519 -N '' -f /etc/acmed/secrets/ssh",
	} {
		if !strings.Contains(guide, "\n"+line+"\n") {
			t.Errorf("the guide does not say %q", line)
		}
		here := strings.NewReplacer("nas.example.com", fmt.Sprintf("-p %d 127.0.0.1", m.port), "/etc/acmed/known_hosts", m.path("scanned"),
			"/etc/acmed/secrets/ssh", m.path("own")).Replace(line)
		if out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", here).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", here, err, out)
		}
	}
	m.write("login.pub", `from="127.0.0.1",restrict `+m.read("own.pub"))
	c.Host, c.User, c.KnownHosts, c.KeyFile, c.Dir = m.addr(), "root", m.path("scanned"), m.path("own"), m.path("certs")
	c.Reload, c.Verify = []string{"/bin/true"}, nil
	p := m.target(c)
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
	if _, err := os.Stat(m.path("certs/" + c.Key)); err != nil {
		t.Error(err)
	}
}
