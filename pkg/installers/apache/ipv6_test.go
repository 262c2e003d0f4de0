package apache

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestIPv6 has a site that is reached by IPv6, alone or beside IPv4: so is its twin, and both are proved by a handshake.
func TestIPv6(t *testing.T) {
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	must(t, probe.Close())
	anyOrder := cmpopts.SortSlices(strings.Compare) // Apache lists addresses in that of its hash table
	for _, tt := range []struct {
		name, address, twin string
		listens             []string // what is added
		served              []string // hosts that serve the certificate
	}{
		{"alone", "[::1]:{plain}", "[::1]:{tls}", []string{"[::1]"}, []string{"::1"}},
		{"beside IPv4", "127.0.0.1:{plain} [::1]:{plain}", "127.0.0.1:{tls} [::1]:{tls}", []string{"127.0.0.1", "[::1]"}, []string{"127.0.0.1", "::1"}},
		{"on all addresses", "*:{plain}", "*:{tls}", []string{"127.0.0.1", "[::1]"}, []string{"127.0.0.1", "::1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, map[string]string{
				"sites-available/a.conf": strings.Replace(site("a.example", "hello"), "*:{plain}", tt.address, 1),
				"ports.conf":             "Listen 127.0.0.1:{plain}\nListen [::1]:{plain}\n",
			})
			before := a.files()
			l := newLineage(t, "a.example")
			i, _ := a.install(a.config(), l, "a.example")
			after := a.files()
			src := newSource("twin", []byte(after["sites-available/test-acmed-ssl.conf"]), "")
			must(t, src.err)
			if diff := cmp.Diff(words(a.expand(tt.twin)), words(src.root[0].args), anyOrder); diff != "" {
				t.Errorf("the twin's addresses (-want +got):\n%s", diff)
			}
			var listens []string
			for line := range strings.Lines(after["conf-available/acmed.conf"]) {
				if address, ok := strings.CutPrefix(line, "Listen "); ok {
					listens = append(listens, strings.TrimSuffix(address, a.expand(":{tls} https\n")))
				}
			}
			if diff := cmp.Diff(tt.listens, listens, anyOrder); diff != "" {
				t.Errorf("Listen (-want +got):\n%s", diff)
			}
			_, b := a.install(a.config(), l, "a.example")
			a.wantFiles(after, "a renewal edited something")
			endpoints, err := i.Endpoints(t.Context())
			must(t, err)
			var proved []string
			for _, e := range endpoints {
				proved = append(proved, e.Addr)
			}
			var want []string
			for _, host := range tt.served {
				addr := net.JoinHostPort(host, strconv.Itoa(a.tls))
				want = append(want, addr)
				chain, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: addr, ServerName: "a.example"})
				must(t, err)
				if !chain[0].Equal(b.Leaf) {
					t.Errorf("%s serves %s", addr, chain[0].SerialNumber.Text(16))
				}
			}
			if diff := cmp.Diff(want, proved, anyOrder); diff != "" {
				t.Errorf("proved (-want +got):\n%s", diff)
			}
			must(t, i.Uninstall(t.Context()))
			a.wantFiles(before, "Uninstall left something")
		})
	}
}
