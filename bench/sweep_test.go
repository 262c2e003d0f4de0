package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/acmetest/fleet"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// The targets are a sweep below a second and 100 MiB. The figures are printed for that; on a slow or busy machine only
// three times as much is a failure.
const (
	slowestSweep = 3 * time.Second
	mostMiB      = 300
	mostAtRest   = 300 * time.Millisecond // of processor time within two seconds
)

// many is a state directory with certificates that are all in order, and a configuration for them.
type many struct {
	dir, state string
	specs      []certs.Spec
}

// newMany makes it.
func newMany(b *testing.B, count int) *many {
	b.Helper()
	m := &many{dir: b.TempDir(), specs: make([]certs.Spec, count)}
	m.state = filepath.Join(m.dir, "state")
	if err := os.Mkdir(m.state, 0o750); err != nil {
		b.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "state_dir: %s\nsocket: %s/acmed.sock\nissuers:\n  - { name: ca, directory: \"https://127.0.0.1:1/dir\", private: true }\n"+
		"defaults: { issuers: [ca] }\ncertificates:\n", m.state, m.dir)
	for i := range count {
		id, _, err := certs.ParseIdentifier(fleet.Host(i))
		if err != nil {
			b.Fatal(err)
		}
		m.specs[i] = certs.Spec{
			Name: fleet.Name(i), Identifiers: []certs.Identifier{id}, KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"ca"},
			Targets: []string{install(i).ID()},
		}
		fmt.Fprintf(&text, "  - {name: %s, names: [%s], install: [{file: {dir: %s}}]}\n", fleet.Name(i), fleet.Host(i), install(i).File.Dir)
	}
	if err := fleet.Fill(m.state, count, "ca", func(i int) []string { return m.specs[i].Targets }); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "acmed.yaml"), []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return m
}

// install is the target of the i-th certificate. Nothing is due, so nothing touches its directory.
func install(i int) *config.Install {
	return &config.Install{File: &file.Config{Dir: fmt.Sprintf("/srv/c%d", i)}}
}

// BenchmarkSweep is 10,000 certificates with a target each, of which none is due: the sweep of a daemon that has seen them
// before, a whole process from its start to its end with its peak memory, and a daemon at rest, in which a wake-up for
// each certificate would be seen.
func BenchmarkSweep(b *testing.B) {
	const count = 10_000
	m := newMany(b, count)
	b.Run("warm", func(b *testing.B) {
		s, err := store.Open(m.state)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		engine := renewal.NewEngine(renewal.Config{Store: s, Log: zap.NewNop()})
		set := &renewal.Set{Certificates: map[string]renewal.Certificate{}, Concurrency: 8, Keep: 5}
		for i, spec := range m.specs {
			target, err := file.New(*install(i).File, installers.Target{Certificate: spec.Name, Names: spec.Identifiers})
			if err != nil {
				b.Fatal(err)
			}
			set.Certificates[spec.Name] = renewal.Certificate{Spec: spec, Targets: map[string]installers.Installer{spec.Targets[0]: target}}
		}
		engine.Swap(set)
		sweep(b, engine)
		for b.Loop() {
			sweep(b, engine)
		}
		if took := b.Elapsed() / time.Duration(b.N); took > slowestSweep {
			b.Errorf("a sweep took %s", took)
		}
		engine.Close(b.Context())
	})
	acmed := filepath.Join(m.dir, "acmed")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", acmed, "../cmd/acmed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	b.Run("process", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(acmed, "-c", filepath.Join(m.dir, "acmed.yaml"), "run", "--once")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if ok {
				reportMiB(b, float64(usage.Maxrss)/1024, "peak-MiB")
				b.ReportMetric(float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Milliseconds()), "cpu-ms")
			}
		}
	})
	b.Run("daemon", m.daemon(acmed))
}

// daemon starts the daemon and waits until it is at rest: from then on, it must do nothing for a certificate that is not
// due. An operation is the way from the start to the socket's first answer.
func (m *many) daemon(acmed string) func(*testing.B) {
	return func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(acmed, "-c", filepath.Join(m.dir, "acmed.yaml"), "run")
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			for {
				conn, err := net.Dial("unix", filepath.Join(m.dir, "acmed.sock"))
				if err == nil {
					_ = conn.Close()
					break
				}
				time.Sleep(time.Millisecond)
			}
			b.StopTimer()
			m.rest(b, cmd)
			b.StartTimer()
		}
	}
}

// rest waits for the end of the first sweep, looks at what the daemon does for a while after it, and ends it.
func (m *many) rest(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	const look = 2 * time.Second
	begun, spent := time.Now(), cpu(b, cmd.Process.Pid)
	busy := begun
	for time.Since(busy) < time.Second {
		time.Sleep(50 * time.Millisecond)
		if now := cpu(b, cmd.Process.Pid); now != spent {
			busy, spent = time.Now(), now
		}
	}
	b.ReportMetric(float64(busy.Sub(begun).Milliseconds()), "sweep-ms")
	time.Sleep(look)
	atRest := cpu(b, cmd.Process.Pid) - spent
	b.ReportMetric(float64(atRest.Milliseconds()), "cpu-ms-in-2s-at-rest")
	if atRest > mostAtRest {
		b.Errorf("it worked for %s while nothing was due", atRest)
	}
	reportMiB(b, resident(b, cmd.Process.Pid), "MiB-at-rest")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

func reportMiB(b *testing.B, mib float64, unit string) {
	b.Helper()
	b.ReportMetric(mib, unit)
	if mib > mostMiB {
		b.Errorf("%.0f %s, want at most %d", mib, unit, mostMiB)
	}
}

// cpu is the processor time that a process used, in ticks of 10 ms (proc(5)).
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text))
	user, err1 := strconv.Atoi(fields[13])
	system, err2 := strconv.Atoi(fields[14])
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// sweep runs every certificate through the engine, as the scheduler does.
func sweep(b *testing.B, engine *renewal.Engine) {
	b.Helper()
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for _, name := range engine.Names() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if r := engine.Run(b.Context(), name, renewal.Options{}, nil); r.Err != nil || r.Reason != plan.ReasonNothing {
				b.Errorf("%s: %s %v", name, r.Reason, r.Err)
			}
		})
	}
	wg.Wait()
}

// resident is the memory that a process has now, in MiB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
