package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/installd"
	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/store"
)

// helperIdle is how long the root helper stays without anything to do. A batch of renewals keeps it; between batches
// nothing of acmed runs as root.
const helperIdle = time.Minute

// RunHelper is the root helper: it installs what the daemon sends over the socket that systemd opened, until ctx ends or
// nobody asked for a minute. Options.Config is the path of installd.yaml.
func RunHelper(ctx context.Context, o Options) (err error) {
	c, warnings, err := config.LoadHelper(o.Config)
	if err != nil {
		return err
	}
	log, err := NewLogger(c.Log, o.LogTo)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.Warn("configuration", zap.String("warning", w.String()))
	}
	daemon, err := userID(c.User)
	if err != nil {
		return fmt.Errorf("%s: user: %w", o.Config, err)
	}
	sockets, err := systemd.Sockets()
	if err != nil {
		return err
	}
	if len(sockets) != 1 {
		return fmt.Errorf("got %d sockets from systemd, not one; the helper is started by acmed-installd.socket", len(sockets))
	}
	copies, err := store.Open(c.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copies.Close()) }()
	targets, err := helperTargets(c, copies, log)
	if err != nil {
		return err
	}
	for name, t := range targets {
		if err := t.Recover(ctx); err != nil {
			log.Error("an interrupted installation could not be put back", zap.String("target", name), zap.Error(err))
		}
	}
	server := installd.NewServer(installd.ServerConfig{Targets: targets, Users: []int{daemon}, Idle: helperIdle, Log: log})
	if err := systemd.Notify(systemd.Ready, systemd.Status(fmt.Sprintf("%d targets", len(targets)))); err != nil {
		log.Debug("systemd was not told", zap.Error(err))
	}
	return server.Run(ctx, sockets[0].Listener)
}

// CheckHelper reads installd.yaml and builds everything in it, and says how many targets there are. It changes nothing.
func CheckHelper(path string) (targets int, warnings []config.Warning, err error) {
	c, warnings, err := config.LoadHelper(path)
	if err != nil {
		return 0, nil, err
	}
	_, err = helperTargets(c, nil, zap.NewNop())
	return len(c.Targets), warnings, err
}

// helperTargets builds the targets. Without copies they are good for nothing but to know that it works.
func helperTargets(c *config.Helper, copies *store.Store, log *zap.Logger) (map[string]*installd.Target, error) {
	b := newBuilder(copies, log, "")
	targets := make(map[string]*installd.Target, len(c.Targets))
	for i := range c.Targets {
		t := &c.Targets[i]
		paths := store.PathsIn(c.StateDir, t.Name)
		installer, err := b.installer(&t.Install, installers.Target{
			Certificate: t.Name, Names: t.Identifiers(), Journal: journal(c.StateDir, t.Name, t.Install.ID()),
			Cert: paths.Cert, Chain: paths.Chain, FullChain: paths.FullChain, Key: paths.Key,
		})
		if err != nil {
			return nil, fmt.Errorf("targets[%s]: %w", t.Name, err)
		}
		targets[t.Name] = installd.NewTarget(t.Name, t.Identifiers(), installer, copies, time.Now)
	}
	return targets, nil
}

func userID(name string) (int, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("%w; the package makes it, and so does: systemd-sysusers", err)
	}
	return strconv.Atoi(u.Uid)
}
