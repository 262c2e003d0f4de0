package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

// many is a state directory with certificates that are all in order, and a configuration for them.
type many struct {
	dir, state string
	specs      []certs.Spec
}

// newMany makes it. All certificates share a key, because making keys is not what is measured.
func newMany(b *testing.B, count int) *many {
	b.Helper()
	m := &many{dir: b.TempDir()}
	m.state = filepath.Join(m.dir, "state")
	if err := os.Mkdir(m.state, 0o750); err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(m.state)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	var config strings.Builder
	fmt.Fprintf(&config, "state_dir: %s\nsocket: %s/acmed.sock\nissuers:\n  - { name: ca, directory: \"https://127.0.0.1:1/dir\", private: true }\n"+
		"defaults: { issuers: [ca] }\ncertificates:\n", m.state, m.dir)
	for i := range count {
		m.add(b, s, key, i)
		fmt.Fprintf(&config, "  - { name: c%d, names: [c%d.example.com] }\n", i, i)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "acmed.yaml"), []byte(config.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return m
}

func (m *many) add(b *testing.B, s *store.Store, key *ecdsa.PrivateKey, i int) {
	b.Helper()
	now, name := time.Now(), fmt.Sprintf("c%d", i)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i + 1)), DNSNames: []string{name + ".example.com"}, NotBefore: now, NotAfter: now.AddDate(0, 0, 90),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	pem, err := certs.EncodeKey(key)
	if err != nil {
		b.Fatal(err)
	}
	bundle, err := certs.NewBundle(certs.EncodeCert(leaf), pem)
	if err != nil {
		b.Fatal(err)
	}
	bundle.Issuer = "ca"
	version, err := s.AddVersion(name, bundle, now)
	if err == nil {
		err = s.Activate(name, version)
	}
	if err == nil {
		err = s.SaveState(name, &store.State{ARI: store.ARI{For: certs.Fingerprint(leaf), CheckAt: now.Add(24 * time.Hour)}})
	}
	if err != nil {
		b.Fatal(err)
	}
	id, _, err := certs.ParseIdentifier(name + ".example.com")
	if err != nil {
		b.Fatal(err)
	}
	m.specs = append(m.specs, certs.Spec{
		Name: name, Identifiers: []certs.Identifier{id}, KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"ca"},
	})
}

// BenchmarkSweep is 10,000 certificates of which none is due: the sweep of a daemon that has seen them before, and a whole
// process from its start to its end with its peak memory.
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
		for _, spec := range m.specs {
			set.Certificates[spec.Name] = renewal.Certificate{Spec: spec}
		}
		engine.Swap(set)
		sweep(b, engine)
		for b.Loop() {
			sweep(b, engine)
		}
		engine.Close(b.Context())
	})
	b.Run("process", func(b *testing.B) {
		acmed := filepath.Join(m.dir, "acmed")
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", acmed, "../cmd/acmed")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		for b.Loop() {
			cmd := exec.Command(acmed, "-c", filepath.Join(m.dir, "acmed.yaml"), "run", "--once")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if ok {
				b.ReportMetric(float64(usage.Maxrss)/1024, "peak-MiB")
			}
		}
	})
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
			if r := engine.Run(b.Context(), name, renewal.Options{}, nil); r.Err != nil || r.Reason != renewal.ReasonNothing {
				b.Errorf("%s: %s %v", name, r.Reason, r.Err)
			}
		})
	}
	wg.Wait()
}
