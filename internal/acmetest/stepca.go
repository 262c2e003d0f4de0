package acmetest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// stepVersion is the release of step-ca in use. It is built outside of go.mod, of which it would be most.
const stepVersion = "v0.30.2"

// StepCA is smallstep's CA as a process: a second implementation of ACME. It validates inside of the challenge
// request, has no renewal information, no profiles and no alternate chains, and puts the first name in the subject.
type StepCA struct {
	// Server is the provisioner whose certificates live for a day. Its roots also verify issued certificates.
	Server
	// Short is the directory of the provisioner whose certificates live for five minutes.
	Short string
	// DNS is the name server the CA asks.
	DNS *DNS

	child *child
}

// StartStepCA runs step-ca until the test ends. Of the options, those for ports apply.
func StartStepCA(t testing.TB, opts ...Option) *StepCA {
	t.Helper()
	s, err := NewStepCA(t.Context(), t.TempDir(), opts...)
	if err != nil {
		t.Fatalf("start step-ca: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop step-ca: %v", err)
		}
	})
	return s
}

// InstallStepCA builds step-ca when it is missing, which takes minutes and a network, and returns its directory.
func InstallStepCA(ctx context.Context) (string, error) {
	return install(ctx, "step-ca-"+stepVersion, []string{"CGO_ENABLED=0"}, "github.com/smallstep/certificates/cmd/step-ca@"+stepVersion)
}

// NewStepCA runs step-ca with its files in dir until Close or the end of this process. Building it, when it is
// missing, takes minutes.
func NewStepCA(ctx context.Context, dir string, opts ...Option) (*StepCA, error) {
	o := defaults()
	for _, set := range opts {
		set(o)
	}
	bin, err := InstallStepCA(ctx)
	if err != nil {
		return nil, err
	}
	s := &StepCA{Server: Server{HTTPPort: o.httpPort, TLSPort: o.tlsPort}}
	var port int
	for _, p := range []*int{&s.HTTPPort, &s.TLSPort, &port} {
		if *p != 0 {
			continue
		}
		if *p, err = Port(); err != nil {
			return nil, err
		}
	}
	s.Directory = fmt.Sprintf("https://127.0.0.1:%d/acme/day/directory", port)
	s.Short = fmt.Sprintf("https://127.0.0.1:%d/acme/short/directory", port)
	if err := s.writeFiles(dir, port); err != nil {
		return nil, err
	}
	if s.DNS, err = NewDNS(o.dnsListen); err != nil {
		return nil, err
	}
	s.child, err = startChild(dir, nil, filepath.Join(bin, "step-ca"), "ca.json", "--resolver", s.DNS.Addr,
		"--acme-http-port", strconv.Itoa(s.HTTPPort), "--acme-tls-port", strconv.Itoa(s.TLSPort), "--insecure")
	if err != nil {
		return nil, errors.Join(err, s.DNS.Close())
	}
	if err := s.child.ready(ctx, s.Server); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// writeFiles makes the root, the intermediate and the configuration.
func (s *StepCA) writeFiles(dir string, port int) error {
	root, err := newAuthority("Test step root")
	if err != nil {
		return err
	}
	intermediate, err := root.intermediate("Test step intermediate")
	if err != nil {
		return err
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AddCert(root.cert)
	s.RootPEM = encode(root.cert)
	key, err := keyPEM(intermediate.key)
	if err != nil {
		return err
	}
	provisioner := func(name string, life time.Duration) map[string]any {
		return map[string]any{"type": "ACME", "name": name, "forceCN": true, "claims": map[string]string{
			"minTLSCertDuration": "1m", "defaultTLSCertDuration": life.String(), "maxTLSCertDuration": life.String(),
		}}
	}
	config, err := json.Marshal(map[string]any{
		"root": "root.pem", "crt": "intermediate.pem", "key": "intermediate.key",
		"address": net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "dnsNames": []string{"127.0.0.1", "localhost"},
		"db": map[string]string{"type": "badgerv2", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": []any{
			provisioner("day", 24*time.Hour), provisioner("short", 5*time.Minute),
		}},
	})
	if err != nil {
		return fmt.Errorf("configuration of step-ca: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "ca.json"), config, 0o600),
		os.WriteFile(filepath.Join(dir, "root.pem"), s.RootPEM, 0o600),
		os.WriteFile(filepath.Join(dir, "intermediate.pem"), encode(intermediate.cert), 0o600),
		os.WriteFile(filepath.Join(dir, "intermediate.key"), key, 0o600))
}

// Close ends the CA and its name server.
func (s *StepCA) Close() error {
	s.child.stop()
	return s.DNS.Close()
}
