package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestRound installs 40 certificates whose files one server reads: few reloads for all, and those that fail, because of their
// directory, of the server's reload or of what is served, leave the others alone.
func TestRound(t *testing.T) {
	const count, noDirectory, notReloaded, notServed = 40, 3, 17, 29
	s := newServer(t)
	addr := installertest.Serve(t, s.load).Addr
	conf := func(i int) Config {
		return Config{
			Dir:        filepath.Join(s.root, fmt.Sprint(i)),
			Reload:     []string{"/bin/sh", "-c", `echo reload >>"$0/reloads"; ! test -e "$1"`, s.control, filepath.Join(s.root, fmt.Sprint(notReloaded), "privkey.pem")},
			VerifyWait: 200 * time.Millisecond,
		}
	}
	server := NewServer(conf(0))
	targets := make([]*Installer, count)
	for i := range targets {
		c := conf(i)
		if i == notServed {
			c.Verify = []string{addr}
		}
		if i != noDirectory {
			if err := os.Mkdir(c.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		target, _, _ := installertest.Live(t, "www.example.com")
		target.Server = server
		var err error
		if targets[i], err = New(c, target); err != nil {
			t.Fatal(err)
		}
	}
	b := installertest.Bundle(t, "www.example.com")
	errs := make([]error, count)
	install := func(b *certs.Bundle) {
		var wg sync.WaitGroup
		for i, one := range targets {
			wg.Go(func() { errs[i] = one.Install(t.Context(), b) })
		}
		wg.Wait()
	}
	wants := map[int]string{noDirectory: "no such file", notReloaded: "/bin/sh", notServed: "probe: "}
	install(b)
	for i, err := range errs {
		want, fails := wants[i]
		if (err != nil) != fails || fails && !strings.Contains(err.Error(), want) {
			t.Errorf("target %d: %v, want %q", i, err, want)
		}
		if fails {
			if files, _ := filepath.Glob(filepath.Join(targets[i].config.Dir, "*")); len(files) > 0 {
				t.Errorf("target %d left %s", i, files)
			}
		} else if err := targets[i].Verify(t.Context(), b); err != nil {
			t.Errorf("target %d: %v", i, err)
		}
	}
	if n := s.reloads(); n > 24 { // the guilty one is one of 40
		t.Errorf("%d reloads", n)
	}

	for i := range wants {
		targets[i] = targets[0]
	}
	before := s.reloads()
	install(installertest.Bundle(t, "www.example.com"))
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if n := s.reloads() - before; n > 3 {
		t.Errorf("%d reloads for a renewal", n)
	}
}
