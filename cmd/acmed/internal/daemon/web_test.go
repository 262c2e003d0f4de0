package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/store"
)

// machine is a daemon with one certificate and a status page.
type machine struct {
	*Daemon
	t   *testing.T
	ca  *acmetest.CA
	dir string
	log lines
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func newMachine(t *testing.T, page string) *machine {
	t.Helper()
	m := prepare(t)
	m.configure("web: { listen: \"" + page + "\" }")
	m.start()
	return m
}

// prepare makes a machine whose daemon does not run yet.
func prepare(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, ca: acmetest.Start(t), dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(m.dir, "ca.pem"), m.ca.RootPEM, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(m.dir, "state"), 0o750); err != nil {
		t.Fatal(err)
	}
	return m
}

// start runs the daemon until the end of the test.
func (m *machine) start() {
	t := m.t
	t.Helper()
	var err error
	if m.Daemon, err = Open(Options{Config: filepath.Join(m.dir, "acmed.yaml"), Version: "v0", LogTo: &m.log}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		m.Close()
	})
}

func (m *machine) configure(more string) {
	m.t.Helper()
	text := fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
preflight: "off"
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:%[3]d" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
certificates:
  - { name: www, names: [www.example.com] }
%[4]s
`, m.dir, m.ca.Directory, m.ca.HTTPPort, more)
	if err := os.WriteFile(filepath.Join(m.dir, "acmed.yaml"), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// fetch returns the body of a page, "" when there is none.
func (m *machine) fetch(address string) string {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://"+address, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Error(err)
	}
	return string(body)
}

// until fetches a page until it has all the texts.
func (m *machine) until(address string, texts ...string) {
	m.t.Helper()
	await.NoError(m.t, func() error {
		page := m.fetch(address)
		for _, text := range texts {
			if !strings.Contains(page, text) {
				return fmt.Errorf("%s never had all of %q, last:\n%s", address, texts, page)
			}
		}
		return nil
	})
}

func freeAddress(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t)) }

// TestStatusPage: a daemon shows what it did; a reload moves the page, and a broken one is seen in the metrics.
func TestStatusPage(t *testing.T) {
	address := freeAddress(t)
	m := newMachine(t, address)
	m.until(address+"/healthz", "ok\n")
	m.until(address+"/", "The certificate is fine")
	m.until(address+"/certificate/www", "www.example.com</td><td>standalone", "Pebble Intermediate CA")
	m.until(address+"/metrics",
		"\nacmed_config_last_reload_success 1\n", `acmed_certificate_state{certificate="www",state="ok"} 1`, `acmed_renewals_total{reason="never-issued"} 1`,
		`acmed_ca_request_duration_seconds_count{issuer="test-ca",endpoint="new-order"} 1`, `acmed_ca_request_failures_total{issuer="test-ca",endpoint="new-order"} 0`,
		`acmed_build_info{version="v0"`, "\nacmed_scheduler_healthy 1\n",
	)

	m.configure("emial: x")
	if m.Reload(t.Context()) == nil {
		t.Fatal("a broken configuration was loaded")
	}
	m.until(address+"/metrics", "\nacmed_config_last_reload_success 0\n")

	other := freeAddress(t)
	m.configure("web: { listen: \"" + other + "\" }")
	if err := m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.until(other+"/metrics", "\nacmed_config_last_reload_success 1\n")
	if m.fetch(address+"/healthz") != "" {
		t.Error("the page is still at its old address")
	}

	m.configure("web: { listen: \"" + m.taken() + "\" }")
	if err := m.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "web.listen") {
		t.Error("an address that is taken is no error:", err)
	}
	m.until(other+"/healthz", "configuration-broken: ", "the configuration on disk is not in use\n")

	m.configure("")
	if err := m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.fetch(other+"/healthz") != "" {
		t.Error("the page was not switched off")
	}
}

// taken is an address that somebody else listens on.
func (m *machine) taken() string {
	m.t.Helper()
	l, err := new(net.ListenConfig).Listen(m.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// TestStatusPageOfAnotherRelease: a certificate whose state cannot be read is shown, with the reason, and so are the others.
func TestStatusPageOfAnotherRelease(t *testing.T) {
	address := freeAddress(t)
	m := prepare(t)
	m.configure("  - { name: b, names: [b.example.com] }\nweb: { listen: \"" + address + "\" }")
	m.start()
	m.until(address+"/", "2 certificates are fine")
	state := filepath.Join(filepath.Dir(filepath.Dir(store.PathsIn(filepath.Join(m.dir, "state"), "www").Cert)), "state.json")
	if err := os.WriteFile(state, []byte(`{"version": 99}`), 0o640); err != nil {
		t.Fatal(err)
	}
	m.until(address+"/", "needs attention", "format version 99")
	m.until(address+"/certificate/www", "format version 99")
	for _, other := range []func() error{
		func() error { return nil },
		func() error { return errors.Join(os.Remove(state), os.Mkdir(state, 0o750)) }, // set aside
	} {
		if err := other(); err != nil {
			t.Fatal(err)
		}
		list, err := m.Status(t.Context(), control.StatusRequest{})
		if err != nil || len(list.Certificates) != 2 {
			t.Fatalf("status: %v, %+v", err, list)
		}
		for _, s := range list.Certificates {
			if said := s.Error + strings.Join(s.Notes, "\n"); (s.Name == "www") != strings.Contains(said, "state.json") {
				t.Errorf("status of %s: %q", s.Name, said)
			}
		}
	}
}

// TestCADown: a CA that does not answer is one condition everywhere, for all certificates that wait for it, also after a
// restart, and it ends when the CA issues again.
func TestCADown(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	m := prepare(t)
	page := "  - { name: b, names: [b.example.com] }\n  - { name: c, names: [c.example.com] }\nweb: { listen: \"" + address + "\" }"
	m.configure(page)
	if err := m.ca.Stop(); err != nil {
		t.Fatal(err)
	}
	m.start()
	metric := `acmed_condition{code="ca-unreachable",issuer="test-ca"} `
	m.until(address+"/metrics", metric+"1", `acmed_condition{code="clock-wrong"} 0`)
	m.until(address+"/healthz", "ca-unreachable: ", "test-ca since ", "3 certificates wait, next attempt at ", "ca-unreachable: the CA is unavailable: www\n")
	m.until(address+"/livez", "ok\n")
	m.until(address+"/", "test-ca since ", "/errors/ca-unreachable")
	s, err := m.Status(t.Context(), control.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Conditions); n != 1 || s.Conditions[0].Issuer != "test-ca" || s.Conditions[0].Since.IsZero() || !s.Conditions[0].Next.After(time.Now()) {
		t.Errorf("conditions %+v", s.Conditions)
	}
	if err := m.ca.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Renew(t.Context(), control.RenewRequest{Names: []string{"www"}, Force: true}, func(control.Progress) {}); err != nil {
		t.Fatal(err)
	}
	m.until(address+"/metrics", `acmed_condition{code="ca-unreachable"} 0`) // the others wait for their own time, but the CA is not down
}
