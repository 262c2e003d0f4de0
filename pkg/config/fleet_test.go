package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/config"
)

const sealKey = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// TestFleetChecks: each mistake in the section of a fleet is found without the network, at its key, with what to do.
func TestFleetChecks(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, text, mode)
		return path
	}
	seal := file("seal", sealKey+"\n", 0o600)
	short, open := file("short", "aGVsbG8=\n", 0o600), file("open", sealKey, 0o644)
	good := "fleet:\n  name: web\n  node: one\n  seal_files: [" + seal + "]\n  etcd:\n    endpoints: ['http://127.0.0.1:2379']\n"
	tests := []struct{ name, text, want string }{
		{"good", good, ""},
		{"two keys, role install", strings.Replace(good, seal+"]", seal+", "+seal+"]\n  role: install", 1), ""},
		{"http", strings.Replace(good, "127.0.0.1", "10.0.0.1", 1), "fleet.etcd.endpoints[0]: endpoint \"http://10.0.0.1:2379\": http is allowed on loopback only"},
		{"mixed", strings.Replace(good, "']", "', 'https://10.0.0.1:2379']", 1), "fleet.etcd.endpoints: either all use https or none does"},
		{"no endpoint", strings.Replace(good, "'http://127.0.0.1:2379'", "", 1), "fleet.etcd.endpoints: it lists no member"},
		{"no seal file", strings.Replace(good, seal, "", 1), "fleet.seal_files: it has no file; make the key with: acmed fleet init"},
		{"short key", strings.Replace(good, seal, short, 1), "fleet.seal_files[0]: " + short + ": the seal key must be 32 bytes in base64"},
		{"open key", strings.Replace(good, seal, open, 1), "can be read by others (mode 0644): chmod 600 " + open},
		{"missing key", strings.Replace(good, seal, "/nowhere", 1), "fleet.seal_files[0]: "},
		{"role", good + "  role: leader\n", "fleet.role: \"leader\" is not one of issue, install"},
		{"name", strings.Replace(good, "name: web", "name: Web EU", 1), "fleet.name: \"Web EU\" is not a name"},
		{"node", strings.Replace(good, "node: one", "node: a/b", 1), "fleet.node: \"a/b\" is not a name"},
		{"TLS without https", good + "    ca_file: /x.pem\n", "fleet.etcd.ca_file: it is of use with https only"},
		{"half a pair", strings.Replace(good, "http:", "https:", 1) + "    cert_file: " + seal + "\n", "fleet.etcd.key_file: it is needed with cert_file"},
		{"other half", strings.Replace(good, "http:", "https:", 1) + "    key_file: " + seal + "\n", "fleet.etcd.cert_file: it is needed with key_file"},
		{"no pair", strings.Replace(good, "http:", "https:", 1) + "    cert_file: " + seal + "\n    key_file: " + seal + "\n", "fleet.etcd.cert_file: cert_file " + seal},
		{"bad CA", strings.Replace(good, "http:", "https:", 1) + "    ca_file: " + seal + "\n", "fleet.etcd.ca_file: ca_file: " + seal},
		{"webroot", good + "solvers: [{name: w, http-01: {webroot: /srv}}]\ndefaults: {solvers: [w]}\n", "certificates[www].solvers: the solver \"w\" writes to a webroot of this node"},
		{"challenge_dir", good + "solvers: [{name: w, http-01: {challenge_dir: /srv}}]\ndefaults: {solvers: [w]}\n", "snippet --stateless"},
		{"next key", ", next_key: true|" + good, "certificates[www].next_key: nodes of a fleet do not share the next key"},
		{"next key of one node", ", next_key: true, one_node: true|" + good, ""},
		{"TLSA records", ", tlsa: {services: [_25._tcp]}|" + good, "certificates[www].tlsa: nodes of a fleet do not share the next key"},
		{"webroot of one node", good + "solvers: [{name: w, http-01: {webroot: /srv, one_node: true}}]\ndefaults: {solvers: [w]}\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			main := filepath.Join(t.TempDir(), "acmed.yaml")
			more, text, _ := strings.Cut(tt.text, "|")
			if text == "" {
				more, text = "", tt.text
			}
			writeFile(t, main, "agree_tos: true\ncertificates: [{name: www, names: [www.example.com]"+more+"}]\n"+text, 0o600)
			c, _, err := config.Load(main)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if id, err := c.Fleet.NodeID(); err != nil || id != "one" {
					t.Error(id, err)
				}
				if _, err := c.Fleet.Sealer(); err != nil {
					t.Error(err)
				}
				return
			}
			var problems *config.Error
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), sealKey) {
				t.Errorf("want %q:\n%v", tt.want, err)
			}
		})
	}
}
