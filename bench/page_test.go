package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// slowestPage is three times the second that a visitor waits for the status page without wondering.
const slowestPage = 3 * time.Second

// BenchmarkPage is the status page of a daemon with 10,000 certificates. An operation looks at all of them and renders the
// first page; the next visitor gets what is known by then.
func BenchmarkPage(b *testing.B) {
	m := newMany(b, 10_000)
	address := fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(b))
	conf := filepath.Join(m.dir, "acmed.yaml")
	text, err := os.ReadFile(conf)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(conf, fmt.Appendf(text, "web: { listen: %q }\n", address), 0o600); err != nil {
		b.Fatal(err)
	}
	acmed := filepath.Join(m.dir, "acmed")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", acmed, "../cmd/acmed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(acmed, "-c", conf, "run")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	url := "http://" + address + "/"
	await.NoError(b, func() error {
		_, err := page(url)
		return err
	})
	b.ResetTimer()
	var again time.Duration
	for b.Loop() {
		b.StopTimer()
		forgotten(b, cmd.Process.Pid)
		b.StartTimer()
		size, err := page(url)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(size)/1024, "KiB")
		begun := time.Now()
		if _, err := page(url); err != nil {
			b.Fatal(err)
		}
		again += time.Since(begun)
		b.StartTimer()
	}
	b.ReportMetric(float64(again.Microseconds())/1000/float64(b.N), "next-visitor-ms")
	if took := b.Elapsed() / time.Duration(b.N); took > slowestPage {
		b.Errorf("a page took %s", took)
	}
}

// forgotten waits until the daemon has nothing to do, and looks at the certificates anew for the next visitor.
func forgotten(b *testing.B, pid int) {
	b.Helper()
	const kept = 10 * time.Second // longer than what a look is used for
	spent := cpu(b, pid)
	for quiet := time.Now(); time.Since(quiet) < kept; time.Sleep(100 * time.Millisecond) {
		if now := cpu(b, pid); now != spent {
			quiet, spent = time.Now(), now
		}
	}
}

// page fetches the page and returns its size. One without rows is an error.
func page(url string) (int, error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if rows := bytes.Count(body, []byte(`href="/certificate/c`)); resp.StatusCode != http.StatusOK || rows < 100 || !bytes.Contains(body, []byte("10,000")) {
		return 0, fmt.Errorf("%s with %d rows", resp.Status, rows)
	}
	return len(body), nil
}
