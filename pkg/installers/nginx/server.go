package nginx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/acmed/acmed/pkg/installers"
)

// ServerKey tells the nginx of one target from that of another: targets with the same key share one [installers.Server].
func (c *Config) ServerKey() string {
	d := c.withDefaults()
	return fmt.Sprintf("nginx %q", slices.Concat([]string{d.Binary, d.Config, d.Prefix, d.PIDFile, d.Unit}, d.Test, []string{""}, d.Reload))
}

// NewServer makes the server that c describes: how it is tested and reloaded, and how to know whether it runs. It
// touches neither network nor disk.
func NewServer(c Config) *installers.Server {
	d := c.withDefaults()
	test := installers.Command{Argv: d.Test, Timeout: d.Timeout}
	if len(test.Argv) == 0 {
		test.Argv = d.argv("-t", "-q")
	}
	reload := installers.Command{Argv: d.Reload, Timeout: d.Timeout}
	switch {
	case len(reload.Argv) > 0:
	case d.PIDFile != "":
		reload.Argv = d.argv("-s", "reload")
	default:
		reload = installers.SystemdReload(d.Unit)
		reload.Timeout = d.Timeout
	}
	name := "nginx"
	if d.Config != "" {
		name += " (" + d.Config + ")"
	}
	return installers.NewServer(name, test, reload, d.active())
}

// argv is nginx itself with the operator's prefix and configuration.
func (c *Config) argv(args ...string) []string {
	list := append([]string{c.Binary}, args...)
	if c.Prefix != "" {
		list = append(list, "-p", c.Prefix)
	}
	if c.Config != "" {
		list = append(list, "-c", c.Config)
	}
	return list
}

// active asks the process itself where a pid_file is given and systemd where a unit is; it is nil when only a reload
// command is, which then has to know.
func (c *Config) active() func(context.Context) (bool, error) {
	switch {
	case c.PIDFile != "":
		return installers.PIDFileActive(c.PIDFile, "nginx")
	case c.Unit != "":
		return installers.SystemdActive(c.Unit)
	}
	return nil
}

// build is what an nginx binary says about itself.
type build struct {
	config, prefix, errorLog string
	http2                    http2Form
}

// firstDirective is the version from which on "http2" is a directive of its own.
func firstDirective() []int { return []int{1, 25, 1} }

var (
	versionPattern = regexp.MustCompile(`nginx version: [^/\s]+/(\d+)\.(\d+)\.(\d+)`)
	optionPattern  = regexp.MustCompile(`--(prefix|conf-path|error-log-path)=(\S+)`)
)

// inspect asks the binary for its version and its paths. Without an answer the operator's own settings have to do.
func (c *Config) inspect(ctx context.Context) (build, error) {
	command := installers.Command{Argv: []string{c.Binary, "-V"}, Timeout: c.Timeout, WithStderr: true}
	out, err := command.Run(ctx)
	var info build
	if err == nil {
		info, err = parseBuild(string(out))
	}
	if err != nil && (c.Config == "" || c.HTTP2) {
		return build{}, fmt.Errorf("ask nginx for its version and paths: %w", err)
	}
	setDefault(&info.prefix, "/usr/local/nginx")
	setDefault(&info.config, "conf/nginx.conf")
	setDefault(&info.errorLog, "logs/error.log")
	if c.Prefix != "" {
		info.prefix = c.Prefix
	}
	if c.Config != "" {
		info.config = c.Config
	}
	info.config = under(info.prefix, info.config)
	return info, nil
}

func parseBuild(text string) (build, error) {
	var info build
	v := versionPattern.FindStringSubmatch(text)
	if v == nil {
		return info, errors.New("the answer of nginx -V has no version")
	}
	version := make([]int, 3)
	for i := range version {
		version[i], _ = strconv.Atoi(v[i+1]) // digits only; a number that overflows is newer than all
	}
	if slices.Compare(version, firstDirective()) < 0 {
		info.http2 = http2Param
	}
	for _, m := range optionPattern.FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "prefix":
			info.prefix = m[2]
		case "conf-path":
			info.config = m[2]
		case "error-log-path":
			info.errorLog = m[2]
		}
	}
	return info, nil
}

func under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
