package daemon

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// step prepares one part of a new configuration. All that can fail is in it, and nothing in use is touched.
type step func(context.Context, *config.Config) (prepared, error)

// prepared is what a step prepared. Commit puts it in use and cannot fail, undo drops it; either may be nil.
type prepared struct{ commit, undo func() }

// switchTo prepares all steps and then commits all. If one fails, everything is as before.
func switchTo(ctx context.Context, c *config.Config, steps []step) error {
	var ready []prepared
	for _, s := range steps {
		next, err := s(ctx, c)
		if err != nil {
			for _, p := range slices.Backward(ready) {
				if p.undo != nil {
					p.undo()
				}
			}
			return err
		}
		ready = append(ready, next)
	}
	for _, p := range ready {
		if p.commit != nil {
			p.commit()
		}
	}
	return nil
}

// steps are all parts of a configuration that a running daemon takes over.
func (d *Daemon) steps() []step {
	list := []step{d.nextChannels, d.nextWiring}
	if d.scheduler != nil {
		list = append(list, d.nextSchedule, d.nextSite)
	}
	return list
}

func (d *Daemon) nextChannels(_ context.Context, c *config.Config) (prepared, error) {
	list, err := channels(c)
	return prepared{commit: func() { d.hub.Swap(list) }}, err
}

func (d *Daemon) nextWiring(_ context.Context, c *config.Config) (prepared, error) {
	w, err := d.builder.build(c)
	if err != nil {
		return prepared{}, err
	}
	w.set.Notifier = notify.All{w.set.Notifier, d.hub}
	return prepared{
		commit: func() { d.builder.use(w); d.engine.Swap(w.set) },
		undo:   func() { d.builder.discard(w.issuers) },
	}, nil
}

func (d *Daemon) nextSchedule(_ context.Context, c *config.Config) (prepared, error) {
	if err := plan.CheckSchedule(c.Renewal.Schedule); err != nil {
		return prepared{}, err
	}
	return prepared{commit: func() {
		if err := d.scheduler.Reschedule(c.Renewal.Schedule, c.Renewal.Splay); err != nil {
			d.log.Error("the schedule stays as it was", zap.Error(err)) // it was checked
		}
	}}, nil
}
