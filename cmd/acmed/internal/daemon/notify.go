package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
)

// What still waits to be told is delivered after the jobs have ended, for a time: short for a daemon, which has used most
// of its grace, longer for a command, which may not come again soon. The rest is kept for the next start.
const (
	drain        = 3 * time.Second
	drainCommand = 15 * time.Second
)

// newHub returns the hub with what an earlier process left.
func (d *Daemon) newHub(stateDir string) *notify.Hub {
	host, err := os.Hostname()
	if err != nil {
		d.log.Debug("this machine has no name", zap.Error(err))
	}
	return notify.NewHub(notify.HubConfig{
		File: filepath.Join(stateDir, "notify.json"), Host: host, Log: d.log.Named("notify"),
		Count: d.recorder.Notification, Summary: d.summary,
	})
}

func (d *Daemon) closeHub() {
	patience := drainCommand
	if d.describe() != nil {
		patience = drain
	}
	wait, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d.hub.Close(wait)
}

// Events passes on what happens.
func (d *Daemon) Events(ctx context.Context, r control.EventsRequest, event func(notify.Event) error) error {
	err := d.hub.Follow(ctx, r.Since, event)
	switch {
	case errors.Is(err, notify.ErrSlow):
		return &control.Error{Code: control.CodeSlow, Message: "this reader was too slow, and events were lost; ask again with since"}
	case errors.Is(err, notify.ErrClosed):
		return &control.Error{Code: control.CodeStopping, Message: err.Error()}
	}
	return err
}

// channels makes the notifiers.
func channels(c *config.Config) ([]notify.Channel, error) {
	list := make([]notify.Channel, 0, len(c.Notify))
	for i := range c.Notify {
		made, err := c.Notify[i].Channel(c, runNotifier)
		if err != nil {
			return nil, fmt.Errorf("notify[%s]: %w", c.Notify[i].Name, err)
		}
		list = append(list, made)
	}
	return list, nil
}

// runNotifier runs a program under the rules for all programs.
func runNotifier(ctx context.Context, argv, env []string, stdin []byte) error {
	_, err := installers.Command{Argv: argv, Env: env, Stdin: stdin}.Run(ctx)
	return err
}

// summary describes every certificate for a digest.
func (d *Daemon) summary(ctx context.Context) []notify.State {
	known := d.engine.Names()
	slices.Sort(known)
	list := make([]notify.State, 0, len(known))
	for _, name := range known {
		if ctx.Err() != nil {
			return list
		}
		s, err := d.engine.Status(name)
		if err != nil {
			s = unreadable(name, err)
		}
		list = append(list, digestState(&s))
	}
	return list
}

func digestState(s *renewal.Status) notify.State {
	state := notify.State{
		Certificate: s.Name, State: string(s.Health), Attention: s.Health != renewal.HealthOK, NotAfter: s.NotAfter, Error: s.Error,
	}
	switch {
	case state.Error != "":
	case s.Held != nil:
		state.Error = s.Held.Reason
	case s.Hook != nil:
		state.Error = s.Hook.Error
	default:
		for _, t := range s.Targets {
			if !t.Off && t.Error != "" {
				state.Error = t.ID + ": " + t.Error
			}
		}
	}
	return state
}

// TestNotify sends a test event to notifiers.
func (d *Daemon) TestNotify(ctx context.Context, r control.NotifyRequest) (control.NotifyReport, error) {
	report := control.NotifyReport{Version: control.Version, Notifiers: []control.NotifierDelivery{}}
	results, err := d.hub.Test(ctx, r.Names...)
	if err != nil {
		return report, &control.Error{Code: control.CodeUnknown, Message: err.Error()}
	}
	if len(results) == 0 {
		return report, &control.Error{Code: control.CodeUsage, Message: "no notifier is configured; add one under notify"}
	}
	for _, res := range results {
		delivery := control.NotifierDelivery{Name: res.Name, Type: res.Type}
		if res.Err != nil {
			delivery.Error = res.Err.Error()
		}
		report.Notifiers = append(report.Notifiers, delivery)
	}
	return report, nil
}
