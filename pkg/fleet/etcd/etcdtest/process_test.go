package etcdtest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

// process is Debian's etcd as one process.
type process struct {
	dir, client, peer string
	cmd               *exec.Cmd
}

func newProcess(t *testing.T) *process {
	t.Helper()
	client, peer := local(t, "http"), local(t, "http")
	p := &process{dir: filepath.Join(t.TempDir(), "data"), client: client.String(), peer: peer.String()}
	p.start(t)
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command("etcd", "--name", "one", "--data-dir", p.dir, "--listen-client-urls", p.client, "--advertise-client-urls", p.client,
		"--listen-peer-urls", p.peer, "--initial-advertise-peer-urls", p.peer, "--initial-cluster", "one="+p.peer)
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, io.Discard
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := p.open(t)
	eventually(t, func() bool { _, err := e.Read(t.Context(), fleet.Range{From: "/x"}); return err == nil })
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

func (p *process) open(t *testing.T) *etcd.Engine {
	t.Helper()
	e, err := etcd.Open(etcd.Config{Endpoints: []string{p.client}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func (p *process) etcdctl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("etcdctl", append([]string{"--endpoints", p.client}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("etcdctl %q: %v\n%s", args, err, out)
	}
}

// TestSuiteDebian runs the suite against the oldest etcd that is supported.
func TestSuiteDebian(t *testing.T) {
	p := newProcess(t)
	raw, err := clientv3.New(clientv3.Config{Endpoints: []string{p.client}})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	fleettest.Run(t, func(t *testing.T) fleettest.Store {
		empty(t, p.open(t))
		return fleettest.Store{
			Client: func() fleet.Engine { return p.open(t) },
			Compact: func(t *testing.T, upTo int64) {
				if _, err := raw.Compact(t.Context(), upTo, clientv3.WithCompactPhysical()); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// TestRestored: the cluster goes back to a backup below running nodes. They notice it, and a node that has a newer version
// publishes it again under its number.
func TestRestored(t *testing.T) {
	p := newProcess(t)
	l := runNode(t, p.open(t), "a")
	commit := func(want int64) (certs.Head, *certs.Bundle) {
		got := claim(t, l, "www")
		b := bundle(t)
		h := got.Head()
		h.SetVersion(want, b, "spec")
		if err := got.Commit(t.Context(), b, h); err != nil {
			t.Fatal(err)
		}
		return h, b
	}
	commit(1)
	backup := filepath.Join(t.TempDir(), "backup.db")
	p.etcdctl(t, "snapshot", "save", backup)
	commit(2)
	newest, b := commit(3)
	p.stop(t)
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	p.etcdctl(t, "snapshot", "restore", backup, "--name", "one", "--data-dir", p.dir,
		"--initial-advertise-peer-urls", p.peer, "--initial-cluster", "one="+p.peer)
	p.start(t)
	eventually(t, func() bool { h, _ := l.Head("www"); return h.N == 1 && l.Health().Up })
	got := claim(t, l, "www")
	h := got.Head()
	h.SetVersion(newest.N, b, "spec")
	if err := got.Commit(t.Context(), b, h); err != nil {
		t.Fatal(err)
	}
	other := runNode(t, p.open(t), "b")
	h, _ = other.Head("www")
	fetched, err := other.Fetch(t.Context(), "www", h)
	if err != nil || h.N != 3 || fetched.Fingerprint() != newest.Fingerprint {
		t.Fatalf("%+v, %v", h, err)
	}
}
