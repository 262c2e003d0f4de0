package haproxy

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/installers"
)

// Config is one certificate file of an HAProxy.
type Config struct {
	File   string `mapstructure:"file"`   // absolute path of the combined PEM file; a dual unit gets FILE.ecdsa and FILE.rsa
	Name   string `mapstructure:"name"`   // what HAProxy calls the file, if its configuration has another path; default: file
	Socket string `mapstructure:"socket"` // runtime socket with level admin; default /run/haproxy/admin.sock

	Owner string `mapstructure:"owner"` // user name or number; "" keeps it
	Group string `mapstructure:"group"` // group name or number; "" keeps it
	Mode  string `mapstructure:"mode"`  // octal; default "0600"; others get no access

	Unit    string        `mapstructure:"unit"`    // systemd unit that is reloaded when there is no runtime API; default haproxy.service
	Reload  []string      `mapstructure:"reload"`  // command to run instead, absolute program first
	Timeout time.Duration `mapstructure:"timeout"` // bound on a reload; default 1m

	Verify        []string      `mapstructure:"verify"`         // endpoints: host:port, host:port/server.name; default 127.0.0.1:443
	VerifyTimeout time.Duration `mapstructure:"verify_timeout"` // how long they may take to serve the new certificate; default 30s
}

const (
	defaultSocket             = "/run/haproxy/admin.sock" // where Debian's and Red Hat's packages put it
	defaultUnit               = "haproxy.service"
	defaultMode   fs.FileMode = 0o600
	defaultVerify             = "127.0.0.1:443"
	defaultWait               = 30 * time.Second
	defaultReload             = time.Minute

	// maxSocket is what Linux has for the path of a unix socket (unix(7)).
	maxSocket = 107
)

// A name goes into a line of the runtime API, where blanks, semicolons and backslashes mean something.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./@+%~-][A-Za-z0-9_.,:/@+%~=-]{0,1000}$`)

var (
	unitName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9:_.@\\-]{0,254}$`)
	account  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10})$`)
)

// Validate reports everything that is wrong with the configuration at once. It touches neither network nor disk.
func (c *Config) Validate() error {
	errs := []error{c.checkPaths(), c.checkReload()}
	for _, a := range []struct{ key, name string }{{"owner", c.Owner}, {"group", c.Group}} {
		if a.name != "" && !account.MatchString(a.name) {
			errs = append(errs, fmt.Errorf("%s: %q is neither a name nor a number", a.key, a.name))
		}
	}
	if _, err := c.mode(); err != nil {
		errs = append(errs, err)
	}
	if _, err := endpoint.ParseAll(c.Verify, nil); err != nil {
		errs = append(errs, fmt.Errorf("verify: %w", err))
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{{"timeout", c.Timeout}, {"verify_timeout", c.VerifyTimeout}} {
		if d.d < 0 || d.d > 0 && d.d < time.Second {
			errs = append(errs, fmt.Errorf("%s: %s is shorter than a second", d.key, d.d))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) checkReload() error {
	switch {
	case c.Unit != "" && len(c.Reload) > 0:
		return errors.New("unit: give either unit or reload, not both")
	case c.Unit != "" && !unitName.MatchString(c.Unit):
		return fmt.Errorf("unit: %q is not the name of a systemd unit", c.Unit)
	case len(c.Reload) > 0 && !filepath.IsAbs(c.Reload[0]):
		return fmt.Errorf("reload: %q is not an absolute path; for a systemd service use unit", c.Reload[0])
	}
	return nil
}

func (c *Config) checkPaths() error {
	var errs []error
	switch {
	case !filepath.IsAbs(c.File) || strings.HasSuffix(c.File, "/"):
		errs = append(errs, fmt.Errorf("file: %q is not the absolute path of a file", c.File))
	case c.Name == "" && !plainPath.MatchString(c.File):
		errs = append(errs, fmt.Errorf("file: %q has characters that HAProxy's runtime API does not take", c.File))
	}
	if c.Name != "" && !plainPath.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("name: %q has characters that HAProxy's runtime API does not take", c.Name))
	}
	if c.Socket != "" && (!filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocket) {
		errs = append(errs, fmt.Errorf("socket: %q is not an absolute path of at most %d bytes", c.Socket, maxSocket))
	}
	return errors.Join(errs...)
}

func (c *Config) mode() (fs.FileMode, error) {
	if c.Mode == "" {
		return defaultMode, nil
	}
	n, err := strconv.ParseUint(c.Mode, 8, 32)
	mode := fs.FileMode(n)
	switch {
	case err != nil || n > 0o777:
		return 0, fmt.Errorf("mode: %q is not an octal mode such as \"0640\"", c.Mode)
	case mode&0o007 != 0:
		return 0, fmt.Errorf("mode: %q gives others access to the private key", c.Mode)
	case mode&0o400 == 0:
		return 0, fmt.Errorf("mode: %q does not let the owner read", c.Mode)
	}
	return mode, nil
}

// withDefaults fills in what the operator left out.
func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = filepath.Clean(c.File)
	}
	if c.Socket == "" {
		c.Socket = defaultSocket
	}
	if c.Unit == "" && len(c.Reload) == 0 {
		c.Unit = defaultUnit
	}
	if c.Timeout == 0 {
		c.Timeout = defaultReload
	}
	if len(c.Verify) == 0 {
		c.Verify = []string{defaultVerify}
	}
	if c.VerifyTimeout == 0 {
		c.VerifyTimeout = defaultWait
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
	d := c.withDefaults()
	reload := installers.Command{Argv: d.Reload, Timeout: d.Timeout}
	if d.Unit == "" {
		return installers.NewServer("HAProxy", installers.Command{}, reload, nil)
	}
	reload = installers.SystemdReload(d.Unit)
	reload.Timeout = d.Timeout
	return installers.NewServer("HAProxy", installers.Command{}, reload, installers.SystemdActive(d.Unit))
}
