package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/renewal"
)

// grace is how long running orders get to end after a stop was asked for. After it they are cancelled, take their
// challenges away, and are resumed or dropped at the next start. With that, a stop takes at most a minute.
const grace = 55 * time.Second

// Run serves until ctx ends, then stops in good order: no new jobs, running ones end or are cancelled after the grace
// time, the socket closes last so that commands hear how it went.
func (d *Daemon) Run(ctx context.Context) error {
	scheduler, err := d.newScheduler()
	if err != nil {
		return err
	}
	listener, err := control.Listen(d.config.Socket)
	if err != nil {
		return err
	}
	server := control.NewServer(d, d.log.Named("control"))
	d.mu.Lock()
	d.scheduler = scheduler
	err = d.builder.answerSockets(ctx)
	// Renewals go on without a status page; a reload tries again.
	if siteErr := switchTo(ctx, d.config, []step{d.nextSite}); siteErr != nil {
		d.log.Error("no status page", zap.Error(siteErr))
	}
	d.mu.Unlock()
	if err != nil {
		return errors.Join(err, listener.Close())
	}

	d.hub.Start()
	if d.member != nil {
		d.mu.Lock()
		d.hold(ctx)
		d.mu.Unlock()
		d.member.start()
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(guard.Err(func() error { return server.Serve(listener) }))
	group.Go(guard.Err(func() error { scheduler.Run(ctx); return nil }))
	group.Go(guard.Err(func() error { d.reloadOnHangup(ctx); return nil }))
	guard.Go(d.log, "removing old answers", func() { d.recoverRecords(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		return d.stop(server)
	})
	d.log.Info("started", zap.String("version", d.opts.Version), zap.Int("certificates", len(d.config.Certificates)),
		zap.String("state", d.config.StateDir))
	d.tellSystemd(systemd.Ready)
	return group.Wait()
}

func (d *Daemon) newScheduler() (s *renewal.Scheduler, err error) {
	s, err = renewal.NewScheduler(renewal.SchedulerConfig{
		Engine: d.engine, Log: d.log, Schedule: d.config.Renewal.Schedule, Splay: d.config.Renewal.Splay,
		Beat: func() { d.tellSystemd(systemd.Watchdog, systemd.Status(statusLine(s.Summary()))) }, BeatEvery: systemd.WatchdogInterval(),
	})
	return s, err
}

// statusLine is what "systemctl status" shows.
func statusLine(s renewal.Summary) string {
	attention := fmt.Sprintf("%d need attention", s.Attention)
	switch s.Attention {
	case 0:
		attention = "none needs attention"
	case 1:
		attention = "1 needs attention"
	}
	return fmt.Sprintf("%s, %s; next look at %s", text.Count(s.Certificates, "certificate"), attention, text.Stamp(s.Next))
}

// stop ends the running jobs and then the socket.
func (d *Daemon) stop(server *control.Server) error {
	d.tellSystemd(systemd.Stopping)
	d.log.Info("stopping", zap.Duration("grace", grace))
	wait, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	d.engine.Close(wait)
	d.mu.Lock()
	d.closeSite(wait)
	d.mu.Unlock()
	d.hub.EndFollowers()
	last, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	d.log.Info("stopped")
	return nil
}

func (d *Daemon) reloadOnHangup(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			_ = d.Reload(ctx) // logged there, and shown by status
		}
	}
}

// recoverRecords removes TXT records and challenge files that a killed acmed left. What cannot be removed stays in the journal for
// the next start.
func (d *Daemon) recoverRecords(ctx context.Context) {
	d.mu.Lock()
	solvers, files := d.builder.rungs, d.builder.files
	d.mu.Unlock()
	if files != nil {
		if err := files.Recover(); err != nil {
			d.log.Warn("challenge files of an earlier run are still in a webroot", zap.Error(err))
		}
	}
	for name, rung := range solvers {
		solver, ok := rung.Solver.(*dns01.Solver)
		if !ok {
			continue
		}
		if err := solver.Recover(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn("challenge records of an earlier run are still in the DNS", zap.String("solver", name), zap.Error(err))
		}
	}
}

func (d *Daemon) tellSystemd(states ...string) {
	if err := systemd.Notify(states...); err != nil {
		d.log.Debug("systemd was not notified", zap.Strings("states", states), zap.Error(err))
	}
}
