package etcd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/fleet/etcd"
)

func TestCheckEndpoint(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"https://10.0.0.1:2379": true, "https://etcd.example:2379/": true, "http://127.0.0.1:2379": true, "http://[::1]:2379": true,
		"http://localhost:2379": true, "http://10.0.0.1:2379": false, "http://etcd.example:2379": false, "10.0.0.1:2379": false,
		"https://10.0.0.1": false, "https://10.0.0.1:2379/path": false, "unix:///run/etcd": false, "": false,
	} {
		if err := etcd.CheckEndpoint(endpoint); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "https") {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

func TestOpen(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("SECRET"), 0o600); err != nil {
		t.Fatal(err)
	}
	https := []string{"https://127.0.0.1:1"}
	for want, c := range map[string]etcd.Config{
		"no endpoints":         {},
		"either all use":       {Endpoints: []string{"https://127.0.0.1:1", "http://127.0.0.1:1"}},
		"ca_file: ":            {Endpoints: https, CAFile: "/nowhere"},
		"has no certificate":   {Endpoints: https, CAFile: garbage},
		"cert_file: ":          {Endpoints: https, CertFile: "/nowhere", KeyFile: garbage},
		"cert_file " + garbage: {Endpoints: https, CertFile: garbage, KeyFile: garbage},
	} {
		_, err := etcd.Open(c)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
