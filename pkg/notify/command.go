package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
)

// CommandConfig is a program that is told.
type CommandConfig struct {
	// Run is a program with its arguments, never through a shell. It gets the event as JSON on its standard input, and
	// ACMED_EVENT, ACMED_CERTIFICATE, ACMED_NAMES, ACMED_TARGET, ACMED_MESSAGE and ACMED_ERROR in its environment.
	Run []string `mapstructure:"run"`
	// Timeout is for one run, at most 30s. Default 20s.
	Timeout time.Duration `mapstructure:"timeout"`
}

// Validate reports what is wrong, each at its key.
func (c *CommandConfig) Validate() error {
	if len(c.Run) == 0 || !filepath.IsAbs(c.Run[0]) {
		return errors.Join(errors.New("run: the first word is the absolute path of a program"), checkTimeout(c.Timeout))
	}
	return checkTimeout(c.Timeout)
}

// Runner runs a program with these variables added to a clean environment, and this input.
type Runner func(ctx context.Context, argv, env []string, stdin []byte) error

// Command runs a program for each event.
type Command struct {
	conf CommandConfig
	run  Runner
}

var _ Sender = (*Command)(nil)

// NewCommand returns a sender that starts its program with run.
func NewCommand(c CommandConfig, run Runner) *Command { return &Command{conf: c, run: run} }

// Send runs the program for each event in turn; one that exits other than with 0 is run again later.
func (c *Command) Send(ctx context.Context, events []Event) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.conf.Timeout, 20*time.Second))
	defer cancel()
	for i := range events {
		e := &events[i]
		body, err := json.Marshal(e)
		if err != nil {
			return err
		}
		env := []string{"ACMED_EVENT=" + string(e.Kind), "ACMED_EVENT_ID=" + e.ID, "ACMED_MESSAGE=" + text.Line(e.Message, errorText)}
		for _, v := range [][2]string{
			{"ACMED_CERTIFICATE", e.Certificate}, {"ACMED_NAMES", strings.Join(e.Names, " ")}, {"ACMED_TARGET", e.Target},
			{"ACMED_ERROR", e.Error}, {"ACMED_RECOVERS", string(e.Recovers)},
		} {
			if v[1] != "" {
				env = append(env, v[0]+"="+text.Line(v[1], errorText))
			}
		}
		if !e.NotAfter.IsZero() {
			env = append(env, "ACMED_NOT_AFTER="+e.NotAfter.UTC().Format(time.RFC3339))
		}
		if err := c.run(ctx, c.conf.Run, env, body); err != nil {
			return fmt.Errorf("command: %w", err)
		}
	}
	return nil
}
