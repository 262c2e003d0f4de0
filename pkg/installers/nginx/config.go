package nginx

import (
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/webserver"
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

// The defaults of a zero Config.
const (
	defaultBinary = "/usr/sbin/nginx"
	defaultUnit   = "nginx.service"
)

// settings are the keys that all web servers have.
func (c *Config) settings() *webserver.Settings {
	return &webserver.Settings{
		Binary: c.Binary, Config: c.Config, ConfigFlag: "-c", Root: c.Prefix, RootKey: "prefix", RootFlag: "-p", PIDFile: c.PIDFile, Unit: c.Unit,
		Test: c.Test, Reload: c.Reload, Timeout: c.Timeout,
		Names: c.Names, Listen: c.Listen, Verify: c.Verify, VerifyTimeout: c.VerifyTimeout, HSTS: c.HSTS,
	}
}

// Validate reports everything that is wrong with c, joined, each problem beginning with its key. It looks at neither
// disk nor network.
func (c *Config) Validate() error { return c.settings().Validate() }

// withDefaults fills in what the operator left out.
func (c Config) withDefaults() Config {
	webserver.SetDefault(&c.Binary, defaultBinary)
	webserver.SetDefault(&c.Listen, webserver.DefaultPort)
	webserver.SetDefault(&c.Timeout, webserver.DefaultTimeout)
	webserver.SetDefault(&c.VerifyTimeout, webserver.DefaultVerifyTimeout)
	if c.PIDFile == "" && len(c.Reload) == 0 {
		webserver.SetDefault(&c.Unit, defaultUnit)
	}
	return c
}

// ServerKey tells the nginx of one target from that of another: targets with the same key share one [installers.Server].
func (c *Config) ServerKey() string {
	d := c.withDefaults()
	return d.settings().Key("nginx")
}

// NewServer makes the server that c describes.
func NewServer(c Config) *installers.Server {
	d := c.withDefaults()
	return d.settings().NewServer(webserver.Program{
		Name: "nginx", Test: []string{"-t", "-q"}, Reload: []string{"-s", "reload"}, Processes: []string{"nginx"}, PIDFile: d.ownPIDFile,
	})
}
