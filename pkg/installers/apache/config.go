package apache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/webserver"
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

// The defaults of a zero Config.
const (
	debianBinary = "/usr/sbin/apache2ctl"
	debianUnit   = "apache2.service"
	rhelBinary   = "/usr/sbin/httpd"
	rhelUnit     = "httpd.service"
)

// settings are the keys that all web servers have.
func (c *Config) settings() *webserver.Settings {
	return &webserver.Settings{
		Binary: c.Binary, Config: c.Config, ConfigFlag: "-f", Root: c.Root, RootKey: "root", RootFlag: "-d", PIDFile: c.PIDFile, Unit: c.Unit,
		Test: c.Test, Reload: c.Reload, Timeout: c.Timeout,
		Names: c.Names, Listen: c.Listen, Verify: c.Verify, VerifyTimeout: c.VerifyTimeout, HSTS: c.HSTS,
	}
}

// Validate reports everything that is wrong with c, joined, each problem beginning with its key. It looks at neither
// disk nor network.
func (c *Config) Validate() error {
	err := c.settings().Validate()
	switch c.Layout {
	case "", layoutAuto, layoutDebian, layoutRHEL:
		return err
	}
	return errors.Join(fmt.Errorf("layout: %q is not one of %s, %s, %s", c.Layout, layoutAuto, layoutDebian, layoutRHEL), err)
}

// withDefaults fills in what the operator left out.
func (c Config) withDefaults() Config {
	binary, unit := debianBinary, debianUnit
	if c.Layout == layoutRHEL {
		binary, unit = rhelBinary, rhelUnit
	}
	webserver.SetDefault(&c.Layout, layoutAuto)
	webserver.SetDefault(&c.Binary, binary)
	webserver.SetDefault(&c.Listen, webserver.DefaultPort)
	webserver.SetDefault(&c.Timeout, webserver.DefaultTimeout)
	webserver.SetDefault(&c.VerifyTimeout, webserver.DefaultVerifyTimeout)
	if c.PIDFile == "" && len(c.Reload) == 0 {
		webserver.SetDefault(&c.Unit, unit)
	}
	return c
}

// ServerKey tells the Apache of one target from that of another: targets with the same key share one
// [installers.Server].
func (c *Config) ServerKey() string {
	d := c.withDefaults()
	return d.settings().Key("apache")
}

// NewServer makes the server that c describes. "-k graceful" starts a stopped server, so it is never run without asking
// whether there is one.
func NewServer(c Config) *installers.Server {
	d := c.withDefaults()
	return d.settings().NewServer(webserver.Program{
		Name: "Apache", Test: []string{"-t"}, Reload: []string{"-k", "graceful"}, Processes: []string{"apache2", "httpd"}, PIDFile: d.ownPIDFile,
	})
}

// ownPIDFile is the PidFile of Apache's configuration.
func (c *Config) ownPIDFile(ctx context.Context) (string, error) {
	f, err := c.ask(ctx)
	if err != nil {
		return "", err
	}
	return f.pidFile, nil
}

// checkPIDFile makes sure that "-k graceful" signals the process that was asked whether it runs.
func (c *Config) checkPIDFile(f *facts) error {
	if c.PIDFile == "" || len(c.Reload) > 0 || f.pidFile == c.PIDFile {
		return nil
	}
	return fmt.Errorf("pid_file: it is %s, but Apache's own PidFile is %q: make them the same", c.PIDFile, f.pidFile)
}
