package installers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowServer takes a second for each reload and counts them; active does the work, so that no program is needed.
func slowServer(count *atomic.Int32) *Server {
	return NewServer("slow", Command{}, Command{}, func(context.Context) (bool, error) {
		time.Sleep(time.Second)
		count.Add(1)
		return false, nil
	})
}

func isStopped(err error) bool {
	stopped := (*NotRunningError)(nil)
	return errors.As(err, &stopped)
}

func TestReloadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int32
		s := slowServer(&count)
		var wg sync.WaitGroup
		reload := func() {
			begun := count.Load()
			if err := s.Reload(t.Context()); !isStopped(err) {
				t.Error(err)
			}
			if count.Load() == begun {
				t.Error("Reload returned without a reload that began after the call")
			}
		}
		wg.Go(reload)
		time.Sleep(500 * time.Millisecond)
		for range 100 {
			wg.Go(reload)
		}
		wg.Wait()
		if n := count.Load(); n != 2 {
			t.Errorf("%d reloads for 1 and then 100 callers, want 2", n)
		}
		reload()
		if n := count.Load(); n != 3 {
			t.Errorf("%d reloads, want a third one", n)
		}
	})
}

func TestCancelledCallerDoesNotStopTheReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int32
		s := slowServer(&count)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("shutting down")
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Reload(ctx); !errors.Is(err, stop) {
				t.Errorf("the cancelled Reload = %v", err)
			}
		})
		wg.Go(func() {
			if err := s.Reload(t.Context()); !isStopped(err) {
				t.Errorf("the other Reload = %v", err)
			}
		})
		time.Sleep(100 * time.Millisecond)
		cancel(stop)
		wg.Wait()
		time.Sleep(2 * time.Second) // a reload that nobody waits for any more still ends
		if n := count.Load(); n == 0 || n > 2 {
			t.Errorf("%d reloads", n)
		}
	})
}

func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer("nginx", Command{}, Command{}, nil)
		unlock, err := s.Lock(t.Context())
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "nginx") {
			t.Errorf("the second Lock = %v", err)
		}
		unlock()
		unlock()
		for range 2 {
			again, err := s.Lock(t.Context())
			must(t, err)
			again()
		}
	})
}

func TestServerCommands(t *testing.T) {
	note := filepath.Join(t.TempDir(), "note")
	noting := Command{Argv: []string{"/bin/sh", "-c", `echo reload >>"$0"`, note}}
	yes := func(context.Context) (bool, error) { return true, nil }
	s := NewServer("web", sh("echo bad >&2; exit 1"), noting, yes)
	failed := (*CommandError)(nil)
	if err := s.Test(t.Context()); !errors.As(err, &failed) || failed.ExitCode != 1 {
		t.Errorf("Test = %v", err)
	}
	must(t, s.Reload(t.Context()), NewServer("web", Command{}, noting, nil).Reload(t.Context()), NewServer("web", Command{}, noting, nil).Test(t.Context()))
	if content, err := os.ReadFile(note); err != nil || string(content) != "reload\nreload\n" {
		t.Errorf("reloads: %q, %v", content, err)
	}
	unknown := errors.New("no answer")
	err := NewServer("web", Command{}, noting, func(context.Context) (bool, error) { return true, unknown }).Reload(t.Context())
	if !errors.Is(err, unknown) || isStopped(err) {
		t.Errorf("Reload of a server in an unknown state = %v", err)
	}
	stopped := NewServer("web", Command{}, noting, func(context.Context) (bool, error) { return false, nil })
	if err := stopped.Reload(t.Context()); !isStopped(err) || !strings.Contains(err.Error(), "web is not running") {
		t.Errorf("Reload of a stopped server = %v", err)
	}
	if content, _ := os.ReadFile(note); strings.Count(string(content), "reload") != 2 {
		t.Error("a stopped server was reloaded")
	}
}

func TestSystemd(t *testing.T) {
	if c := SystemdReload("x.service"); strings.Join(c.Argv, " ") != "/usr/bin/systemctl reload -- x.service" {
		t.Error(c.Argv)
	}
	if !isInactive(3) || !isInactive(4) || isInactive(0) || isInactive(1) || isInactive(-1) {
		t.Error("isInactive")
	}
}

// TestPanicInAReload: it is the error of all who wait for it, and the next reload runs.
func TestPanicInAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var count atomic.Int32
		s := slowServer(&count)
		active := s.active
		s.active = func(ctx context.Context) (bool, error) {
			if count.Load() == 0 {
				count.Add(1)
				panic("lost")
			}
			return active(ctx)
		}
		if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "internal error: lost") {
			t.Errorf("%v", err)
		}
		if err := s.Reload(t.Context()); !isStopped(err) {
			t.Errorf("the next one: %v", err)
		}
	})
}
