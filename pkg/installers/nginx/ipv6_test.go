package nginx

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestIPv6 makes TLS listeners beside plain ones for IPv6, alone and together with IPv4.
func TestIPv6(t *testing.T) {
	t.Parallel()
	if !hasIPv6() {
		t.Skip("this machine has no IPv6")
	}
	for _, tt := range []struct {
		name    string
		listens []string // as they are, with {plain} and {tls} for the port
		served  []string // hosts that serve the certificate
		closed  string   // a host on which nothing listens, or ""
	}{
		{"alone", []string{"[::1]:{port}"}, []string{"::1"}, "127.0.0.1"},
		{"with IPv4", []string{"127.0.0.1:{port}", "[::1]:{port}"}, []string{"127.0.0.1", "::1"}, ""},
		{"any address", []string{"{port}", "[::]:{port}"}, []string{"127.0.0.1", "::1"}, ""},
		{"one socket for both", []string{"[::]:{port} ipv6only=off"}, []string{"127.0.0.1", "::1"}, ""},
		{"any IPv6 address", []string{"[::]:{port}"}, []string{"::1"}, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plain := ""
			for _, listen := range tt.listens {
				plain += "    listen " + strings.Replace(listen, "{port}", "{plain}", 1) + ";\n"
			}
			n := start(t, map[string]string{"sites/a.conf": "server {\n" + plain + "    server_name a.example;\n    location / { return 200 hello; }\n}\n"})
			original := n.read("sites/a.conf")
			l := newLineage(t, "a.example")
			i := n.installer(n.config(), l)
			mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
			installed := n.read("sites/a.conf")
			for _, listen := range tt.listens {
				address, params, _ := strings.Cut(strings.Replace(listen, "{port}", strconv.Itoa(n.tls), 1), " ")
				want := strings.TrimSpace("listen "+address+" ssl "+params) + "; # acmed: test\n"
				if strings.Count(installed, want) != 1 {
					t.Errorf("no %q in:\n%s", want, installed)
				}
			}
			b := installertest.Bundle(t, "a.example") // a renewal
			mustInstall(t, i, l, b)
			if got := n.read("sites/a.conf"); got != installed {
				t.Errorf("the renewal made it:\n%s", got)
			}
			for _, host := range tt.served {
				e := endpoint.Endpoint{Addr: net.JoinHostPort(host, strconv.Itoa(n.tls)), ServerName: "a.example"}
				if err := endpoint.Verify(t.Context(), []endpoint.Endpoint{e}, b, 0); err != nil {
					t.Error(err)
				}
			}
			if tt.closed != "" {
				if conn, err := net.Dial("tcp", net.JoinHostPort(tt.closed, strconv.Itoa(n.tls))); err == nil {
					conn.Close()
					t.Errorf("there is a listener on %s too", tt.closed)
				}
			}
			if err := i.Uninstall(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := n.read("sites/a.conf"); got != original {
				t.Errorf("after Uninstall:\n%s", got)
			}
		})
	}
}

// TestIPv6PortTaken checks that a certificate that is served on IPv4 alone is not taken for served.
func TestIPv6PortTaken(t *testing.T) {
	t.Parallel()
	if !hasIPv6() {
		t.Skip("this machine has no IPv6")
	}
	n := start(t, map[string]string{
		"sites/a.conf": "server {\n    listen 127.0.0.1:{plain};\n    listen [::1]:{plain};\n    server_name a.example;\n}\n",
	})
	other, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(n.tls)))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for conn, err := other.Accept(); err == nil; conn, err = other.Accept() {
			conn.Close()
		}
	}()
	before := n.read("sites/a.conf")
	l := newLineage(t, "a.example")
	i := n.installer(n.config(), l)
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	err = i.Install(t.Context(), b)
	if addr := net.JoinHostPort("::1", strconv.Itoa(n.tls)); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v, want %s", err, addr)
	}
	if got := n.read("sites/a.conf"); got != before {
		t.Errorf("not rolled back:\n%s", got)
	}
	other.Close()
	mustInstall(t, i, l, b)
}
