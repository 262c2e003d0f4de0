package apache

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// workers are the child processes of this instance's Apache.
func (a *instance) workers() (pids []int) {
	a.t.Helper()
	await.True(a.t, "Apache has a worker", func() bool {
		pids = a.children()
		return len(pids) > 0
	})
	return pids
}

func (a *instance) children() []int {
	a.t.Helper()
	parent := a.pid()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(a.t, err)
	var pids []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		must(a.t, err)
		// "pid (name) state ppid …", and the name can have anything in it (proc(5)).
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && parent > 1 && fields[1] == strconv.Itoa(parent) && strings.Contains(string(title), a.conf) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hang stops processes of this Apache until the returned function lets them go on.
func (a *instance) hang(pids ...int) (resume func()) {
	a.t.Helper()
	for _, pid := range pids {
		if pid <= 1 {
			a.t.Fatalf("%d is no process of this Apache", pid)
		}
		must(a.t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	return func() {
		for _, pid := range pids {
			must(a.t, syscall.Kill(pid, syscall.SIGCONT))
		}
	}
}

// secured is an Apache that serves the first certificate of its only site, and the target that installed it.
func secured(t *testing.T) (a *instance, i *Installer, l *lineage, first *certs.Bundle) {
	t.Helper()
	a = start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
	l = newLineage(t, "a.example")
	i, first = a.install(a.config(), l, "a.example")
	return a, i, l, first
}

// TestHungAtRenewal reloads an Apache parts of which do not run. A reload only sends a signal, so it succeeds each time.
func TestHungAtRenewal(t *testing.T) {
	for _, tt := range []struct {
		name string
		hang func(*instance) []int
		want string // in the error; {old} and {new} are the serials; "" when clients get the new certificate all the same
		most time.Duration
	}{
		{"workers", (*instance).workers, "", time.Minute},
		{"parent", func(a *instance) []int { return []int{a.pid()} }, "127.0.0.1:{tls} (SNI a.example) serves serial {old} from", 8 * time.Second},
		{"both", func(a *instance) []int { return append(a.workers(), a.pid()) }, "127.0.0.1:{tls} (SNI a.example): the TLS handshake failed: ", 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, i, l, first := secured(t)
			before, stamps, reloads := a.files(), a.stamps(), a.reloads()
			hung := tt.hang(a)
			resume := a.hang(hung...)
			b := installertest.Bundle(t, "a.example")
			l.publish(b)
			began := time.Now()
			err := i.Install(t.Context(), b)
			if took := time.Since(began); took > tt.most+time.Minute {
				t.Errorf("Install took %v", took)
			}
			want := a.expand(strings.ReplaceAll(tt.want, "{old}", first.Leaf.SerialNumber.Text(16)))
			if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("Install = %v, want %s", err, want)
			}
			if n := a.reloads() - reloads; n != 1 {
				t.Errorf("%d reloads", n)
			}
			a.wantFiles(before, "a failed renewal edited something")
			resume()
			must(t, i.Install(t.Context(), b))
			must(t, i.Verify(t.Context(), b))
			a.wantFiles(before, "the next run edited something")
			if diff := cmp.Diff(stamps, a.stamps()); diff != "" {
				t.Errorf("a file was written again (-before +after):\n%s", diff)
			}
			if tt.name != "parent" {
				await.True(t, "the workers that hung are gone", func() bool {
					return !slices.ContainsFunc(a.workers(), func(pid int) bool { return slices.Contains(hung, pid) })
				})
			}
		})
	}
}

// TestHungAtInstall has an Apache that does not take note of the new virtual host.
func TestHungAtInstall(t *testing.T) {
	for _, tt := range []struct {
		name string
		hang func(*instance) []int
	}{
		{"parent", func(a *instance) []int { return []int{a.pid()} }},
		{"both", func(a *instance) []int { return append(a.workers(), a.pid()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
			before := a.files()
			l := newLineage(t, "a.example")
			b := installertest.Bundle(t, "a.example")
			l.publish(b)
			i := a.installer(a.config(), l)
			resume := a.hang(tt.hang(a)...)
			err := i.Install(t.Context(), b)
			if want := a.expand("127.0.0.1:{tls}: connect: connection refused"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Install = %v, want %s", err, want)
			}
			a.wantFiles(before, "the failed Install was not undone")
			if n := a.reloads(); n != 2 {
				t.Errorf("%d reloads: one for the edit and one after it was undone are enough", n)
			}
			resume()
			must(t, i.Install(t.Context(), b))
			after := a.files()
			must(t, i.Install(t.Context(), b))
			a.wantFiles(after, "the next run edited something")
			if _, body := a.get("https", "a.example", "/"); body != "hello" {
				t.Errorf("got %q", body)
			}
		})
	}
}
