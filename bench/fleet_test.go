package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
	"github.com/acmed/acmed/pkg/store"
)

// BenchmarkFleet is the daemon of a node in a fleet with as many heads as it has certificates, of which none is due, beside
// that of a single machine with the same certificates: the time until it has read all heads, the processor time until it is at
// rest, and its memory then. ACMED_HEADS=N takes N certificates in place of 10,000.
func BenchmarkFleet(b *testing.B) {
	count := 10_000
	if text := os.Getenv("ACMED_HEADS"); text != "" {
		if _, err := fmt.Sscan(text, &count); err != nil {
			b.Fatal(err)
		}
	}
	m := newMany(b, count)
	acmed := filepath.Join(m.dir, "acmed")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", acmed, "../cmd/acmed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	b.Run(fmt.Sprintf("single/%d", count), m.daemon(acmed))
	m.share(b, acmed)
	b.Run(fmt.Sprintf("fleet/%d", count), func(b *testing.B) {
		for b.Loop() {
			m.join(b, acmed)
		}
	})
}

// share makes the machine a node of a fleet that has all of its certificates as version 1.
func (m *many) share(b *testing.B, acmed string) {
	b.Helper()
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", acmetest.FreePort(b)), fmt.Sprintf("http://127.0.0.1:%d", acmetest.FreePort(b))
	server := exec.Command("etcd", "--data-dir", filepath.Join(m.dir, "etcd"), "--name", "one", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer)
	server.Stdout, server.Stderr = io.Discard, io.Discard
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	path := filepath.Join(m.dir, "acmed.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	section := fmt.Sprintf("fleet: { name: web, node: one, seal_files: [%s/seal], etcd: { endpoints: ['%s'] } }\n", m.dir, client)
	if err := os.WriteFile(path, append([]byte(section), text...), 0o600); err != nil {
		b.Fatal(err)
	}
	engine, err := etcd.Open(etcd.Config{Endpoints: []string{client}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = engine.Close() })
	for b.Context().Err() == nil {
		if _, err := engine.Read(b.Context(), fleet.Range{From: "/x"}); err == nil {
			break
		}
	}
	if out, err := exec.Command(acmed, "-c", path, "fleet", "init").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	conf, _, err := config.Load(path)
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(m.state)
	if err != nil {
		b.Fatal(err)
	}
	var group errgroup.Group
	group.SetLimit(32)
	for i := range conf.Certificates {
		spec := conf.Spec(&conf.Certificates[i])
		group.Go(func() error { return shareOne(b.Context(), s, engine, &spec) })
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// shareOne writes the head of a certificate, and that the node knows it.
func shareOne(ctx context.Context, s *store.Store, engine *etcd.Engine, spec *certs.Spec) error {
	have, err := s.Load(spec.Name)
	if err != nil {
		return err
	}
	var h certs.Head
	h.SetVersion(1, have.Current, spec.Hash())
	h.Committed, h.Node, h.By, h.Served, h.ServedAt = time.Now().UTC(), "one", "0123456789abcdef01234567", "one", time.Now().UTC()
	h.ARICheckAt = have.State.ARI.CheckAt
	text, err := h.Encode()
	if err != nil {
		return err
	}
	if _, err := engine.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: fmt.Sprintf("/acmed/web/v1/head/%s/%s", shardOf(spec.Name), spec.Name), Value: text}}}); err != nil {
		return err
	}
	have.State.Fleet = &store.Fleet{N: 1, Version: have.Version, Spec: spec.Hash(), Answers: spec.Hash(), By: h.By, Rank: 0, Nodes: 1}
	return s.SaveState(spec.Name, &have.State)
}

// shardOf is the first byte of the hash of a name.
func shardOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:1])
}

// join starts the daemon and waits until it has read all heads, and then until it is at rest.
func (m *many) join(b *testing.B, acmed string) {
	b.Helper()
	cmd := exec.Command(acmed, "-c", filepath.Join(m.dir, "acmed.yaml"), "run")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for b.Context().Err() == nil {
		conn, err := net.Dial("unix", filepath.Join(m.dir, "acmed.sock"))
		if err == nil {
			_ = conn.Close()
			out, _ := exec.Command(acmed, "-c", filepath.Join(m.dir, "acmed.yaml"), "fleet", "status").Output()
			if strings.Contains(string(out), "store up") {
				break
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.StopTimer()
	spent := time.Duration(0)
	for busy := time.Now(); time.Since(busy) < 3*time.Second; time.Sleep(50 * time.Millisecond) {
		if now := cpu(b, cmd.Process.Pid); now-spent > 20*time.Millisecond {
			busy, spent = time.Now(), now
		}
	}
	b.ReportMetric(float64(spent.Milliseconds()), "cpu-ms-to-rest")
	reportMiB(b, resident(b, cmd.Process.Pid), "MiB-at-rest")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}
