package apache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestNoFailedRequest installs and renews under constant load.
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
	first := ""
	for _, r := range [][3]string{{"https", "b.example", "site b"}, {"https", "b.example", "site b"}, {"http", "a.example", "site a"}} {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, body, err := a.request(r[0], r[1], "/")
				if err != nil || body != r[2] {
					once.Do(func() { first = fmt.Sprintf("%s://%s: %v, %q", r[0], r[1], err, body) })
					return
				}
				good.Add(1)
			}
		})
	}
	l := newLineage(t, "a.example")
	shop := newLineage(t, "b.example")
	shop.Certificate = "shop"
	for range 3 {
		a.install(a.config(), l, "a.example")
		a.install(a.config(), shop, "b.example")
	}
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
