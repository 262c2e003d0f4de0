package dns01

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// ExecConfig is a program of one's own. It is run without a shell as COMMAND... present FQDN VALUE and
// COMMAND... cleanup FQDN VALUE, where FQDN has the final dot; exit status 0 means done.
type ExecConfig struct {
	Command []string `mapstructure:"command"` // the first element is an absolute path
	// EnvFile has the program's variables, mode 0600. Beside them it sees a minimal PATH and HOME only.
	EnvFile string `mapstructure:"env_file"`
}

func (c *ExecConfig) validate() error {
	switch {
	case len(c.Command) == 0:
		return errors.New("command: give the program and its arguments as a list")
	case !filepath.IsAbs(c.Command[0]):
		return fmt.Errorf("command: %q is not an absolute path", c.Command[0])
	case c.EnvFile != "" && !filepath.IsAbs(c.EnvFile):
		return fmt.Errorf("env_file: %q is not an absolute path", c.EnvFile)
	}
	return nil
}

type execProvider struct {
	command []string
	envFile string
	timeout time.Duration
}

// Present runs the program to set the record.
func (p *execProvider) Present(ctx context.Context, r Record) error { return p.run(ctx, "present", r) }

// CleanUp runs the program to remove the record.
func (p *execProvider) CleanUp(ctx context.Context, r Record) error { return p.run(ctx, "cleanup", r) }

func (p *execProvider) run(ctx context.Context, verb string, r Record) error {
	env, err := credentialEnv(p.envFile)
	if err != nil {
		return messenger(refused(err))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("it did not end within %s and was killed", p.timeout))
	defer cancel()
	var output tail
	proc, err := startProcess(append(append([]string(nil), p.command...), verb, r.FQDN, r.Value), environ(env), nil, &output, &output)
	if err != nil {
		return messenger(refused(err))
	}
	select {
	case <-proc.done:
		err = proc.err
	case <-ctx.Done():
		proc.kill()
		<-proc.done
		err = messenger(context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w%s", p.command[0], verb, err, output.quote(newRedactor(env)))
	}
	return nil
}
