package config_test

import (
	"path/filepath"
	"testing"

	"github.com/acmed/acmed/pkg/config"
)

func TestSocket(t *testing.T) {
	const usual = "/run/acmed/acmed.sock"
	for name, tt := range map[string]struct{ main, drop, want string }{
		"usual":             {"", "", usual},
		"other":             {"socket: /run/x", "", "/run/x"},
		"in another file":   {"include: '*.d.yaml'", "socket: /run/x", "/run/x"},
		"problems":          {"socket: /run/x\nnonsense: 1\nagree_tos: maybe", "]", "/run/x"},
		"missing secret":    {"socket: /run/x\nissuers: [{name: zerossl, eab: {kid: x, hmac_file: /none}}]", "", "/run/x"},
		"not YAML":          {"]", "", usual},
		"not absolute":      {"socket: x", "", usual},
		"not a word":        {"socket: [x]", "", usual},
		"broken other file": {"include: '*.d.yaml'", "]", usual},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, "acmed.yaml"), tt.main, 0o644)
			writeFile(t, filepath.Join(dir, "a.d.yaml"), tt.drop, 0o644)
			if got := config.Socket(filepath.Join(dir, "acmed.yaml")); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if got := config.Socket(filepath.Join(t.TempDir(), "none")); got != usual {
		t.Errorf("without a file: %s", got)
	}
}
