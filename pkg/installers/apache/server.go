package apache

import (
	"context"
	"fmt"
	"slices"

	"github.com/acmed/acmed/pkg/installers"
)

// ServerKey tells the Apache of one target from that of another: targets with the same key share one
// [installers.Server].
func (c *Config) ServerKey() string {
	d := c.withDefaults()
	return fmt.Sprintf("apache %q", slices.Concat([]string{d.Binary, d.Root, d.Config, d.PIDFile, d.Unit}, d.Test, []string{""}, d.Reload))
}

// NewServer makes the server that c describes: how it is tested and reloaded, and how to know whether it runs. It
// touches neither network nor disk.
func NewServer(c Config) *installers.Server {
	d := c.withDefaults()
	test := installers.Command{Argv: d.Test, Timeout: d.Timeout}
	if len(test.Argv) == 0 {
		test.Argv = d.argv("-t")
	}
	reload := installers.Command{Argv: d.Reload, Timeout: d.Timeout}
	switch {
	case len(reload.Argv) > 0:
	case d.PIDFile != "":
		reload.Argv = d.argv("-k", "graceful")
	default:
		reload = installers.SystemdReload(d.Unit)
		reload.Timeout = d.Timeout
	}
	name := "Apache"
	if d.Config != "" {
		name += " (" + d.Config + ")"
	}
	return installers.NewServer(name, test, reload, d.active())
}

// argv is Apache itself with the operator's root and configuration.
func (c *Config) argv(args ...string) []string {
	list := []string{c.Binary}
	if c.Root != "" {
		list = append(list, "-d", c.Root)
	}
	if c.Config != "" {
		list = append(list, "-f", c.Config)
	}
	return append(list, args...)
}

// active asks the process itself where a pid_file is given and systemd where a unit is; it is nil when only a reload
// command is, which then has to know. "-k graceful" starts a stopped server, so it is never run without asking.
func (c *Config) active() func(context.Context) (bool, error) {
	switch {
	case c.PIDFile != "":
		return installers.PIDFileActive(c.PIDFile, "apache2", "httpd")
	case c.Unit != "":
		return installers.SystemdActive(c.Unit)
	}
	return nil
}

// checkPIDFile makes sure that "-k graceful" signals the process that was asked whether it runs.
func (c *Config) checkPIDFile(f *facts) error {
	if c.PIDFile == "" || len(c.Reload) > 0 || f.pidFile == c.PIDFile {
		return nil
	}
	return fmt.Errorf("pid_file: it is %s, but Apache's own PidFile is %q: make them the same", c.PIDFile, f.pidFile)
}
