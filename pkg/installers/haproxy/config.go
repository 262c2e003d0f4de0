package haproxy

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/fileset"
)

// Config is one certificate file of an HAProxy.
type Config struct {
	File   string `mapstructure:"file"`   // absolute path of the combined PEM file; a dual unit gets FILE.ecdsa and FILE.rsa
	Key    string `mapstructure:"key"`    // absolute path of the key, where HAProxy reads it from a file of its own; default: in file
	Name   string `mapstructure:"name"`   // what HAProxy calls the file; default: its alias in a crt-store of haproxy.cfg, or file
	Config string `mapstructure:"config"` // absolute path of HAProxy's configuration, which is only read; default /etc/haproxy/haproxy.cfg
	Socket string `mapstructure:"socket"` // runtime socket with level admin; default /run/haproxy/admin.sock

	Owner string `mapstructure:"owner"` // user name or number; "" keeps it
	Group string `mapstructure:"group"` // group name or number; "" keeps it
	Mode  string `mapstructure:"mode"`  // octal; default "0600", with a group "0640", plus what an existing file gives its group; others get no access

	Unit    string        `mapstructure:"unit"`    // systemd unit that is reloaded when there is no runtime API; default haproxy.service
	Reload  []string      `mapstructure:"reload"`  // command to run instead, absolute program first
	Timeout time.Duration `mapstructure:"timeout"` // bound on a reload; default 1m

	AllowOtherKeyType bool `mapstructure:"allow_other_key_type"` // another file may serve the same name to clients of the other key type

	Verify        []string      `mapstructure:"verify"`         // endpoints: host:port, host:port/server.name; default 127.0.0.1:443
	VerifyTimeout time.Duration `mapstructure:"verify_timeout"` // how long they may take to serve the new certificate; default 30s
}

const (
	defaultSocket = "/run/haproxy/admin.sock" // where Debian's and Red Hat's packages put it
	defaultUnit   = "haproxy.service"
	defaultConfig = "/etc/haproxy/haproxy.cfg"
	defaultVerify = "127.0.0.1:443"

	// maxSocket is what Linux has for the path of a unix socket (unix(7)).
	maxSocket = 107
)

// A name goes into a line of the runtime API, where blanks, semicolons and backslashes mean something.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./@+%~-][A-Za-z0-9_.,:/@+%~=-]{0,1000}$`)

// Validate reports everything that is wrong with the configuration at once. It touches neither network nor disk.
func (c *Config) Validate() error {
	settings := c.settings()
	return errors.Join(c.checkPaths(), settings.Validate())
}

func (c *Config) checkPaths() error {
	var errs []error
	switch {
	case !namesFile(c.File):
		errs = append(errs, fmt.Errorf("file: %q is not the absolute path of a file", c.File))
	case c.Name == "" && !plainPath.MatchString(c.File):
		errs = append(errs, fmt.Errorf("file: %q has characters that HAProxy's runtime API does not take", c.File))
	}
	if c.Key != "" && (!namesFile(c.Key) || c.Key == c.File) {
		errs = append(errs, fmt.Errorf("key: %q is not the absolute path of another file", c.Key))
	}
	if c.Name != "" && !plainPath.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("name: %q has characters that HAProxy's runtime API does not take", c.Name))
	}
	errs = append(errs, c.checkConfig())
	if c.Socket != "" && (!filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocket) {
		errs = append(errs, fmt.Errorf("socket: %q is not an absolute path of at most %d bytes", c.Socket, maxSocket))
	}
	return errors.Join(errs...)
}

func (c *Config) checkConfig() error {
	if c.Config != "" && !namesFile(c.Config) {
		return fmt.Errorf("config: %q is not the absolute path of a file", c.Config)
	}
	return nil
}

// namesFile reports whether a path is absolute and not that of a directory by its form.
func namesFile(path string) bool { return filepath.IsAbs(path) && !strings.HasSuffix(path, "/") }

func (c Config) settings() fileset.Settings {
	return fileset.Settings{
		Owner: c.Owner, Group: c.Group, Mode: c.Mode, Unit: c.Unit, Reload: c.Reload, ReloadTimeout: fileset.Bound{Key: "timeout", Duration: c.Timeout},
		Verify: c.Verify, Wait: fileset.Bound{Key: "verify_timeout", Duration: c.VerifyTimeout},
	}
}

// withDefaults fills in what the operator left out.
func (c Config) withDefaults() Config {
	if c.Config == "" {
		c.Config = defaultConfig
	}
	if c.Socket == "" {
		c.Socket = defaultSocket
	}
	if c.Unit == "" && len(c.Reload) == 0 {
		c.Unit = defaultUnit
	}
	if len(c.Verify) == 0 {
		c.Verify = []string{defaultVerify}
	}
	return c
}

// ServerKey tells the HAProxy of one target from that of another: targets with the same key share one
// [installers.Server].
func (c *Config) ServerKey() string {
	d := c.withDefaults()
	return fmt.Sprintf("%q %q %q", d.Socket, d.Unit, d.Reload)
}

// NewServer makes the server that c describes: how it is reloaded, and how to know whether it runs. It touches neither
// network nor disk.
func NewServer(c Config) *installers.Server {
	settings := c.withDefaults().settings()
	return settings.NewServer("HAProxy")
}
