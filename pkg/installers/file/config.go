package file

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
)

// Config is one target that consists of files. Every file name is relative to Dir and has no slash; a format whose name
// is empty is not written. When no name is given at all, cert.pem, chain.pem, fullchain.pem and privkey.pem are. The RSA
// twin of a dual unit is written beside each with "-rsa" before the extension.
type Config struct {
	Dir       string `mapstructure:"dir"`       // absolute; must exist
	Cert      string `mapstructure:"cert"`      // PEM: the leaf
	Chain     string `mapstructure:"chain"`     // PEM: the issuers
	FullChain string `mapstructure:"fullchain"` // PEM: leaf and issuers
	Key       string `mapstructure:"key"`       // PEM: the private key
	Combined  string `mapstructure:"combined"`  // PEM: leaf, issuers, private key
	DER       string `mapstructure:"der"`       // DER: the leaf
	DERKey    string `mapstructure:"der_key"`   // DER: the private key, PKCS#8
	PKCS12    string `mapstructure:"pkcs12"`    // PKCS#12 with key, leaf and issuers; AES-256 and SHA-256
	JKS       string `mapstructure:"jks"`       // Java key store with one private key entry

	PasswordFile string `mapstructure:"password_file"` // protects PKCS12 and JKS; its first line counts
	Alias        string `mapstructure:"alias"`         // of the JKS entry; default "acmed"

	Owner string `mapstructure:"owner"` // user name or number; "" keeps it
	Group string `mapstructure:"group"` // group name or number; "" keeps it
	Mode  string `mapstructure:"mode"`  // octal, of files that hold the key; default "0600", with a group "0640"; others get no access

	AllowSharedDir bool `mapstructure:"allow_shared_dir"` // accept a directory in which others can write

	Unit          string        `mapstructure:"unit"`           // systemd unit to reload; never started
	Reload        []string      `mapstructure:"reload"`         // command to run instead, absolute program first
	ReloadTimeout time.Duration `mapstructure:"reload_timeout"` // default 1m

	Verify     []string      `mapstructure:"verify"`      // endpoints: host:port, host:port/server.name, smtp://host:port
	VerifyWait time.Duration `mapstructure:"verify_wait"` // how long they may take to serve the new certificate; default 30s
}

const (
	defaultMode  fs.FileMode = 0o600
	groupMode    fs.FileMode = 0o640
	publicMode   fs.FileMode = 0o644
	defaultAlias             = "acmed"
	defaultWait              = 30 * time.Second
)

var (
	fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$`)
	unitName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9:_.@\\-]{0,254}$`)
	account  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10})$`)
)

// Validate reports everything that is wrong with the configuration at once. It touches neither network nor disk.
func (c *Config) Validate() error {
	return errors.Join(c.checkDir(), c.checkNames(), c.checkSecrets(), c.checkOwner(), c.checkReload(), c.checkVerify())
}

func (c *Config) checkDir() error {
	if !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("dir: %q is not an absolute path", c.Dir)
	}
	return nil
}

// format is one of the files that can be written, by the name of its configuration field.
type format struct {
	field, name string
}

func (c *Config) formats() []format {
	all := []format{
		{"cert", c.Cert}, {"chain", c.Chain}, {"fullchain", c.FullChain}, {"key", c.Key}, {"combined", c.Combined},
		{"der", c.DER}, {"der_key", c.DERKey}, {"pkcs12", c.PKCS12}, {"jks", c.JKS},
	}
	var wanted []format
	for _, f := range all {
		if f.name != "" {
			wanted = append(wanted, f)
		}
	}
	if wanted == nil {
		return []format{{"cert", "cert.pem"}, {"chain", "chain.pem"}, {"fullchain", "fullchain.pem"}, {"key", "privkey.pem"}}
	}
	return wanted
}

// twinName puts "-rsa" before the extension.
func twinName(name string) string {
	ext := filepath.Ext(name)
	return strings.TrimSuffix(name, ext) + "-rsa" + ext
}

func (c *Config) checkNames() error {
	var errs []error
	taken := map[string]string{}
	for _, f := range c.formats() {
		if !fileName.MatchString(f.name) {
			errs = append(errs, fmt.Errorf("%s: %q is not a plain file name (letters, digits, \"._+-\", no slash)", f.field, f.name))
			continue
		}
		for _, name := range []string{f.name, twinName(f.name)} {
			if other, found := taken[name]; found && other != f.field {
				errs = append(errs, fmt.Errorf("%s: %q is also written for %s", f.field, name, other))
			}
			taken[name] = f.field
		}
	}
	return errors.Join(errs...)
}

func (c *Config) checkSecrets() error {
	needs := c.PKCS12 != "" || c.JKS != ""
	switch {
	case needs && c.PasswordFile == "":
		return errors.New("password_file: pkcs12 and jks need one")
	case !needs && c.PasswordFile != "":
		return errors.New("password_file: only pkcs12 and jks use one")
	case needs && !filepath.IsAbs(c.PasswordFile):
		return fmt.Errorf("password_file: %q is not an absolute path", c.PasswordFile)
	case c.Alias != "" && c.JKS == "":
		return errors.New("alias: only jks uses one")
	}
	return nil
}

func (c *Config) checkOwner() error {
	var errs []error
	if c.Owner != "" && !account.MatchString(c.Owner) {
		errs = append(errs, fmt.Errorf("owner: %q is neither a user name nor a number", c.Owner))
	}
	if c.Group != "" && !account.MatchString(c.Group) {
		errs = append(errs, fmt.Errorf("group: %q is neither a group name nor a number", c.Group))
	}
	if _, err := c.mode(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Config) mode() (fs.FileMode, error) {
	switch {
	case c.Mode == "" && c.Group != "":
		return groupMode, nil
	case c.Mode == "":
		return defaultMode, nil
	}
	n, err := strconv.ParseUint(c.Mode, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("mode: %q is not an octal mode such as \"0640\"", c.Mode)
	}
	mode := fs.FileMode(n)
	if mode&0o007 != 0 {
		return 0, fmt.Errorf("mode: %q gives others access to the private key", c.Mode)
	}
	if mode&0o400 == 0 {
		return 0, fmt.Errorf("mode: %q does not let the owner read", c.Mode)
	}
	return mode, nil
}

func (c *Config) checkReload() error {
	var errs []error
	if c.Unit != "" && len(c.Reload) > 0 {
		errs = append(errs, errors.New("unit and reload: give one of them"))
	}
	if c.Unit != "" && !unitName.MatchString(c.Unit) {
		errs = append(errs, fmt.Errorf("unit: %q is not the name of a systemd unit", c.Unit))
	}
	if len(c.Reload) > 0 && !filepath.IsAbs(c.Reload[0]) {
		errs = append(errs, fmt.Errorf("reload: %q is not an absolute path; for a systemd service use unit", c.Reload[0]))
	}
	if c.ReloadTimeout < 0 || c.VerifyWait < 0 {
		errs = append(errs, errors.New("reload_timeout and verify_wait: a duration is negative"))
	}
	return errors.Join(errs...)
}

func (c *Config) checkVerify() error {
	var errs []error
	for _, text := range c.Verify {
		if _, err := endpoint.Parse(text); err != nil {
			errs = append(errs, fmt.Errorf("verify: %w", err))
		}
	}
	return errors.Join(errs...)
}
