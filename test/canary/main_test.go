package main

import (
	"strings"
	"testing"
)

// TestRun: a secret is found in the output of a test that passes, in what it heard and in arguments; a run that names none
// proves nothing.
func TestRun(t *testing.T) {
	const secret = `printf %s "token-of-"'nobody-1234' >"$ACMED_TEST_OUTPUT/secret-1"; `
	for name, tt := range map[string]struct {
		script, want string
		optional     bool
	}{
		"nothing came out": {script: secret + "echo all is well"},
		"output":           {script: secret + `echo '{"Action":"output","Package":"p","Test":"T","Output":"x token-of-nobody-1234"}'`, want: "tests.out"},
		"heard":            {script: secret + `echo "token-of-""nobody-1234" >"$ACMED_TEST_OUTPUT/heard-1.out"`, want: "heard-1.out"},
		"arguments":        {script: secret + `sleep 1; sh -c 'sleep 1; :' "token-of-""nobody-1234"`, want: "argv.out"},
		"a key":            {script: secret + `printf '%s\n' '{"Action":"output","Package":"p","Test":"T","Output":"-----BEGIN PRIVATE K''EY-----\n"}'`, want: "tests.out"},
		"a failing test":   {script: secret + "exit 1", want: "exit status 1"},
		"no secret":        {script: ":", want: "nothing is proved"},
		"optional":         {script: ":", optional: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.TempDir(), []string{"sh", "-c", tt.script}, tt.optional)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "nobody-1234") {
				t.Errorf("the report tells the secret: %v", err)
			}
		})
	}
}
