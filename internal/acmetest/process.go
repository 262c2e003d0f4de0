package acmetest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// PebbleVersion is the release of Pebble that runs as a process; the embedded one follows go.mod.
const PebbleVersion = "v2.10.1"

// Process is Pebble and its name server as processes of their own, as other clients and whole daemons meet them.
type Process struct {
	Server
	*Management
	// DNSAddr is the name server the CA asks, host:port.
	DNSAddr string

	records  string // URL of the name server's own management
	children []*child
}

// StartProcess runs Pebble as a process until the test ends. Options for middleware and server faults do not apply.
func StartProcess(t testing.TB, opts ...Option) *Process {
	t.Helper()
	p, err := NewProcess(t.Context(), t.TempDir(), opts...)
	if err != nil {
		t.Fatalf("start Pebble: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

// NewProcess runs Pebble as a process with its files in dir until Close or the end of this process. The programs are
// built when they are missing.
func NewProcess(ctx context.Context, dir string, opts ...Option) (*Process, error) {
	o := defaults()
	for _, set := range opts {
		set(o)
	}
	bin, err := install(ctx, "pebble-"+PebbleVersion, nil,
		"github.com/letsencrypt/pebble/v2/cmd/pebble@"+PebbleVersion,
		"github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@"+PebbleVersion)
	if err != nil {
		return nil, err
	}
	p := &Process{Server: Server{HTTPPort: o.httpPort, TLSPort: o.tlsPort}}
	var directory, management, names, records int
	for _, port := range []*int{&p.HTTPPort, &p.TLSPort, &directory, &management, &names, &records} {
		if *port != 0 {
			continue
		}
		if *port, err = Port(); err != nil {
			return nil, err
		}
	}
	p.Directory = fmt.Sprintf("https://127.0.0.1:%d/dir", directory)
	p.DNSAddr = fmt.Sprintf("127.0.0.1:%d", names)
	p.records = fmt.Sprintf("http://127.0.0.1:%d", records)
	p.Management = &Management{ask: p.asker(fmt.Sprintf("https://127.0.0.1:%d", management))}
	if err := p.writeFiles(dir, o, directory, management); err != nil {
		return nil, err
	}
	if err := p.run(ctx, dir, bin, o, records); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// run starts the name server, then Pebble, and waits for both.
func (p *Process) run(ctx context.Context, dir, bin string, o *options, records int) error {
	names, err := startChild(dir, nil, filepath.Join(bin, "pebble-challtestsrv"), "-defaultIPv4", "127.0.0.1",
		"-defaultIPv6", "", "-dnsserver", p.DNSAddr, "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
		"-management", "127.0.0.1:"+strconv.Itoa(records))
	if err != nil {
		return err
	}
	p.children = append(p.children, names)
	var env []string
	for key, value := range o.env {
		env = append(env, key+"="+value)
	}
	env = append(env, "PEBBLE_ALTERNATE_ROOTS="+strconv.Itoa(o.alternateRoots), "PEBBLE_CHAIN_LENGTH="+strconv.Itoa(o.chainLength))
	acme, err := startChild(dir, env, filepath.Join(bin, "pebble"), "-config", "pebble.json", "-dnsserver", p.DNSAddr, "-strict=true")
	if err != nil {
		return err
	}
	p.children = append(p.children, acme)
	if err := acme.ready(ctx, p.Server); err != nil {
		return err
	}
	if err := acme.repeat(ctx, func() error { return p.load(o.alternateRoots + 1) }); err != nil {
		return err
	}
	return names.repeat(ctx, func() error { return p.Record(ctx, "clear-txt", map[string]any{"host": "ready.invalid."}) })
}

// writeFiles makes the TLS certificate and the configuration of Pebble.
func (p *Process) writeFiles(dir string, o *options, directory, management int) error {
	root, err := newAuthority("Test directory root")
	if err != nil {
		return err
	}
	cert, err := root.serverCertificate("", ServerSound)
	if err != nil {
		return err
	}
	p.Roots = x509.NewCertPool()
	p.Roots.AddCert(root.cert)
	p.RootPEM = encode(root.cert)
	key, err := keyPEM(cert.PrivateKey)
	if err != nil {
		return err
	}
	algorithm := "ecdsa"
	if o.rsaIntermediate {
		algorithm = "rsa"
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress":                  fmt.Sprintf("127.0.0.1:%d", directory),
		"managementListenAddress":        fmt.Sprintf("127.0.0.1:%d", management),
		"certificate":                    "server.pem",
		"privateKey":                     "server.key",
		"httpPort":                       p.HTTPPort,
		"tlsPort":                        p.TLSPort,
		"externalAccountBindingRequired": len(o.eab) > 0,
		"externalAccountMACKeys":         o.eab,
		"domainBlocklist":                o.blocked,
		"caaIdentities":                  o.caaIdentities,
		"keyAlgorithm":                   algorithm,
		"profiles":                       o.profiles,
		"retryAfter":                     map[string]int{"authz": o.retryAuthz, "order": o.retryOrder},
	}})
	if err != nil {
		return fmt.Errorf("configuration of Pebble: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "pebble.json"), config, 0o600),
		os.WriteFile(filepath.Join(dir, "server.pem"), encode(cert.Leaf), 0o600),
		os.WriteFile(filepath.Join(dir, "server.key"), key, 0o600))
}

func keyPEM(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (p *Process) asker(base string) func(method, path string, body []byte) (int, []byte, error) {
	return func(method, path string, body []byte) (int, []byte, error) {
		answer, err := call(context.Background(), p.Server, method, base+path, bytes.NewReader(body))
		return http.StatusOK, answer, err
	}
}

// Record sends a command to the name server, such as "set-txt" with host (ending in a dot) and value, "add-a",
// "set-cname", "set-servfail" or "clear-txt".
func (p *Process) Record(ctx context.Context, command string, arguments map[string]any) error {
	body, err := json.Marshal(arguments)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if _, err := call(ctx, p.Server, http.MethodPost, p.records+"/"+command, bytes.NewReader(body)); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// Close ends both processes.
func (p *Process) Close() {
	for _, c := range p.children {
		c.stop()
	}
}
