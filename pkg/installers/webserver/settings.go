package webserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// Settings are the keys that all web servers have.
type Settings struct {
	Binary, Config, PIDFile, Unit string
	Root                          string // the directory that relative paths start from
	RootKey                       string // its key in the configuration, and
	RootFlag                      string // its option
	ConfigFlag                    string // that of Config
	Test, Reload                  []string
	Timeout                       time.Duration

	Names         []string
	Listen        int
	Verify        []string
	VerifyTimeout time.Duration
	HSTS          time.Duration
}

// The defaults. A large configuration takes seconds to test and to reload (about 1 ms and 2 ms for each site), so a minute
// is far from both a slow server and a hung one.
const (
	DefaultPort          = 443
	DefaultTimeout       = time.Minute
	DefaultVerifyTimeout = 30 * time.Second
)

// maxHSTS is two years, the most that browsers' preload lists ask for; more is a typing error nobody can take back.
const maxHSTS = 2 * 366 * 24 * time.Hour

// Validate reports everything that is wrong, joined, each problem beginning with its key. It looks at neither disk nor
// network.
func (s *Settings) Validate() error {
	var errs []error
	for _, f := range []struct{ key, path string }{
		{"binary", s.Binary}, {"config", s.Config}, {s.RootKey, s.Root}, {"pid_file", s.PIDFile},
	} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", f.key, f.path))
		}
	}
	errs = append(errs, checkArgv("test", s.Test), checkArgv("reload", s.Reload), s.checkAddresses())
	if s.Unit != "" && s.PIDFile != "" {
		errs = append(errs, errors.New("unit: give either unit or pid_file, not both"))
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"timeout", s.Timeout}, {"verify_timeout", s.VerifyTimeout}, {"hsts", s.HSTS}} {
		if d.d < 0 || d.d > 0 && d.d < time.Second {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than a second", d.key, d.d))
		}
	}
	if s.HSTS > maxHSTS {
		errs = append(errs, fmt.Errorf("hsts: %s is longer than two years, and browsers never forget it", s.HSTS))
	}
	return errors.Join(errs...)
}

func (s *Settings) checkAddresses() error {
	var errs []error
	if s.Listen < 0 || s.Listen > 65535 {
		errs = append(errs, fmt.Errorf("listen: %d is not a port", s.Listen))
	}
	for _, addr := range s.Verify {
		if _, err := endpoint.Parse(addr); err != nil {
			errs = append(errs, fmt.Errorf("verify: %w", err))
		}
	}
	for _, name := range s.Names {
		if _, _, err := certs.ParseIdentifier(name); err != nil {
			errs = append(errs, fmt.Errorf("names: %w", err))
		}
	}
	return errors.Join(errs...)
}

func checkArgv(key string, argv []string) error {
	if len(argv) > 0 && !filepath.IsAbs(argv[0]) {
		return fmt.Errorf("%s: %q is not an absolute path", key, argv[0])
	}
	return nil
}

// SetDefault fills in what the operator left out.
func SetDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Key tells one server from another: targets with the same key share one [installers.Server].
func (s *Settings) Key(kind string) string {
	return fmt.Sprintf("%s %q", kind, slices.Concat([]string{s.Binary, s.Root, s.Config, s.PIDFile, s.Unit}, s.Test, []string{""}, s.Reload))
}

// Argv is the server's own program with the operator's paths.
func (s *Settings) Argv(args ...string) []string {
	list := []string{s.Binary}
	for _, option := range [][2]string{{s.RootFlag, s.Root}, {s.ConfigFlag, s.Config}} {
		if option[1] != "" {
			list = append(list, option[0], option[1])
		}
	}
	return append(list, args...)
}

// Program is how a server is called: the arguments that test and reload it, the names of its processes, and its own pid
// file, which counts where systemd does not run the machine.
type Program struct {
	Name         string
	Test, Reload []string
	Processes    []string
	PIDFile      func(context.Context) (string, error)
}

// NewServer makes the server: how it is tested and reloaded, by the operator's commands or by the program's own arguments,
// and how to know whether it runs. Where systemd does not run the machine, as in most containers, a unit stands for the
// process of the program's own pid file.
func (s *Settings) NewServer(p Program) *installers.Server {
	testing := installers.Command{Argv: s.Test, Timeout: s.Timeout}
	if len(testing.Argv) == 0 {
		testing.Argv = s.Argv(p.Test...)
	}
	reloading := installers.Command{Argv: s.Reload, Timeout: s.Timeout}
	switch {
	case len(reloading.Argv) > 0:
	case s.PIDFile != "" || !systemd.Booted():
		reloading.Argv = s.Argv(p.Reload...)
	default:
		reloading = installers.SystemdReload(s.Unit)
		reloading.Timeout = s.Timeout
	}
	name := p.Name
	if s.Config != "" {
		name += " (" + s.Config + ")"
	}
	// Where only a reload command is given, that has to know whether the server runs.
	switch {
	case s.PIDFile != "":
		return installers.NewServer(name, testing, reloading, installers.PIDFileActive(s.PIDFile, p.Processes...))
	case s.Unit != "" && systemd.Booted():
		return installers.NewServer(name, testing, reloading, installers.SystemdActive(s.Unit))
	case s.Unit != "":
		return installers.NewServer(name, testing, reloading, func(ctx context.Context) (bool, error) {
			path, err := p.PIDFile(ctx)
			if err != nil || path == "" {
				return false, err
			}
			return installers.PIDFileActive(path, p.Processes...)(ctx)
		})
	}
	return installers.NewServer(name, testing, reloading, nil)
}
