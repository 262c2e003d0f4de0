package apache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestNoFailedRequest installs, renews, rolls back and uninstalls under constant load.
func TestNoFailedRequest(t *testing.T) {
	a := newInstance(t, map[string]string{"sites-available/a.conf": site("a.example", "site a")})
	a.enableModule("ssl", "socache_shmcb")
	a.write("sites-enabled/b.conf", a.secureSite("b.example", "site b", installertest.Bundle(t, "b.example")))
	a.start()
	a.get("https", "b.example", "/")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var good atomic.Int64
	var wg sync.WaitGroup
	var once sync.Once
	var broken atomic.Bool
	first := ""
	for _, r := range [][3]string{{"https", "b.example", "site b"}, {"https", "b.example", "site b"}, {"http", "a.example", "site a"}} {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, body, err := a.request(r[0], r[1], "/")
				if err != nil || body != r[2] {
					once.Do(func() { first = fmt.Sprintf("%s://%s: %v, %q", r[0], r[1], err, body) })
					broken.Store(true)
					return
				}
				good.Add(1)
			}
		})
	}
	l := newLineage(t, "a.example")
	shop := newLineage(t, "b.example")
	shop.Certificate = "shop"
	for _, one := range []*lineage{l, shop} {
		name := one.Names[0].Value
		i, first := a.install(a.config(), one, name)
		a.install(a.config(), one, name)
		a.install(a.config(), one, name)
		one.publish(first)
		must(t, i.Install(t.Context(), first))
		must(t, i.Uninstall(t.Context()))
	}
	served := good.Load() + 20
	await.True(t, "requests after the uninstall", func() bool { return broken.Load() || good.Load() > served })
	cancel()
	wg.Wait()
	if good.Load() == 0 {
		t.Error("there was no load")
	}
	if first != "" {
		t.Errorf("after %d good requests one failed: %s", good.Load(), strings.TrimSpace(first))
	}
	t.Logf("%d requests", good.Load())
}
