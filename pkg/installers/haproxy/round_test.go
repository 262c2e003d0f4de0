package haproxy

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestRound installs eight certificates of one HAProxy at once. Without the runtime API they share reloads, with it there is
// none; one whose file HAProxy does not use fails alone.
func TestRound(t *testing.T) {
	for name, o := range map[string]options{"reload": {noSocket: true}, "runtime API": {}} {
		t.Run(name, func(t *testing.T) {
			h := start(t, o)
			const count = 8
			targets, bundles, errs := make([]*Installer, count+1), make([]*certs.Bundle, count+1), make([]error, count+1)
			c := h.config()
			c.Reload = []string{"/bin/sh", "-c", fmt.Sprintf("echo reload >>%s; kill -USR2 %d", h.path("reloads"), h.cmd.Process.Pid)}
			c.VerifyTimeout = 20 * time.Second
			server := NewServer(c)
			for i := range targets {
				site := fmt.Sprintf("s%d.example", i)
				c.File, c.Verify = h.path("certs/"+site+".pem"), []string{h.addr + "/" + site}
				if i == count {
					c.File = h.path("unused.pem")
				}
				target, _, _ := installertest.Live(t, site)
				target.Server = server
				var err error
				if targets[i], err = New(c, target); err != nil {
					t.Fatal(err)
				}
			}
			if o.noSocket {
				targets = targets[:count]
			}
			install := func() {
				var wg sync.WaitGroup
				for i, one := range targets {
					bundles[i] = installertest.Bundle(t, fmt.Sprintf("s%d.example", i))
					wg.Go(func() { errs[i] = one.Install(t.Context(), bundles[i]) })
				}
				wg.Wait()
			}
			for range 2 {
				install()
				for i, one := range targets[:count] {
					if err := errors.Join(errs[i], one.Verify(t.Context(), bundles[i])); err != nil {
						t.Errorf("s%d: %v", i, err)
					}
				}
			}
			if _, err := os.Stat(h.path("unused.pem")); !o.noSocket && (errs[count] == nil || err == nil) {
				t.Errorf("a file that HAProxy does not use is installed: %v, %v", errs[count], err)
			}
			if n := h.reloads(); o.noSocket && (n < 2 || n > 8) || !o.noSocket && n > 0 {
				t.Errorf("%d reloads", n)
			}
		})
	}
}
