package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// post is what somebody sent to the server of the test.
type post struct {
	path, body string
	header     http.Header
}

// office is where notifications arrive.
type office struct {
	*httptest.Server
	mu    sync.Mutex
	posts []post
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.posts = append(o.posts, post{r.URL.Path, string(body), r.Header})
	}))
	t.Cleanup(o.Close)
	return o
}

// at lists what came to a path.
func (o *office) at(path string) []post {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []post
	for _, p := range o.posts {
		if strings.HasPrefix(p.path, path) {
			list = append(list, p)
		}
	}
	return list
}

// until waits for a number of posts at a path.
func (o *office) until(t *testing.T, path string, n int) []post {
	t.Helper()
	var list []post
	await.NoError(t, func() error {
		if list = o.at(path); len(list) < n {
			return fmt.Errorf("%d posts at %s, want %d: %v", len(list), path, n, list)
		}
		return nil
	})
	return list
}

// TestNotifications: an outage of the CA is told once to everybody, over tries and a kill, and its end is told once.
// The signature is checked by the program in the guide, and the token in the URLs is in no output.
func TestNotifications(t *testing.T) {
	t.Parallel()
	const canary = "canary-4c1d77"
	s := &site{t: t, dir: t.TempDir(), ca: acmetest.Start(t)}
	o := newOffice(t)
	s.write("ca.pem", string(s.ca.RootPEM))
	for name, text := range map[string]string{
		"webhook.key": "the key of the signature\n", "chat.url": "generic://" + strings.TrimPrefix(o.URL, "http://") + "/chat/" + canary + "?disabletls=yes\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(s.dir, "tell.sh")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$ACMED_EVENT $ACMED_CERTIFICATE\" >>\"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o750); err != nil {
		t.Fatal(err)
	}
	page := fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t))
	s.write("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
log: { level: debug }
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:%[3]d" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
notify:
  - { name: chat, url_file: %[1]s/chat.url }
  - { name: hook, webhook: { url: "%[4]s/hook/%[5]s", secret_file: %[1]s/webhook.key } }
  - { name: program, command: { run: [%[6]s, %[1]s/told] } }
  - { name: broken, webhook: { url: "http://127.0.0.1:1/%[5]s", secret_file: %[1]s/webhook.key } }
certificates:
  - { name: www, names: [www.example.com] }
web: { listen: "%[7]s" }
`, s.dir, s.ca.Directory, s.ca.HTTPPort, o.URL, canary, program, page))
	t.Cleanup(func() {
		s.kill(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", s.log.String())
		}
	})
	var outputs bytes.Buffer
	run := func(want int, args ...string) {
		t.Helper()
		out, code := s.run(args...)
		outputs.WriteString(out)
		if code != want {
			t.Errorf("%q: exit %d, want %d: %s", args, code, want, out)
		}
	}

	if err := s.ca.Stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	for _, path := range []string{"/chat/", "/hook/"} {
		if p := o.until(t, path, 1)[0]; !strings.Contains(p.body, "failed") || !strings.Contains(p.body, "www") {
			t.Errorf("%s: %s", path, p.body)
		}
	}
	run(1, "renew", "--force", "www")
	run(1, "renew", "--force", "www")
	time.Sleep(time.Second) // what must not come had time to come
	s.kill(syscall.SIGKILL)
	s.start()
	up(t, "http://"+page+"/livez") // commands that come earlier do without it
	run(1, "renew", "--force", "www")
	run(1, "notify", "test")
	if err := s.ca.Resume(); err != nil {
		t.Fatal(err)
	}
	run(0, "renew", "--force", "www")
	o.until(t, "/hook/", 3)
	o.until(t, "/chat/", 3)
	run(0, "renew", "--force", "www")
	outputs.WriteString(counted(t, "http://"+page+"/metrics"))
	s.kill(syscall.SIGTERM)

	var kinds []string
	for _, p := range o.at("/hook/") {
		var e struct {
			Schema int
			ID     string
			Kind   string
		}
		if err := json.Unmarshal([]byte(p.body), &e); err != nil || e.Schema != 1 || e.ID == "" || p.header.Get("Idempotency-Key") != e.ID {
			t.Errorf("%s: %v", p.body, err)
		}
		kinds = append(kinds, e.Kind)
		verify(t, s.dir, p)
	}
	if got := strings.Join(kinds, " "); got != "failed test recovered" {
		t.Errorf("the webhook was told %q", got)
	}
	if n := len(o.at("/chat/")); n != 3 {
		t.Errorf("the chat got %d messages, want 3", n)
	}
	if told := s.read("told"); told != "failed www\ntest \nrecovered www\n" {
		t.Errorf("the program was told %q", told)
	}
	if info, err := os.Stat(filepath.Join(s.dir, "state", "notify.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	run(3, "status") // no daemon runs any more
	outputs.Write(s.log.Bytes())
	outputs.WriteString(s.read("state/notify.json"))
	if !strings.Contains(outputs.String(), "notification failed") || strings.Contains(outputs.String(), canary) {
		t.Errorf("the broken notifier was not heard, or its URL was:\n%s", outputs.String())
	}
}

// counted returns the metrics of the process that sent the test and the recovery, once they say what became of both.
func counted(t *testing.T, address string) string {
	t.Helper()
	want := regexp.MustCompile(`(?s)\nacmed_notifications_total\{notifier="broken",outcome="failed"\} [1-9]\d*\n.*` +
		`\nacmed_notifications_total\{notifier="hook",outcome="sent"\} 2\n`)
	var text []byte
	await.NoError(t, func() error {
		resp, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		text, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !want.Match(text) {
			return fmt.Errorf("the metrics never counted what was sent and what failed:\n%s", text)
		}
		return nil
	})
	return string(text)
}

var guideProgram = regexp.MustCompile("(?s)```python\n(.*?)```")

// verify runs the program of the guide on a post, as it is and with a changed body.
func verify(t *testing.T, dir string, p post) {
	t.Helper()
	guide, err := os.ReadFile("../../docs/guides/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	code := guideProgram.FindSubmatch(guide)
	if code == nil {
		t.Fatal("the guide has no program")
	}
	file := filepath.Join(dir, "verify.py")
	if err := os.WriteFile(file, code[1], 0o644); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]bool{p.body: true, p.body + " ": false} {
		cmd := exec.Command("python3", file, filepath.Join(dir, "webhook.key"), p.header.Get("Acmed-Timestamp"), p.header.Get("Acmed-Signature"))
		cmd.Stdin = strings.NewReader(body)
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("genuine: %v, want %v: %v %s", err == nil, want, err, out)
		}
	}
}
