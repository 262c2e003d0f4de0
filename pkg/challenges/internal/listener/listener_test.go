package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/challenges"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, c Config) net.Listener {
	t.Helper()
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	ln, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dialFrom connects from another address of loopback.
func dialFrom(t *testing.T, addr net.Addr, from ...byte) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := d.DialContext(t.Context(), addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func accept(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ended reports whether the other side closes a connection within 2 seconds.
func ended(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestTheOldestConnectionMakesRoom(t *testing.T) {
	ln := open(t, Config{MaxConns: 2})
	var clients []net.Conn
	for i := range 4 {
		clients = append(clients, dial(t, ln.Addr()))
		conn := accept(t, ln)
		if i == 1 {
			_ = conn.Close() // gives its place back
		}
	}
	if !ended(clients[0]) || !ended(clients[1]) {
		t.Error("the oldest connection is still open")
	}
	for _, c := range clients[2:] {
		if !stays(c) {
			t.Error("a new connection was closed")
		}
	}
	_ = ln.Close()
	if !ended(clients[2]) || !ended(clients[3]) {
		t.Error("a connection outlives its listener")
	}
}

// stays reports whether the other side leaves a connection open for the moment.
func stays(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func TestACrowdTakesPlacesFromItself(t *testing.T) {
	ln := open(t, Config{MaxConns: 64}) // a fair share are 4
	connect := func(from ...byte) net.Conn {
		conn := dialFrom(t, ln.Addr(), from...)
		accept(t, ln)
		return conn
	}
	var ca, crowd []net.Conn
	for range 4 {
		ca = append(ca, connect(127, 0, 0, 1))
	}
	for i := range byte(200) {
		crowd = append(crowd, connect(127, 66, 0, i+1))
	}
	for range 4 {
		ca = append(ca, connect(127, 0, 0, 1)) // more than a fair share, less than the crowd
	}
	for i, conn := range ca {
		if !stays(conn) {
			t.Errorf("connection %d of the CA made room for a crowd from elsewhere", i)
		}
	}
	const left = 64 - 8
	if !ended(crowd[len(crowd)-left-1]) || !stays(crowd[len(crowd)-left]) {
		t.Error("the crowd did not lose its oldest connections")
	}
}

func TestACrowdOfManyNetworksIsRemembered(t *testing.T) {
	const bound, networks = 64, 40
	ln := open(t, Config{MaxConns: bound})
	crowd := func(n int) {
		for i := range n {
			dialFrom(t, ln.Addr(), 127, 66, byte(i%networks), 1)
			accept(t, ln)
		}
	}
	crowd(10 * networks)
	ca := dialFrom(t, ln.Addr(), 127, 0, 0, 1)
	accept(t, ln)
	crowd(2 * bound)
	if !stays(ca) {
		t.Error("the CA made room for clients that come again and again")
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	l := newLimited(nil, 2)
	for i := range 1000 * memory {
		c := &limitedConn{Conn: nobody{}, owner: l, from: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i)}), 24)}
		for l.open.Len() >= l.most {
			l.makeRoom()
		}
		c.place = l.open.PushBack(c)
		l.counts[c.from]++
		if n := len(l.counts); n > 3*memory*l.most {
			t.Fatalf("%d networks are remembered", n)
		}
	}
	for l.open.Len() > 0 {
		l.evict(l.open.Front())
	}
	for range 20 {
		l.forget()
	}
	if len(l.counts) != 0 {
		t.Errorf("%d networks are never forgotten", len(l.counts))
	}
}

// nobody is a connection that can be closed.
type nobody struct{ net.Conn }

func (nobody) Close() error { return nil }

func TestFairSharesAreEqual(t *testing.T) {
	ln := open(t, Config{MaxConns: 64})
	clients := []net.Conn{dialFrom(t, ln.Addr(), 127, 0, 0, 1)}
	accept(t, ln)
	for i := range byte(64) {
		clients = append(clients, dialFrom(t, ln.Addr(), 127, 66, i/3, i+1)) // networks of 3, less than a fair share
		accept(t, ln)
	}
	if !ended(clients[0]) || !stays(clients[1]) {
		t.Error("it was not the oldest of all that made room")
	}
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.77:80":              "192.0.2.0/24",
		"[::ffff:192.0.2.78]:80":     "192.0.2.0/24",
		"[2001:db8:1:2::1]:80":       "2001:db8:1::/48",
		"[fe80:0:0:1::1%lo]:80":      "fe80::/48",
		"[2001:db8:2:ffff::1:1]:443": "2001:db8:2::/48",
	} {
		if got := network(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))).String(); got != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
	if got := network(&net.UnixAddr{Name: "@", Net: "unix"}); got != (netip.Prefix{}) {
		t.Errorf("a unix socket is of %s", got)
	}
}

func TestSharedOpensAndCloses(t *testing.T) {
	serving := 0
	s := NewShared(Config{Addr: "127.0.0.1:0", MaxConns: 1}, func(ln net.Listener) func() {
		serving++
		return func() { serving--; _ = ln.Close() }
	})
	step := func(name string, want int, do func() error) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if serving != want || (s.Addr() != nil) != (want == 1) {
			t.Fatalf("%s: %d listeners at %v", name, serving, s.Addr())
		}
	}
	acquire := func() error { return s.Acquire(t.Context()) }
	release := func() error { s.Release(); return nil }
	step("first", 1, acquire)
	step("second", 1, acquire)
	step("second leaves", 1, release)
	step("first leaves", 0, release)
	step("again", 1, acquire)
	step("held", 1, func() error { return s.Hold(t.Context()) })
	step("leaves", 1, release)
	step("closed", 0, func() error { s.Close(); s.Close(); return nil })
	if err := s.Acquire(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSharedCountsNoFailedUser(t *testing.T) {
	taken := open(t, Config{MaxConns: 1})
	s := NewShared(Config{Addr: taken.Addr().String(), MaxConns: 1}, func(ln net.Listener) func() { return func() { _ = ln.Close() } })
	var bind *challenges.BindError
	if err := s.Acquire(t.Context()); !errors.As(err, &bind) {
		t.Fatalf("error %v", err)
	}
	_ = taken.Close()
	if err := s.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Release()
	if s.Addr() != nil {
		t.Error("still open")
	}
}

func TestOpenIsBoundToItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ln, err := (&Config{Addr: "localhost:0", MaxConns: 1}).Open(ctx); err == nil {
		_ = ln.Close()
		t.Error("listens for a caller that is gone")
	}
}

func TestProxyHeaderOfATrustedPeer(t *testing.T) {
	ln := open(t, Config{MaxConns: 4, Timeout: time.Second, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	client := dial(t, ln.Addr())
	if _, err := io.WriteString(client, "PROXY TCP6 2001:db8::1 2001:db8::2 1234 80\r\nx"); err != nil {
		t.Fatal(err)
	}
	if got := accept(t, ln).RemoteAddr().String(); got != "[2001:db8::1]:1234" {
		t.Errorf("remote address %s", got)
	}
}

// The lines are those of a kernel; the addresses 127.0.0.1, 192.0.2.10, any, ::1 and any IPv6.
const (
	header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	tcp4   = header +
		"   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0\n" +
		"   1: 0A0200C0:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 0 0 10 0\n" +
		"   2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0 100 0 0 10 0\n" +
		"   3: 0100007F:1389 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 104 1 0 100 0 0 10 0\n" +
		"   4: damaged\n   5: zz:zz 00:0 0A 0 0 0 0 0 105 0\n"
	tcp6 = header +
		"   0: 00000000000000000000000001000000:1A0B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 106 1 0 100 0 0 10 0\n" +
		"   1: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 107 1 0 100 0 0 10 0\n"
)

func TestHolder(t *testing.T) {
	proc := t.TempDir()
	files := map[string]string{
		"net/tcp": tcp4, "net/tcp6": tcp6,
		"900/comm": "nginx\n", "901/comm": "nginx\n", "902/comm": "evil\x1b[31m\nname\n", "self/comm": "x",
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(proc, filepath.Dir(name), "fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"900/fd/0": "/dev/null", "900/fd/6": "socket:[101]", "901/fd/6": "socket:[101]", "900/fd/7": "socket:[103]",
		"902/fd/3": "socket:[102]", "902/fd/4": "socket:[106]", "902/fd/5": "socket:[107]", "900/fd/8": "socket:[104]",
	} {
		if err := os.Symlink(target, filepath.Join(proc, name)); err != nil {
			t.Fatal(err)
		}
	}
	nginx, evil := &challenges.Process{Name: "nginx", PID: 900}, &challenges.Process{Name: "evil[31mname", PID: 902}
	for addr, want := range map[string]*challenges.Process{
		"127.0.0.1:80":    nginx,
		"0.0.0.0:80":      nginx,
		"[::]:80":         nginx,
		"127.0.0.2:80":    nil,
		"192.0.2.10:443":  evil,
		"192.0.2.11:443":  nil,
		"192.0.2.11:8080": nginx,
		"[::1]:6667":      evil,
		"[::2]:6667":      nil,
		"127.0.0.1:22":    evil,
		"127.0.0.1:5001":  nil, // connected, not listening
		"127.0.0.1:1":     nil,
	} {
		if diff := cmp.Diff(want, holder(proc, netip.MustParseAddrPort(addr))); diff != "" {
			t.Errorf("%s: %s", addr, diff)
		}
	}
	if p := holder(proc, netip.AddrPortFrom(netip.Addr{}, 80)); p == nil {
		t.Error("a port without an address has no holder")
	}
	if p := holder(t.TempDir(), netip.MustParseAddrPort("127.0.0.1:80")); p != nil {
		t.Errorf("without /proc: %v", p)
	}
}
