package dns01

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
	"github.com/google/go-cmp/cmp"
)

// TestOrder issues a certificate for a wildcard, its apex and a delegated name, with Pebble asking the same BIND.
func TestOrder(t *testing.T) {
	n := startNamed(t, freePort(t),
		zone{"example.com", updatable, oneServer + "_acme-challenge.www CNAME www.challenges.example.net.\n"},
		zone{"challenges.example.net", updatable, "@ NS ns1.example.com.\n"})
	ca := acmetest.Start(t)
	ca.DNS.Addr = n.addr
	if err := ca.Forget(); err != nil { // the new CA asks there
		t.Fatal(err)
	}
	s := solverFor(t, n.config(t), Options{})
	order(t, ca, s, "*.example.com", "example.com", "www.example.com")
	account := solverFor(t, n.config(t), Options{Account: true})
	order(t, ca, account, "*.acct.example.com", "acct.example.com")
	if left := entries(t, account.journal); len(left) != 0 {
		t.Errorf("journal of dns-account-01: %v", left)
	}
	for _, name := range []string{"_acme-challenge.example.com", "www.challenges.example.net"} {
		if left := n.txt(name); len(left) != 0 {
			t.Errorf("records %q are left at %s", left, name)
		}
	}
	if left := entries(t, s.journal); len(left) != 0 {
		t.Errorf("journal: %v", left)
	}
}

// order obtains a certificate for the names through the solver.
func order(t *testing.T, ca *acmetest.CA, s *Solver, names ...string) {
	t.Helper()
	state, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	i, err := issuer.New(issuer.Config{
		Name: "test", Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: state, UserAgent: "acmed/test",
		Solvers: map[string]challenges.Rung{"dns": {Name: "dns", Solver: s}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	req := certs.Request{Spec: certs.Spec{Name: "www", Solvers: []string{"dns"}, Profile: "default"}}
	for _, name := range names {
		req.Spec.Identifiers = append(req.Spec.Identifiers, identify(t, name))
	}
	b, err := i.Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(b.Leaf.DNSNames)); !slices.Equal(got, names) {
		t.Errorf("names %q, want %q", got, names)
	}
}

// recorder is a service that writes into the DNS which a CA asks: as httpreq wants it, and as an acme-dns server.
type recorder struct {
	*httptest.Server
	dns *acmetest.DNS

	mu     sync.Mutex
	values map[string][]string // by name
	served map[string]int      // requests by path
}

// The account at the acme-dns server.
const (
	accountName     = "d420c923.auth.example.net."
	accountUser     = "c36f50e8"
	accountPassword = "htB9mR9DYgcu9bX"
)

func newRecorder(t *testing.T, dns *acmetest.DNS) *recorder {
	r := &recorder{dns: dns, values: map[string][]string{}, served: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{verb}", func(w http.ResponseWriter, req *http.Request) {
		var body struct{ FQDN, Value, SubDomain, TXT string }
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.served[req.URL.Path]++
		switch verb := req.PathValue("verb"); {
		case verb == "present":
			r.set(body.FQDN, append(r.values[body.FQDN], body.Value))
		case verb == "cleanup":
			r.set(body.FQDN, slices.DeleteFunc(r.values[body.FQDN], func(v string) bool { return v == body.Value }))
		case req.Header.Get("X-Api-User") != accountUser || req.Header.Get("X-Api-Key") != accountPassword || !strings.HasPrefix(accountName, body.SubDomain+"."):
			w.WriteHeader(http.StatusUnauthorized)
		default: // it keeps the last two
			values := append(r.values[accountName], body.TXT)
			r.set(accountName, values[max(0, len(values)-2):])
		}
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) set(name string, values []string) {
	r.values[name] = values
	r.dns.DeleteDNSTXTRecord(name)
	for _, value := range values {
		r.dns.AddDNSTXTRecord(name, value)
	}
}

// hook is this test binary as the program of an exec section: it asks a recorder.
func hook(verb, fqdn, value string) error {
	body, err := json.Marshal(map[string]string{"fqdn": fqdn, "value": value})
	if err != nil {
		return err
	}
	resp, err := http.Post(os.Getenv("RECORDER")+"/"+verb, "application/json", bytes.NewReader(body))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}

// TestOrderThroughServices issues a certificate for a wildcard and its apex through each section that is no DNS protocol.
func TestOrderThroughServices(t *testing.T) {
	for name, tc := range map[string]struct {
		config func(r *recorder) Config
		target string // where the records go
		served map[string]int
		left   int
	}{
		"httpreq": {func(r *recorder) Config { return Config{HTTPReq: &HTTPReqConfig{Endpoint: r.URL}} },
			apexName, map[string]int{"/present": 2, "/cleanup": 2}, 0},
		"exec": {func(r *recorder) Config {
			env := secretFile(t, "TEST_HELPER=hook\nRECORDER="+r.URL+"\nGORACE=atexit_sleep_ms=0\n")
			return Config{Exec: &ExecConfig{Command: []string{os.Args[0]}, EnvFile: env}}
		}, apexName, map[string]int{"/present": 2, "/cleanup": 2}, 0},
		"acme-dns": {func(r *recorder) Config {
			r.dns.AddDNSCNAMERecord(apexName, accountName)
			file := secretFile(t, fmt.Sprintf(`{"example.com":{"fulldomain":%q,"subdomain":"d420c923","username":%q,"password":%q}}`,
				strings.TrimSuffix(accountName, "."), accountUser, accountPassword))
			return Config{ACMEDNS: &ACMEDNSConfig{Server: r.URL, AccountsFile: file}}
		}, accountName, map[string]int{"/update": 2}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			ca := acmetest.Start(t)
			r := newRecorder(t, ca.DNS)
			config := tc.config(r)
			_, port, _ := net.SplitHostPort(ca.DNS.Addr)
			config.Resolvers, config.AuthoritativePort = []string{ca.DNS.Addr}, number(t, port)
			s := solverFor(t, config, Options{})
			order(t, ca, s, "*.example.com", "example.com")
			r.Close()
			if diff := cmp.Diff(tc.served, r.served); diff != "" {
				t.Errorf("requests: %s", diff)
			}
			if left := r.values[tc.target]; len(left) != tc.left {
				t.Errorf("records %q are left at %s", left, tc.target)
			}
			if left := entries(t, s.journal); len(left) != 0 {
				t.Errorf("journal: %v", left)
			}
		})
	}
}
