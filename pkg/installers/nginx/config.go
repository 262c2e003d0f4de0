package nginx

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
)

// Config is one nginx target of a certificate. The zero value is the nginx of the distribution: its own configuration
// file, TLS on port 443, reloaded through systemd.
type Config struct {
	Binary  string        `mapstructure:"binary"`   // absolute path of nginx; default /usr/sbin/nginx
	Config  string        `mapstructure:"config"`   // absolute path of the main configuration file; default: the one built into the binary
	Prefix  string        `mapstructure:"prefix"`   // absolute path for nginx -p; default: the one built into the binary
	PIDFile string        `mapstructure:"pid_file"` // absolute path; set it for an nginx that systemd does not run
	Unit    string        `mapstructure:"unit"`     // systemd unit; default nginx.service
	Test    []string      `mapstructure:"test"`     // argv that tests the configuration; default: nginx -t
	Reload  []string      `mapstructure:"reload"`   // argv that reloads; default: systemctl reload UNIT, or nginx -s reload with pid_file
	Timeout time.Duration `mapstructure:"timeout"`  // bound on each of the two commands; default 60s

	Names         []string      `mapstructure:"names"`          // names to serve it for; default: all names of the certificate
	Listen        int           `mapstructure:"listen"`         // port that serves TLS, added where it is missing; default 443
	Verify        []string      `mapstructure:"verify"`         // host:port or host:port/name to prove the certificate at; default: the listen addresses found
	VerifyTimeout time.Duration `mapstructure:"verify_timeout"` // how long an endpoint may take to serve it after a reload; default 30s

	Redirect    bool          `mapstructure:"redirect"`     // send plain HTTP for the certificate's fixed names to HTTPS
	HSTS        time.Duration `mapstructure:"hsts"`         // max-age of Strict-Transport-Security; 0 adds no header
	HTTP2       bool          `mapstructure:"http2"`        // offer HTTP/2
	TLSDefaults bool          `mapstructure:"tls_defaults"` // include acmed's protocol and session settings where the server block has none
}

// The defaults of a zero Config. A large configuration takes seconds to test and to reload (about 1 ms and 2 ms for
// each server block), so a minute is far from both a slow server and a hung one.
const (
	defaultBinary        = "/usr/sbin/nginx"
	defaultUnit          = "nginx.service"
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
		{"binary", c.Binary}, {"config", c.Config}, {"prefix", c.Prefix}, {"pid_file", c.PIDFile},
	} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", f.key, f.path))
		}
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
	setDefault(&c.Binary, defaultBinary)
	setDefault(&c.Listen, defaultPort)
	setDefault(&c.Timeout, defaultTimeout)
	setDefault(&c.VerifyTimeout, defaultVerifyTimeout)
	if c.PIDFile == "" && len(c.Reload) == 0 {
		setDefault(&c.Unit, defaultUnit)
	}
	return c
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
