package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/helper"
	"github.com/acmed/acmed/pkg/store"
)

const (
	// helperIdle is how long the root helper stays without anything to do. A batch of renewals keeps it; between batches
	// nothing of acmed runs as root.
	helperIdle = time.Minute
	// brokenIdle is the same for a helper that only says why it cannot work: mended, the next call finds a new one.
	brokenIdle = time.Second
)

// RunHelper is the root helper: it installs what the daemon sends over the socket that systemd opened, until ctx ends or
// nobody asked for a minute. Options.Config is the path of installd.yaml. With a configuration that cannot be used it
// tells so to whoever asks: failing at once, it would only be started again, and its clients would wait.
func RunHelper(ctx context.Context, o Options) error {
	sockets, err := systemd.Sockets()
	if err != nil {
		return err
	}
	if len(sockets) != 1 {
		return fmt.Errorf("got %d sockets from systemd, not one; the helper is started by acmed-installd.socket", len(sockets))
	}
	c, warnings, broken := config.LoadHelper(o.Config)
	if broken != nil {
		c = config.DefaultHelper()
	}
	log, err := NewLogger(c.Log, o.LogTo)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.Warn("configuration", zap.String("warning", w.String()))
	}
	conf, copies, err := helperServer(c, log)
	if copies != nil {
		defer func() { _ = copies.Close() }() // the lock ends with the process anyway
	}
	if broken = errors.Join(broken, err); broken != nil {
		log.Error("the helper cannot work", zap.Error(broken))
		conf.Broken, conf.Idle = broken, brokenIdle
	}
	for name, t := range conf.Targets {
		if err := t.Recover(ctx); err != nil {
			log.Error("an interrupted installation was not rolled back", zap.String("target", name), zap.Error(err))
		}
	}
	if err := systemd.Notify(systemd.Ready, systemd.Status(text.Count(len(conf.Targets), "target"))); err != nil {
		log.Debug("systemd was not notified", zap.Error(err))
	}
	return helper.NewServer(conf).Run(ctx, sockets[0].Listener)
}

// helperServer builds what c asks for. After an error the rest is good for telling so.
func helperServer(c *config.Helper, log *zap.Logger) (conf helper.ServerConfig, copies *store.Store, err error) {
	conf = helper.ServerConfig{Idle: helperIdle, Log: log}
	if conf.Users, err = users(c.User); err != nil {
		return conf, nil, err
	}
	if copies, err = store.Open(c.StateDir); err != nil {
		return conf, nil, err
	}
	conf.Targets, err = helperTargets(c, copies, log)
	return conf, copies, err
}

// CheckHelper reads installd.yaml and builds everything in it, and says how many targets there are. It changes nothing.
func CheckHelper(path string) (targets int, warnings []config.Warning, err error) {
	c, warnings, err := config.LoadHelper(path)
	if err != nil {
		return 0, nil, err
	}
	_, err = helperTargets(c, nil, zap.NewNop())
	_, noUser := users(c.User)
	return len(c.Targets), warnings, errors.Join(err, noUser)
}

// helperTargets builds the targets. Without copies they are good for nothing but to know that it works.
func helperTargets(c *config.Helper, copies *store.Store, log *zap.Logger) (map[string]*helper.Target, error) {
	b := newBuilder(copies, log, "")
	targets := make(map[string]*helper.Target, len(c.Targets))
	var errs []error
	for i := range c.Targets {
		t := &c.Targets[i]
		paths := store.PathsIn(c.StateDir, t.Name)
		installer, err := b.installer(&config.Config{}, &t.Install, installers.Target{
			Certificate: t.Name, Names: t.Identifiers(), Journal: journal(c.StateDir, t.Name, t.Install.ID()),
			Cert: paths.Cert, Chain: paths.Chain, FullChain: paths.FullChain, Key: paths.Key,
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("targets[%s]: %w", t.Name, err))
			continue
		}
		targets[t.Name] = helper.NewTarget(t.Name, t.Identifiers(), installer, copies, time.Now)
		targets[t.Name].AllowOlder = t.AllowOlder
		targets[t.Name].Ready = func(ctx context.Context) error {
			for _, q := range questions(&t.Install, installer) {
				if err := q.ask(ctx); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return targets, nil
}

func users(name string) ([]int, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user: %w; the package makes it, and so does: systemd-sysusers", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	return []int{uid}, err
}
