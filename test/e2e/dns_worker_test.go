package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// badWorker is an acmed-dns that misbehaves as the MODE of its credential says. It notes the process IDs of itself and of
// its children.
const badWorker = `#!/bin/sh
echo $$ >>"$NOTES"
read -r hello
case $MODE in
hang) sleep 3600 & echo $! >>"$NOTES"; wait ;;
endless) exec tr '\0' x </dev/zero ;;
chatty) exec yes "$DUCKDNS_TOKEN" >&2 ;;
late) until [ -e "$NOTES.go" ]; do sleep 0.1; done; exit 4 ;;
exit) echo "died of $DUCKDNS_TOKEN" >&2; exit 3 ;;
esac
echo '{"id":1,"protocol":1,"version":"bad"}'
read -r present
echo '{"id":2}'
read -r cleanup
echo '{"id":3,"error":"401 for '"$DUCKDNS_TOKEN"' by Basic '"$BASIC"'"}'
`

// story is what status says about one certificate.
type story struct {
	Name, Error, Code string
}

func (b *box) stories() map[string]story {
	b.Helper()
	out, _ := b.acmed("status", "-o", "json")
	var answer struct{ Certificates []story }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		b.Fatalf("%v in %s", err, out)
	}
	list := map[string]story{}
	for _, c := range answer.Certificates {
		list[c.Name] = c
	}
	return list
}

// TestWorkersThatMisbehave: whatever acmed-dns does, it is ended soon, what went wrong is told without the secret, and the
// daemon obtains another certificate meanwhile.
func TestWorkersThatMisbehave(t *testing.T) {
	const secret = "T0p-S3cret/of+the&account"
	b := newBox(t)
	b.innerHTTP = fmt.Sprint(":", b.ca.HTTPPort)
	program := filepath.Join(b.dir, "acmed")
	if err := os.Link(acmed, program); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "acmed-dns"), []byte(badWorker), 0o755); err != nil {
		t.Fatal(err)
	}
	want := map[string]story{
		"late":    {Error: "it ended without an answer (exit status 4)"},
		"hang":    {Error: "it did not answer within 1s and was killed"},
		"endless": {Error: "it said more than it was asked for and was killed"},
		"chatty":  {Error: "it flooded its standard error and was killed; it printed: <redacted> <redacted>"},
		"exit":    {Error: "it ended without an answer (exit status 3); it printed: died of <redacted>"},
		"leak":    {Error: "401 for <redacted> by Basic <redacted>", Code: "dns-propagation"},
	}
	solvers, list := "", "  - { name: sound, names: [sound.example.com], solvers: [http] }\n"
	for mode := range want {
		timeout := 20 * time.Second
		if mode == "hang" {
			timeout = time.Second
		}
		env := filepath.Join(b.dir, mode+".env")
		text := fmt.Sprintf("DUCKDNS_TOKEN=%s\nMODE=%s\nNOTES=%s/pids\nBASIC=%s\n", secret, mode, b.dir, base64.StdEncoding.EncodeToString([]byte(secret)))
		if err := os.WriteFile(env, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		solvers += fmt.Sprintf("  - { name: %[1]s, dns-01: { provider: duckdns, env_file: %[2]s, timeout: %[3]s, resolvers: [%[4]q], propagation: resolvers, propagation_timeout: 500ms, poll_interval: 100ms } }\n",
			mode, env, timeout, b.ca.DNS.Addr)
		list += fmt.Sprintf("  - { name: %[1]s, names: [%[1]s.example.com], solvers: [%[1]s] }\n", mode)
	}
	b.configure("off", solvers, list)
	b.begin(program, "-c", filepath.Join(b.dir, "acmed.yaml"), "run")
	b.await("obtained beside the workers", func() bool { _, code := b.acmed("status", "sound"); return code == 0 })
	if out := b.must("renew", "--force", "--yes", "sound"); strings.Contains(out, secret) {
		t.Errorf("renew shows the secret: %s", out)
	}
	if late := b.stories()["late"]; late.Error != "" {
		t.Errorf("no worker was at work meanwhile: %s", late.Error)
	}
	b.file("pids.go", "")
	var got map[string]story
	b.await("every worker failed", func() bool {
		got = b.stories()
		for mode := range want {
			if got[mode].Error == "" {
				return false
			}
		}
		return true
	})
	for mode, w := range want {
		if g := got[mode]; !strings.Contains(g.Error, w.Error) || g.Code != w.Code || len(g.Error) > 16<<10 {
			t.Errorf("%s: code %q, %s\nwant code %q, %s", mode, g.Code, g.Error, w.Code, w.Error)
		}
	}
	out, _ := b.acmed("status", "-o", "json")
	b.kill(syscall.SIGTERM)
	b.checkSecret(secret, out)
	b.checkEnded()
}

// checkSecret looks for the secret, as it is and in base64, in what acmed printed, logged and stored.
func (b *box) checkSecret(secret, printed string) {
	b.Helper()
	texts := map[string][]byte{"status": []byte(printed), "log": b.log.Bytes()}
	err := filepath.WalkDir(filepath.Join(b.dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			texts[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range texts {
		for _, form := range []string{secret, secret[:12], base64.StdEncoding.EncodeToString([]byte(secret))} {
			if bytes.Contains(text, []byte(form)) {
				b.Errorf("the secret is in %s", name)
			}
		}
	}
}

// checkEnded sees that none of the processes that workers noted is left.
func (b *box) checkEnded() {
	b.Helper()
	notes, err := os.ReadFile(filepath.Join(b.dir, "pids"))
	if err != nil {
		b.Fatal(err)
	}
	pids := strings.Fields(string(notes))
	if len(pids) < 6 {
		b.Errorf("only %d processes were started", len(pids))
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		b.await("ended: process "+text, func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || bytes.Contains(stat, []byte(") Z "))
		})
	}
}
