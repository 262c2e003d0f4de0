package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/cmd/acmed/internal/web"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
)

// site is the running status page with what it was made from.
type site struct {
	conf     config.Web
	server   *web.Server
	listener net.Listener
}

// nextSite prepares the status page that c asks for. A new one listens before the old one ends; at the same address they
// share the socket.
func (d *Daemon) nextSite(ctx context.Context, c *config.Config) (prepared, error) {
	conf := c.Web
	if reflect.DeepEqual(conf, d.site.conf) && (d.site.server != nil || conf.Listen == "") {
		return prepared{}, nil
	}
	if conf.Listen == "" {
		return prepared{commit: func() { d.closeSite(ctx) }}, nil
	}
	l, err := d.listenSite(ctx, conf.Listen)
	if err != nil {
		return prepared{}, fmt.Errorf("web.listen: %w; is another program there?", err)
	}
	next := site{conf, web.New(web.Config{Source: shown{d}, Recorder: d.recorder, Hosts: siteNames(conf), Log: d.log.Named("web")}), l}
	return prepared{
		commit: func() {
			guard.Go(d.log, "status page", func() {
				if err := next.server.Serve(l); err != nil {
					d.log.Error("status page ended", zap.Error(err))
				}
			})
			d.log.Info("status page", zap.String("url", "http://"+l.Addr().String()+"/"))
			d.closeSite(ctx)
			d.site = next
		},
		undo: func() { _ = l.Close() }, // nobody was served
	}, nil
}

func (d *Daemon) listenSite(ctx context.Context, address string) (net.Listener, error) {
	if old, ok := d.site.listener.(*net.TCPListener); ok && address == d.site.conf.Listen {
		f, err := old.File()
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // the listener has its own
		return net.FileListener(f)
	}
	var listening net.ListenConfig
	return listening.Listen(ctx, "tcp", address)
}

// closeSite ends the status page. Its visitors get a moment for what they are reading.
func (d *Daemon) closeSite(ctx context.Context) {
	if d.site.server == nil {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := d.site.server.Shutdown(last); err != nil {
		d.log.Debug("status page not closed cleanly", zap.Error(err))
	}
	d.site = site{}
}

// siteNames are those by which the status page may be called: this machine's own, and those configured.
func siteNames(conf config.Web) []string {
	list := slices.Clone(conf.Hosts)
	if host, err := os.Hostname(); err == nil {
		list = append(list, host)
	}
	return list
}

// shown is what the status page may see of the daemon.
type shown struct{ d *Daemon }

var _ web.Source = shown{}

// Snapshot describes the daemon and every certificate. One whose state cannot be read is shown with the reason.
func (s shown) Snapshot(ctx context.Context) (*web.Snapshot, error) {
	s.d.mu.Lock()
	snapshot := &web.Snapshot{
		Version: s.d.opts.Version, Started: s.d.started, Reloaded: s.d.reloaded, ReloadError: s.d.reloadError != "",
	}
	s.d.mu.Unlock()
	var err error
	if snapshot.Host, err = os.Hostname(); err != nil {
		s.d.log.Debug("this machine has no name", zap.Error(err))
	}
	known := s.d.engine.Names()
	slices.SortFunc(known, strings.Compare)
	snapshot.Certificates = s.d.lost(func(string) bool { return true })
	for _, name := range known {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		status, err := s.d.engine.Status(name)
		if err != nil {
			if _, configured := s.d.engine.Certificate(name); !configured {
				continue // a reload came in between
			}
			status = unreadable(name, err)
		}
		snapshot.Certificates = append(snapshot.Certificates, status)
	}
	snapshot.Conditions, snapshot.Fleet = s.d.conditions(), s.d.fleetShown(snapshot.Certificates, time.Now())
	return snapshot, nil
}

// Certificate describes one certificate in full.
func (s shown) Certificate(_ context.Context, name string) (renewal.Status, error) {
	if _, ok := s.d.engine.Certificate(name); !ok {
		return renewal.Status{}, web.ErrUnknown
	}
	status, err := s.d.engine.Detail(name)
	if err != nil {
		return unreadable(name, err), nil
	}
	return status, nil
}

func unreadable(name string, err error) renewal.Status {
	return renewal.Status{
		Name: name, Names: []string{}, Health: renewal.HealthFailing, Message: "its state cannot be read", Error: err.Error(), Code: advice.Of(err),
	}
}

// Progress asks the scheduler.
func (s shown) Progress() error {
	s.d.mu.Lock()
	scheduler := s.d.scheduler
	s.d.mu.Unlock()
	if scheduler == nil {
		return renewal.ErrStarting
	}
	return scheduler.Progress()
}
