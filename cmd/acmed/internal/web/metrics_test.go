package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// busy is a server whose Recorder has counted one of everything.
func busy() *Server {
	list := few()
	list = append(list, renewal.Status{Name: "new", Health: renewal.HealthMissing, Targets: []renewal.TargetStatus{{ID: `odd "id"\`}}})
	s := server(&fake{list: list, reload: "broken", fleet: &Fleet{Name: "web", Up: true, Contact: noon, Issue: 2, Install: 1, Lag: 90 * time.Second, Behind: 1}})
	s.Recorder.Job(renewal.Result{Obtained: true, Reason: plan.ReasonARI})
	s.Recorder.Job(renewal.Result{Reason: plan.ReasonRenewBefore, Err: &certs.UnavailableError{Err: errors.New("down")}})
	s.Recorder.Request("letsencrypt", "new-order", 300*time.Millisecond, nil)
	s.Recorder.Request("letsencrypt", "new-order", time.Hour, errors.New("late"))
	for _, o := range []notify.Outcome{notify.Sent, notify.Failure, notify.Sent} {
		s.Recorder.Notification("hook", o)
	}
	return s
}

func TestMetrics(t *testing.T) {
	code, text := get(t, busy(), "/metrics")
	if code != http.StatusOK {
		t.Fatal(code)
	}
	has(t, text,
		"\nacmed_config_last_reload_success 0\n", "\nacmed_certificates{state=\"failing\"} 1\n", "\nacmed_certificate_not_after_seconds{certificate=\"www\"} 1801310400\n",
		"\nacmed_certificate_state{certificate=\"api\",state=\"not-installed\"} 1\n", "\nacmed_certificate_ari_start_timestamp_seconds{certificate=\"www\"} 1798459200\n",
		"\nacmed_target_serving{certificate=\"api\",target=\"nginx\"} 0\n", `acmed_target_serving{certificate="new",target="odd \"id\"\\"} 0`,
		"\nacmed_certificate_failures{certificate=\"mail\"} 4\n", "\nacmed_renewals_total{reason=\"ari\"} 1\n", "\nacmed_renewals_total{reason=\"renew-before\"} 0\n",
		"\nacmed_failure_codes_total{code=\"ca-unreachable\"} 1\n", "\nacmed_failure_codes_total{code=\"disk-full\"} 0\n",
		"\nacmed_failures_total{reason=\"ca-unavailable\"} 1\n", "\nacmed_failures_total{reason=\"validation\"} 0\n",
		`acmed_ca_request_duration_seconds_bucket{issuer="letsencrypt",endpoint="new-order",le="0.25"} 0`,
		`acmed_ca_request_duration_seconds_bucket{issuer="letsencrypt",endpoint="new-order",le="0.5"} 1`,
		`acmed_ca_request_duration_seconds_bucket{issuer="letsencrypt",endpoint="new-order",le="+Inf"} 2`,
		`acmed_ca_request_duration_seconds_sum{issuer="letsencrypt",endpoint="new-order"} 3600.3`,
		`acmed_ca_request_failures_total{issuer="letsencrypt",endpoint="new-order"} 1`,
		"\nacmed_notifications_total{notifier=\"hook\",outcome=\"sent\"} 2\n", "\nacmed_notifications_total{notifier=\"hook\",outcome=\"failed\"} 1\n",
		"\nprocess_resident_memory_bytes ",
		"\nacmed_fleet_store_up{fleet=\"web\"} 1\n", "\nacmed_fleet_last_contact_seconds{fleet=\"web\"} 1795262400\n",
		"\nacmed_fleet_head_lag_seconds{fleet=\"web\"} 90\n", "\nacmed_fleet_nodes{fleet=\"web\",role=\"issue\"} 2\n", "\nacmed_fleet_nodes{fleet=\"web\",role=\"install\"} 1\n",
	)
	if _, alone := get(t, server(&fake{list: few()}), "/metrics"); strings.Contains(alone, "acmed_fleet_") {
		t.Error("a machine in no fleet has metrics of one")
	}
	if strings.Contains(text, `acmed_certificate_not_after_seconds{certificate="new"}`) {
		t.Error("a certificate that does not exist has an end")
	}
}

func TestFailure(t *testing.T) {
	for want, r := range map[string]renewal.Result{
		"rate-limited": {Err: fmt.Errorf("x: %w", errors.Join(&certs.ValidationError{}, &certs.RateLimitError{}))},
		"validation":   {Err: &certs.ValidationError{}},
		"preflight":    {Err: &certs.PreflightError{}},
		"vetting":      {Err: &certs.VetError{Err: io.EOF}},
		"refused":      {Err: &certs.PermanentError{Err: io.EOF}},
		"budget":       {Err: &certs.BudgetError{}},
		"install":      {Err: io.EOF, Obtained: true, Reason: plan.ReasonRenewBefore},
		"hook":         {Err: io.EOF, Reason: plan.ReasonHook},
		"other":        {Err: io.EOF, Reason: plan.ReasonNeverIssued},
	} {
		if got := failure(&r); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	var r Recorder
	r.Job(renewal.Result{Err: renewal.ErrClosed})
	if len(r.read().failures) > 0 {
		t.Error("a stop counts as a failure")
	}
}

// promtool runs the tool of Prometheus over a text.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed; make test installs it")
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("no help")) {
		t.Errorf("promtool %s: %v\n%s", args, err, out)
	}
}

func TestPromtool(t *testing.T) {
	_, text := get(t, busy(), "/metrics")
	promtool(t, text, "check", "metrics")
	promtool(t, "", "check", "rules", "--lint=all", "--lint-fatal", "../../../../deploy/prometheus/alerts.yaml")
	promtool(t, "", "test", "rules", "testdata/alerts.test.yaml")
}

// TestDocumented: the guide has every metric of acmed.
func TestDocumented(t *testing.T) {
	guide, err := os.ReadFile("../../../../docs/guides/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text := get(t, busy(), "/metrics")
	for _, family := range regexp.MustCompile(`# TYPE (acmed_\w+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(guide), "`"+family[1]+"`") {
			t.Errorf("%s is missing", family[1])
		}
	}
	for _, reason := range failures() {
		if !strings.Contains(string(guide), "`"+reason+"`") {
			t.Errorf("the reason %s is missing", reason)
		}
	}
}

// TestShippedQueries: alerts, dashboard and guide use no metric that does not exist.
func TestShippedQueries(t *testing.T) {
	_, text := get(t, busy(), "/metrics")
	metric := regexp.MustCompile(`\b(?:acmed|process|go)_[a-z_]+[a-z]\b`)
	for _, file := range []string{"../../../../deploy/prometheus/alerts.yaml", "../../../../deploy/grafana/acmed.json", "../../../../docs/guides/monitoring.md"} {
		shipped, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(file) == ".json" && !json.Valid(shipped) {
			t.Errorf("%s is not JSON", file)
		}
		names := metric.FindAllString(string(shipped), -1)
		if len(names) < 8 {
			t.Errorf("%s uses only %v", file, names)
		}
		for _, name := range names {
			if !strings.Contains(text, "# TYPE "+name+" ") && !strings.Contains(text, "\n"+name+" ") && !strings.Contains(text, "\n"+name+"{") {
				t.Errorf("%s uses %s, which does not exist", file, name)
			}
		}
	}
}

// TestSlowReaders: clients that do not read, and clients that do not ask, hold up neither others nor those who count.
func TestSlowReaders(t *testing.T) {
	s := server(&fake{list: many(10_000)})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	var dialer net.Dialer
	for i := range maxConns - 1 {
		conn, err := dialer.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		}
	}
	client := &http.Client{Timeout: 2 * time.Minute}
	for _, path := range []string{"/livez", "/", "/metrics"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 || resp.StatusCode != http.StatusOK {
			t.Error(path, resp.Status, n, err)
		}
		_ = resp.Body.Close()
	}
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		s.Recorder.Job(renewal.Result{Obtained: true})
		s.Recorder.Request("ca", "directory", time.Second, nil)
	}()
	select {
	case <-counted:
	case <-time.After(time.Minute):
		t.Fatal("counting waits for a client")
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(now); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
