package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
	"github.com/acmed/acmed/pkg/installers/change"
)

// Variables are the environment variables that a DNS provider needs, each with its aliases: those of the way that takes the
// fewest, such as a token; none when it can find credentials itself. `acmed dns describe` has the other ways.
func Variables(provider string) ([][]string, error) {
	p, err := catalog.Lookup(provider)
	if err != nil {
		return nil, &UsageError{fmt.Errorf("--dns: %w", err)}
	}
	if slices.Contains([]string{"rfc2136", "acme-dns", "httpreq", "exec"}, p.Name) {
		return nil, usagef("--dns: %s has a separate section, see solvers in acmed.yaml(5); write it there and give --solver", p.Name)
	}
	if len(p.Required) == 0 {
		return nil, nil
	}
	return slices.MinFunc(p.Required, func(a, b [][]string) int { return len(a) - len(b) }), nil
}

// secrets is the directory of files with credentials.
func (m *Machine) secrets() string { return filepath.Join(filepath.Dir(m.Path), "secrets") }

// EnvFile is where the credentials for a DNS provider are kept.
func (m *Machine) EnvFile(provider string) string { return filepath.Join(m.secrets(), provider+".env") }

// manualDir is where a solver of --manual leaves the records that somebody has to create.
const manualDir = "manual"

// ManualDir is that directory of the configuration that will be.
func (e *Enabling) ManualDir() string {
	return filepath.Join(e.Machine.stateDir(e.Options.Main), manualDir)
}

// dns makes the solver for a DNS provider, and the file with its credentials.
func (e *Enabling) dns(w *Wish, d *Dropin) error {
	o := e.Options.DNS
	s := Solver{Name: w.Name + "-dns"}
	if o.Provider == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		s.DNS01 = map[string]any{
			"exec":                map[string]any{"command": []string{self, "manual-dns", e.ManualDir()}},
			"propagation_timeout": "1h",
		}
		d.Solvers = []Solver{s}
		return nil
	}
	file := e.Machine.EnvFile(o.Provider)
	s.DNS01 = map[string]any{"provider": o.Provider, "env_file": file}
	d.Solvers = []Solver{s}
	if o.Values == nil || slices.ContainsFunc(e.Change.Files, func(f File) bool { return f.Path == file }) {
		return nil
	}
	e.Change.Dirs = append(e.Change.Dirs, parents(filepath.Dir(file), 0o750)...)
	uid := e.Machine.secretsOwner(e.Options.Main)
	e.Change.Files = append(e.Change.Files, File{Path: file, Content: EnvText(o.Values), Secret: true, UID: uid, Certificate: w.Name})
	return nil
}

// EnvText is a file with the variables of a provider.
func EnvText(values map[string]string) []byte {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text = fmt.Appendf(text, "%s=%s\n", name, values[name])
	}
	return text
}

// TryDNS sets and removes a record through each DNS solver of the change: wrong credentials are found before an order.
func (e *Enabling) TryDNS(ctx context.Context) error {
	if e.Options.DNS == nil || e.Options.DNS.Provider == "" {
		return nil
	}
	for _, w := range e.Wishes {
		conf, ok := e.Config.Solver(w.Name + "-dns")
		if !ok || conf.DNS01 == nil {
			continue
		}
		if err := TryProvider(ctx, *conf.DNS01, w.Names[0]); err != nil {
			return err
		}
	}
	return nil
}

// TryProvider sets a TXT record for a name through a DNS provider, and removes it. It waits for no name server: whether
// the provider accepts the record is enough.
func TryProvider(ctx context.Context, conf dns01.Config, name string) error {
	if err := daemon.CheckWorker(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "acmed-dns")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	conf.Propagation = dns01.NoPropagation
	s, err := dns01.New(conf, dns01.Options{
		Name: conf.Provider, Journal: dns01.NewJournal(dir), Locks: &dns01.Locks{}, Worker: daemon.Worker(), Now: time.Now,
	})
	if err != nil {
		return err
	}
	id, _, err := certs.ParseIdentifier(name)
	if err != nil {
		return err
	}
	c := challenges.Challenge{Identifier: id, Type: challenges.DNS01, Token: strings.Repeat("x", 43), KeyAuth: "acmed.test", Thumbprint: "test"}
	err = s.Present(ctx, c)
	if err == nil {
		err = s.CleanUp(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("the credentials for %s do not work: %w", conf.Provider, err)
	}
	return nil
}

// NoteRecord is what the program of a --manual solver does: it leaves a file with the record that somebody has to create,
// or takes it away. See [dns01.ExecConfig] for the arguments.
func NoteRecord(dir, verb, fqdn, value string) error {
	name := change.Hash([]byte(fqdn + value))[:16] + ".txt"
	switch verb {
	case "cleanup":
		return removeFile(filepath.Join(dir, name))
	case "present":
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return atomicfile.Write(filepath.Join(dir, name), fmt.Appendf(nil, "%s TXT %q\n", fqdn, value), 0o644)
	}
	return fmt.Errorf("%q is neither present nor cleanup", verb)
}
