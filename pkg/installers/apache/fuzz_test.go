package apache

import (
	"os"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, path := range corpus(f) {
		if text, err := os.ReadFile(path); err == nil && len(text) < 8<<10 {
			f.Add(text)
		}
	}
	f.Add([]byte("<VirtualHost *>\nSSLCertificateFile \\\n a</VirtualHost>\n</VirtualHost>\\\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		src := newSource("fuzz.conf", text, "www")
		if src.err != nil || src.hasMarks() || strings.Contains(string(text), "# acmed ") {
			return
		}
		checkRoundTrip(t, src, text)
	})
}

func FuzzDump(f *testing.F) {
	f.Add("Included configuration files:\n  (*) /a\n    (3) /b\nVirtualHost configuration:\n*:80 a (/b:1)\n[::1]:443 is a NameVirtualHost\n" +
		"         default server a (/b:1)\n         port 443 namevhost a (/b:1)\n                 wild alias *.a\nServerRoot: \"/\"\nDefine: A=b\nLoaded Modules:\n so_module (static)\n")
	f.Fuzz(func(t *testing.T, text string) {
		facts, err := parseDump(text)
		if err == nil && facts.main == nil {
			t.Error("no main file and no error")
		}
	})
}
