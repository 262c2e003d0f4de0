package file

import (
	"strings"
	"testing"
	"time"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		want   []string // parts of the error; none: valid
	}{
		{"defaults", Config{Dir: "/etc/ssl/x"}, nil},
		{"everything", Config{
			Dir: "/etc/ssl/x", Combined: "all.pem", PKCS12: "s.p12", JKS: "s.jks", PasswordFile: "/etc/acmed/p", Alias: "a",
			Owner: "postgres", Group: "ssl-cert", Mode: "0640", Unit: "postgresql@16-main.service",
			Verify: []string{"postgres://127.0.0.1:5432/db.example"}, VerifyWait: time.Second,
		}, nil},
		{"relative", Config{Dir: "ssl"}, []string{"dir: \"ssl\""}},
		{"all at once", Config{Key: "../key.pem", Mode: "0644", Reload: []string{"systemctl"}, Verify: []string{"localhost"}},
			[]string{"dir:", "key:", "mode:", "reload:", "verify:"}},
		{"hidden name", Config{Dir: "/d", Cert: ".bashrc"}, []string{"cert:"}},
		{"same name", Config{Dir: "/d", Cert: "a.pem", Key: "a.pem"}, []string{"is also written for cert"}},
		{"name of a twin", Config{Dir: "/d", Cert: "a-rsa.pem", Key: "a.pem"}, []string{"is also written for cert"}},
		{"no password", Config{Dir: "/d", JKS: "s.jks"}, []string{"need one"}},
		{"idle password", Config{Dir: "/d", PasswordFile: "/p"}, []string{"only pkcs12"}},
		{"relative password", Config{Dir: "/d", JKS: "s.jks", PasswordFile: "p"}, []string{"not an absolute path"}},
		{"idle alias", Config{Dir: "/d", Alias: "x"}, []string{"only jks"}},
		{"bad owner", Config{Dir: "/d", Owner: "a b", Group: "-x"}, []string{"owner:", "group:"}},
		{"not octal", Config{Dir: "/d", Mode: "rw"}, []string{"not an octal mode"}},
		{"unreadable", Config{Dir: "/d", Mode: "0040"}, []string{"does not let the owner read"}},
		{"unit and reload", Config{Dir: "/d", Unit: "x", Reload: []string{"/x"}}, []string{"give either"}},
		{"bad unit", Config{Dir: "/d", Unit: "--now"}, []string{"unit:"}},
		{"negative", Config{Dir: "/d", VerifyWait: -1}, []string{"negative"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("Validate = %v", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in %q", part, err)
				}
			}
		})
	}
}
