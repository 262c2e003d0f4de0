package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// crowd are clients that want nothing from a responder but its connections. Those that it cuts off come back.
type crowd struct {
	addr  string
	open  atomic.Int64 // connections right now
	total atomic.Int64
}

// comeBack is how long a client stays away after it was cut off.
const comeBack = 200 * time.Millisecond

// hello begins as a TLS ClientHello does.
const hello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

// manners are the ways in which clients write, with the pause before each byte; 0 writes all at once.
var manners = []struct {
	text  string
	pause time.Duration
}{
	{"", 0},
	{"", 0},
	{"", 0},
	{"GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: example.com\r\n\r\n", time.Second},
	{hello + strings.Repeat("\x00", 501), time.Second},
	{"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nevil\r\n\r\n", 0},
	{strings.Repeat("\xff", 5000), 0},
	{hello + strings.Repeat("\xff", 501), 0},
}

func (c *crowd) gather(ctx context.Context, n int) *sync.WaitGroup {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for m := manners[i%len(manners)]; ctx.Err() == nil; {
				c.annoy(ctx, m.text, m.pause)
				wait(ctx, comeBack)
			}
		})
	}
	return &all
}

// annoy is one connection, which lasts as long as the responder lets it.
func (c *crowd) annoy(ctx context.Context, text string, pause time.Duration) {
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 66, 0, byte(1+c.total.Load()%200))}} // not where the CA is
	conn, err := elsewhere.DialContext(ctx, "tcp", c.addr)
	if err != nil { // nobody listens yet, or any more
		return
	}
	c.total.Add(1)
	c.open.Add(1)
	defer c.open.Add(-1)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() {
		if pause == 0 {
			_, _ = io.WriteString(conn, text)
			return
		}
		for i := range len(text) {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil || !wait(ctx, pause) {
				return
			}
		}
	}()
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

// wait reports whether the context let it wait to the end.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// TestOrdersAmongHostileClients: twenty certificates are obtained while 600 idle, slow and malformed clients fight for the
// 256 places of each responder, and those who lost theirs come back at once. The CA validates in the midst of it.
func TestOrdersAmongHostileClients(t *testing.T) {
	const clients, enough, certificates = 600, 1200, 20
	var there []*crowd
	gate := func(e acmetest.Endpoint, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for e == acmetest.Challenge && (there[0].total.Load() < enough || there[1].total.Load() < enough) && wait(r.Context(), 10*time.Millisecond) {
			}
			next.ServeHTTP(w, r)
		})
	}
	b := newBox(t, acmetest.WithMiddleware(gate))
	b.innerHTTP, b.innerTLS = fmt.Sprint(":", b.ca.HTTPPort), fmt.Sprint(":", b.ca.TLSPort)
	there = []*crowd{{addr: "127.0.0.1" + b.innerHTTP}, {addr: "127.0.0.1" + b.innerTLS}}
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range there {
		all := c.gather(ctx, clients)
		defer all.Wait()
	}
	defer cancel()
	var list strings.Builder
	for i := range certificates {
		fmt.Fprintf(&list, "  - { name: c%d, names: [c%d.example.com, www.c%d.example.com], solvers: [%s] }\n", i, i, i, []string{"http", "alpn"}[i%2])
	}
	b.configure("off", "", list.String())
	b.run()
	b.await("all obtained", b.healthy)
	// On a machine so busy that the CA does not come to say a word, a few lose their place like any silent client.
	if got := b.validations(); got < 2*certificates || got > 2*certificates+certificates/2 {
		t.Errorf("%d validations for %d names", got, 2*certificates)
	}
	for _, c := range there {
		t.Logf("%d connections to %s", c.total.Load(), c.addr)
		b.await("cut off at "+c.addr, func() bool { return c.open.Load() == 0 })
	}
}
