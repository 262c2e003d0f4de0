package ssh

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/installers/fileset"
)

// Config is a directory of another machine. File names are relative to Dir and have no slash; a format whose name is empty is
// not written. When no name is given at all, cert.pem, chain.pem, fullchain.pem and privkey.pem are. The RSA certificate of a
// dual one is written beside each with "-rsa" before the extension.
type Config struct {
	Host string `mapstructure:"host"` // name or address, with ":port" where it is not 22
	User string `mapstructure:"user"` // to log in as

	KnownHosts string `mapstructure:"known_hosts"` // absolute path of a file with the machine's host key, as OpenSSH keeps it
	HostKey    string `mapstructure:"host_key"`    // or its fingerprint, SHA256:..., as ssh-keygen -l prints it
	KeyFile    string `mapstructure:"key_file"`    // private key to log in with, without a passphrase
	Agent      string `mapstructure:"agent"`       // or the absolute path of an agent's socket

	Dir       string `mapstructure:"dir"`       // absolute; must exist there
	Cert      string `mapstructure:"cert"`      // PEM: the leaf
	Chain     string `mapstructure:"chain"`     // PEM: the issuers
	FullChain string `mapstructure:"fullchain"` // PEM: leaf and issuers
	Key       string `mapstructure:"key"`       // PEM: the private key
	Combined  string `mapstructure:"combined"`  // PEM: leaf, issuers, private key

	Owner string `mapstructure:"owner"` // number of a user there; "" keeps it
	Group string `mapstructure:"group"` // number of a group there; "" keeps it
	Mode  string `mapstructure:"mode"`  // octal, of files that hold the key; default "0600", with a group "0640", plus what an existing file gives its group

	Reload  []string      `mapstructure:"reload"`  // command to run there: a program and its arguments, each passed on as it is
	Timeout time.Duration `mapstructure:"timeout"` // bound on a connection and on the command; default 1m

	Verify     []string      `mapstructure:"verify"`      // endpoints, seen from here: host:port, host:port/server.name, smtp://host:port
	VerifyWait time.Duration `mapstructure:"verify_wait"` // how long they may take to serve the new certificate; default 30s
}

const (
	defaultPort    = "22"
	defaultTimeout = time.Minute
)

var (
	fileName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$`)
	hostName    = regexp.MustCompile(`^[A-Za-z0-9_.:%-]{1,253}$`)
	userName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}$`)
	fingerprint = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)
	number      = regexp.MustCompile(`^[0-9]{1,10}$`)
)

// Validate reports everything that is wrong with the configuration at once. It touches neither network nor disk.
func (c *Config) Validate() error {
	settings := c.settings()
	errs := []error{c.checkHost(), c.checkKeys(), c.checkFiles()}
	for _, id := range []struct{ key, value string }{{"owner", c.Owner}, {"group", c.Group}} {
		if id.value != "" && !number.MatchString(id.value) {
			errs = append(errs, fmt.Errorf("%s: %q is not a number; names mean something else on each machine", id.key, id.value))
		}
	}
	if len(c.Reload) > 0 && c.Reload[0] == "" {
		errs = append(errs, errors.New("reload: the program is missing"))
	}
	for _, word := range c.Reload {
		if strings.ContainsAny(word, "\x00\n") {
			errs = append(errs, fmt.Errorf("reload: %q has a line break", word))
		}
	}
	return errors.Join(append(errs, settings.Validate())...)
}

func (c *Config) checkHost() error {
	var errs []error
	host, port := c.address()
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !hostName.MatchString(host) {
		errs = append(errs, fmt.Errorf("host: %q is not host or host:port", c.Host))
	}
	if !userName.MatchString(c.User) {
		errs = append(errs, fmt.Errorf("user: %q is not the name of a user", c.User))
	}
	return errors.Join(errs...)
}

// address is where to connect to.
func (c *Config) address() (host, port string) {
	if host, port, err := net.SplitHostPort(c.Host); err == nil {
		return host, port
	}
	return strings.Trim(c.Host, "[]"), defaultPort
}

func (c *Config) checkKeys() error {
	var errs []error
	switch {
	case (c.KnownHosts == "") == (c.HostKey == ""):
		errs = append(errs, errors.New("known_hosts: give one of known_hosts and host_key; 'ssh-keyscan HOST | ssh-keygen -lf -' shows the fingerprint, which you must compare"))
	case c.KnownHosts != "" && !filepath.IsAbs(c.KnownHosts):
		errs = append(errs, fmt.Errorf("known_hosts: %q is not an absolute path", c.KnownHosts))
	case c.HostKey != "" && !fingerprint.MatchString(c.HostKey):
		errs = append(errs, fmt.Errorf("host_key: %q is not a fingerprint such as SHA256:..., which ssh-keygen -l prints", c.HostKey))
	}
	switch {
	case (c.KeyFile == "") == (c.Agent == ""):
		errs = append(errs, errors.New("key_file: give one of key_file and agent"))
	case c.KeyFile != "" && !filepath.IsAbs(c.KeyFile) && !strings.HasPrefix(c.KeyFile, "$CREDENTIALS_DIRECTORY/"):
		errs = append(errs, fmt.Errorf("key_file: %q is not an absolute path", c.KeyFile))
	case c.Agent != "" && !filepath.IsAbs(c.Agent):
		errs = append(errs, fmt.Errorf("agent: %q is not an absolute path", c.Agent))
	}
	return errors.Join(errs...)
}

func (c *Config) checkFiles() error {
	var errs []error
	if !path.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("dir: %q is not an absolute path", c.Dir))
	}
	var taken []string
	for _, f := range c.formats() {
		for _, name := range []string{f.name, rsaName(f.name)} {
			if !fileName.MatchString(name) {
				errs = append(errs, fmt.Errorf("%s: %q is not a plain file name (letters, digits, \"._+-\", no slash)", f.field, name))
				break
			}
			if slices.Contains(taken, name) {
				errs = append(errs, fmt.Errorf("%s: %q is written twice", f.field, name))
			}
			taken = append(taken, name)
		}
	}
	return errors.Join(errs...)
}

// format is one of the files that can be written, by the name of its configuration field.
type format struct{ field, name string }

func (c *Config) formats() []format {
	all := []format{{"cert", c.Cert}, {"chain", c.Chain}, {"fullchain", c.FullChain}, {"key", c.Key}, {"combined", c.Combined}}
	all = slices.DeleteFunc(all, func(f format) bool { return f.name == "" })
	if len(all) == 0 {
		return []format{{"cert", "cert.pem"}, {"chain", "chain.pem"}, {"fullchain", "fullchain.pem"}, {"key", "privkey.pem"}}
	}
	return all
}

func rsaName(name string) string {
	ext := path.Ext(name)
	return strings.TrimSuffix(name, ext) + "-rsa" + ext
}

func (c *Config) settings() fileset.Settings {
	return fileset.Settings{
		Owner: c.Owner, Group: c.Group, Mode: c.Mode, ReloadTimeout: fileset.Bound{Key: "timeout", Duration: c.Timeout},
		Verify: c.Verify, Wait: fileset.Bound{Key: "verify_wait", Duration: c.VerifyWait},
	}
}

func (c *Config) timeout() time.Duration { return cmp.Or(c.Timeout, defaultTimeout) }

// HostID tells the machine and the login of one target from those of another: targets with the same share one [Host].
func (c *Config) HostID() string {
	host, port := c.address()
	return fmt.Sprintf("%q", []string{c.User, host, port, c.KnownHosts, c.HostKey, c.KeyFile, c.Agent})
}

// ServerID tells the servers of one machine apart, by how they are reloaded.
func (c *Config) ServerID() string { return fmt.Sprintf("%s %q", c.HostID(), c.Reload) }
