package apache

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
)

// Config is one Apache target of a certificate. The zero value is the Apache of Debian and its derivatives: asked and
// tested through apache2ctl, TLS on port 443, reloaded through systemd.
type Config struct {
	Binary  string        `mapstructure:"binary"`   // absolute path of a program that takes httpd's options; default /usr/sbin/apache2ctl, or /usr/sbin/httpd with layout rhel
	Root    string        `mapstructure:"root"`     // absolute path for -d, the ServerRoot; default: the one built into the binary
	Config  string        `mapstructure:"config"`   // absolute path for -f, the main configuration file; default: the one built into the binary
	Layout  string        `mapstructure:"layout"`   // where new files go: debian (sites-available, mods-enabled), rhel (conf.d) or auto; default auto
	PIDFile string        `mapstructure:"pid_file"` // absolute path; set it for an Apache that systemd does not run
	Unit    string        `mapstructure:"unit"`     // systemd unit; default apache2.service, or httpd.service with layout rhel
	Test    []string      `mapstructure:"test"`     // argv that tests the configuration; default: BINARY -t
	Reload  []string      `mapstructure:"reload"`   // argv that reloads gracefully; default: systemctl reload UNIT, or BINARY -k graceful with pid_file
	Timeout time.Duration `mapstructure:"timeout"`  // bound on each of the commands; default 60s

	Names         []string      `mapstructure:"names"`          // names to serve it for; default: all names of the certificate
	Listen        int           `mapstructure:"listen"`         // port that serves TLS, added where it is missing; default 443
	Verify        []string      `mapstructure:"verify"`         // host:port or host:port/name to prove the certificate at; default: the addresses found
	VerifyTimeout time.Duration `mapstructure:"verify_timeout"` // how long an endpoint may take to serve it after a reload; default 30s

	Redirect bool          `mapstructure:"redirect"` // send plain HTTP for the certificate's fixed names to HTTPS
	HSTS     time.Duration `mapstructure:"hsts"`     // max-age of Strict-Transport-Security; 0 adds no header
}

// The layouts of a distribution's configuration.
const (
	layoutAuto   = "auto"
	layoutDebian = "debian"
	layoutRHEL   = "rhel"
)

// The defaults of a zero Config. Testing or reloading a thousand virtual hosts takes seconds, so a minute is far from
// both a slow server and a hung one.
const (
	debianBinary         = "/usr/sbin/apache2ctl"
	debianUnit           = "apache2.service"
	rhelBinary           = "/usr/sbin/httpd"
	rhelUnit             = "httpd.service"
	defaultPort          = 443
	defaultTimeout       = time.Minute
	defaultVerifyTimeout = 30 * time.Second
)

// maxHSTS is two years, the most that browsers' preload lists ask for; more is a typing error nobody can take back.
const maxHSTS = 2 * 366 * 24 * time.Hour

// Validate reports everything that is wrong with c, joined, each problem beginning with its key. It looks at neither
// disk nor network.
func (c *Config) Validate() error {
	var errs []error
	for _, f := range []struct{ key, path string }{
		{"binary", c.Binary}, {"root", c.Root}, {"config", c.Config}, {"pid_file", c.PIDFile},
	} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", f.key, f.path))
		}
	}
	switch c.Layout {
	case "", layoutAuto, layoutDebian, layoutRHEL:
	default:
		errs = append(errs, fmt.Errorf("layout: %q is not one of %s, %s, %s", c.Layout, layoutAuto, layoutDebian, layoutRHEL))
	}
	errs = append(errs, checkArgv("test", c.Test), checkArgv("reload", c.Reload), c.checkAddresses())
	if c.Unit != "" && c.PIDFile != "" {
		errs = append(errs, errors.New("unit: give either unit or pid_file, not both"))
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"timeout", c.Timeout}, {"verify_timeout", c.VerifyTimeout}, {"hsts", c.HSTS}} {
		if d.d < 0 || d.d > 0 && d.d < time.Second {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than a second", d.key, d.d))
		}
	}
	if c.HSTS > maxHSTS {
		errs = append(errs, fmt.Errorf("hsts: %s is longer than two years, and browsers never forget it", c.HSTS))
	}
	return errors.Join(errs...)
}

func (c *Config) checkAddresses() error {
	var errs []error
	if c.Listen < 0 || c.Listen > 65535 {
		errs = append(errs, fmt.Errorf("listen: %d is not a port", c.Listen))
	}
	for _, addr := range c.Verify {
		if _, err := endpoint.Parse(addr); err != nil {
			errs = append(errs, fmt.Errorf("verify: %w", err))
		}
	}
	for _, name := range c.Names {
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

// withDefaults fills in what the operator left out.
func (c Config) withDefaults() Config {
	binary, unit := debianBinary, debianUnit
	if c.Layout == layoutRHEL {
		binary, unit = rhelBinary, rhelUnit
	}
	setDefault(&c.Layout, layoutAuto)
	setDefault(&c.Binary, binary)
	setDefault(&c.Listen, defaultPort)
	setDefault(&c.Timeout, defaultTimeout)
	setDefault(&c.VerifyTimeout, defaultVerifyTimeout)
	if c.PIDFile == "" && len(c.Reload) == 0 {
		setDefault(&c.Unit, unit)
	}
	return c
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
