package command

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// Config is one target that a program installs. Programs are written as a list, the absolute path first and then the
// arguments; no shell reads them.
type Config struct {
	Run           []string      `mapstructure:"run"`            // installs the certificate; called again after a failure
	Check         []string      `mapstructure:"check"`          // exits with 0 when the certificate is in use, and changes nothing
	Verify        []string      `mapstructure:"verify"`         // endpoints: host:port, host:port/server.name, smtp://host:port
	Timeout       time.Duration `mapstructure:"timeout"`        // bound on each run; default 5m
	VerifyTimeout time.Duration `mapstructure:"verify_timeout"` // how long the endpoints may take to serve it; default 30s
}

const (
	// defaultTimeout suits programs that copy files to other machines; one that waits for people is not a program.
	defaultTimeout       = 5 * time.Minute
	defaultVerifyTimeout = 30 * time.Second
)

// Validate reports everything that is wrong with the configuration at once. It touches neither network nor disk.
func (c *Config) Validate() error {
	errs := []error{CheckArgv("run", c.Run)}
	if len(c.Run) == 0 {
		errs = append(errs, errors.New("run: the program is missing; write a list, the absolute path first"))
	}
	errs = append(errs, CheckArgv("check", c.Check))
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

// CheckArgv reports, beginning with the key, why a list cannot be a program with its arguments; an empty one is none.
func CheckArgv(key string, argv []string) error {
	if len(argv) == 0 || filepath.IsAbs(argv[0]) {
		return nil
	}
	return fmt.Errorf("%s: %q is not an absolute path; write [/absolute/path, argument, ...], which no shell reads", key, argv[0])
}
