package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/installers/fileset"
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
	Mode  string `mapstructure:"mode"`  // octal, of files that hold the key; default "0600", with a group "0640", plus what an existing file gives its group; others get no access

	AllowSharedDir bool `mapstructure:"allow_shared_dir"` // accept a directory in which others can write

	Unit          string             `mapstructure:"unit"`           // systemd unit to reload; never started
	Reload        []string           `mapstructure:"reload"`         // command to run instead, absolute program first
	Container     *fileset.Container `mapstructure:"container"`      // container whose server is reloaded instead
	ReloadTimeout time.Duration      `mapstructure:"reload_timeout"` // default 1m

	Verify     []string      `mapstructure:"verify"`      // endpoints: host:port, host:port/server.name, smtp://host:port
	VerifyWait time.Duration `mapstructure:"verify_wait"` // how long they may take to serve the new certificate; default 30s
}

const defaultAlias = "acmed"

var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$`)

// Validate reports everything that is wrong with the configuration at once. It touches neither network nor disk.
func (c *Config) Validate() error {
	settings := c.settings()
	return errors.Join(c.checkDir(), c.checkNames(), c.checkSecrets(), settings.Validate())
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

// ServerKey tells what is reloaded for one target from that for another; "" when nothing is.
func (c *Config) ServerKey() string {
	switch {
	case c.Container != nil:
		return fmt.Sprintf("container %q", *c.Container)
	case c.Unit != "":
		return "unit " + c.Unit
	case len(c.Reload) > 0:
		return fmt.Sprintf("reload %q", c.Reload)
	}
	return ""
}

func (c *Config) settings() fileset.Settings {
	return fileset.Settings{
		Owner: c.Owner, Group: c.Group, Mode: c.Mode, Unit: c.Unit, Reload: c.Reload, Container: c.Container, ReloadTimeout: fileset.Bound{Key: "reload_timeout", Duration: c.ReloadTimeout},
		Verify: c.Verify, Wait: fileset.Bound{Key: "verify_wait", Duration: c.VerifyWait},
	}
}
