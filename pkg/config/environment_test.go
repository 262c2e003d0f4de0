package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/acmed/acmed/pkg/config"
)

// TestEnvironmentIsIgnored: no variable of any spelling changes what a file says, nor adds what it does not say.
func TestEnvironmentIsIgnored(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acmed.yaml")
	text := "email: ops@example.com\nagree_tos: true\ncertificates:\n  - { name: www, names: [example.com] }\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "ACMED_", "acmed_", "LEGO_"} {
		for _, key := range []string{
			"EMAIL", "AGREE_TOS", "STATE_DIR", "SOCKET", "CERTIFICATES", "CERTIFICATES_WWW_NAMES", "ISSUERS", "SOLVERS", "DEFAULTS", "DEFAULTS_ISSUERS",
			"WEB_LISTEN", "LOG_LEVEL", "PROXY", "RENEWAL_BEFORE", "CA_CERTIFICATES", "CA_SERVER_NAME",
		} {
			t.Setenv(prefix+key, "/planted")
		}
	}
	after, _, err := config.Load(file)
	if err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("%v; before and after:\n%+v\n%+v", err, before, after)
	}
}
