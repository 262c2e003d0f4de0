package nginx

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// workers are the worker processes of this nginx, old and new.
func (n *instance) workers() []int {
	n.t.Helper()
	master := strconv.Itoa(n.pid())
	var pids []int
	for _, text := range strings.Fields(readFile(n.t, filepath.Join("/proc", master, "task", master, "children"))) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			n.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// freeze stops processes of this nginx, which then neither answer nor end, until thaw is called or the test ends.
func (n *instance) freeze(pids ...int) (thaw func()) {
	n.t.Helper()
	thaw = func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	n.t.Cleanup(thaw)
	for _, pid := range pids {
		if pid <= 1 {
			n.t.Fatalf("process %d", pid)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			n.t.Fatal(err)
		}
	}
	return thaw
}

func (n *instance) tlsAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.tls)) }

// TestHungRenewal renews while processes of nginx hang. What was installed stays, the error says who still serves what,
// and the next run after they woke up has nothing to edit.
func TestHungRenewal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		hang func(n *instance) []int
		want string // in the error; "" when the renewal succeeds
	}{
		{"old workers", (*instance).workers, ""},
		{"master", func(n *instance) []int { return []int{n.pid()} }, " serves serial "},
		{"all", func(n *instance) []int { return append(n.workers(), n.pid()) }, "the TLS handshake failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
			cfg := n.config()
			cfg.VerifyTimeout = time.Second
			i := n.installer(cfg, l)
			mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
			await.True(t, "the old worker ends", func() bool { return len(n.workers()) == 1 })
			before, reloads := treeTexts(t, n.conf), n.reloads()

			thaw := n.freeze(tt.hang(n)...)
			b := installertest.Bundle(t, "a.example")
			l.publish(b)
			begin := time.Now()
			err := i.Install(t.Context(), b)
			took := time.Since(begin)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Install: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), n.tlsAddr()) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %s and%s", err, n.tlsAddr(), tt.want)
			}
			if took > time.Minute {
				t.Errorf("it took %s", took)
			}
			if got := n.reloads() - reloads; got != 1 {
				t.Errorf("%d reloads", got)
			}
			thaw()
			mustInstall(t, i, l, b)
			sameTexts(t, before, treeTexts(t, n.conf))
		})
	}
}

// TestHungInstall installs for the first time while processes of nginx hang. Nobody serves the certificate, so the edit
// is taken back, once. When they woke up the next run succeeds, and the one after that has nothing to edit.
func TestHungInstall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, want string
		hang       func(t *testing.T, n *instance) (thaw func())
		answers    bool // what was there before is served without anybody waking up
	}{
		{
			name: "master", want: "connection refused",
			hang: func(_ *testing.T, n *instance) func() { return n.freeze(n.pid()) },
		},
		{
			name: "new workers", want: "the TLS handshake failed", answers: true,
			hang: func(t *testing.T, n *instance) func() {
				script := filepath.Join(n.run, "reload.sh")
				text := "#!/bin/sh\n" + `echo reload >> {run}/reloads
{nginx} -s reload -p {run} -c {conf}/nginx.conf || exit 1
[ ! -e {run}/hung ] || exit 0
master=$(cat {run}/nginx.pid)
old=$(cat /proc/$master/task/$master/children)
while [ "$(cat /proc/$master/task/$master/children)" = "$old" ]; do sleep 0.01; done
cat /proc/$master/task/$master/children > {run}/hung
kill -STOP $(cat {run}/hung)
`
				if err := os.WriteFile(script, []byte(n.expand(text)), 0o755); err != nil {
					t.Fatal(err)
				}
				thaw := func() {
					for _, pid := range strings.Fields(readFile(t, filepath.Join(n.run, "hung"))) {
						if pid, err := strconv.Atoi(pid); err == nil && pid > 1 {
							_ = syscall.Kill(pid, syscall.SIGCONT)
						}
					}
				}
				t.Cleanup(thaw)
				return thaw
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
			before := treeTexts(t, n.conf)
			cfg := n.config()
			cfg.VerifyTimeout = time.Second
			i := n.installer(cfg, l)
			thaw := tt.hang(t, n)
			b := installertest.Bundle(t, "a.example")
			l.publish(b)
			err := i.Install(t.Context(), b)
			if err == nil || !strings.Contains(err.Error(), n.tlsAddr()) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s and %s", err, n.tlsAddr(), tt.want)
			}
			sameTexts(t, before, treeTexts(t, n.conf))
			if got := n.reloads(); got != 2 {
				t.Errorf("%d reloads, want one for the edit and one to take it back", got)
			}
			if !tt.answers {
				thaw()
			}
			if resp, body := n.get("http", "a.example", "/"); resp.StatusCode != http.StatusOK || body != "hello" {
				t.Errorf("plain HTTP answers %d %q", resp.StatusCode, body)
			}
			thaw()
			mustInstall(t, i, l, b)
			installed := treeTexts(t, n.conf)
			mustInstall(t, i, l, b)
			sameTexts(t, installed, treeTexts(t, n.conf))
		})
	}
}

// sameTexts compares what treeTexts returned.
func sameTexts(t *testing.T, want, got map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files differ:\n%s", diff)
	}
}
