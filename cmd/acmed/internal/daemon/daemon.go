package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/web"
	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

// Options makes a [Daemon].
type Options struct {
	Config  string    // path of acmed.yaml
	Version string    // of this program
	LogTo   io.Writer // where the log goes
	Quiet   bool      // no log: a command prints what happens itself
	// Unranked says that this process is a command: in a fleet it works at once and has no turn.
	Unranked bool
	Sockets  []systemd.Socket // for the responders of solvers; Close closes those that are used
}

// Daemon is acmed with its state directory locked and its configuration built. It is a control.Backend at once;
// [Daemon.Run] makes it a daemon.
type Daemon struct {
	opts    Options
	log     *zap.Logger
	store   *store.Store
	engine  *renewal.Engine
	builder *builder
	hub     *notify.Hub
	member  *member // of a fleet; nil on a single machine
	started time.Time

	recorder *web.Recorder

	mu          sync.Mutex // one reload at a time; guards what follows
	config      *config.Config
	reloaded    time.Time // when config was read
	reloadError string
	problems    *config.Error      // of the files of config that are not in use as they are; nil when all are
	refused     error              // why the last reload changed nothing; nil when it did
	writable    writable           // whether the state directory takes files
	scheduler   *renewal.Scheduler // nil until Run
	site        site               // the status page; zero when there is none
}

// Open reads the configuration, locks the state directory and builds everything. A broken drop-in file is logged and
// left out; a broken main file is a [*config.Error]. A locked state directory is a [*store.LockedError].
func Open(o Options) (*Daemon, error) {
	c, warnings, err := config.Load(o.Config, config.Lenient)
	if c == nil {
		return nil, err
	}
	log := zap.NewNop()
	if !o.Quiet {
		var logErr error
		if log, logErr = NewLogger(c.Log, o.LogTo); logErr != nil {
			return nil, logErr
		}
	}
	if err := checkSockets(o.Sockets, c.SolverNames()); err != nil {
		return nil, err
	}
	d := &Daemon{opts: o, log: log, config: c, started: time.Now(), reloaded: time.Now(), recorder: &web.Recorder{}}
	d.logProblems(warnings, err)
	d.reloadError = partly(c, err)
	_ = errors.As(err, &d.problems) // nil without problems
	if d.store, err = store.Open(c.StateDir); err != nil {
		return nil, err
	}
	d.builder = newBuilder(d.store, log, o.Version)
	d.builder.sockets, d.builder.observe = o.Sockets, d.recorder.Request
	d.hub = d.newHub(c.StateDir)
	if d.member, err = newMember(c, &o, d.store, log, d.joined, d.back, d.changedElsewhere); err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	d.builder.member = d.member
	if d.member != nil {
		d.builder.records.Fleet = d.member.lock
	}
	conf := renewal.Config{Store: d.store, Log: log, Ended: d.recorder.Job}
	if d.member != nil {
		conf.Fleet, conf.Ended = d.member.ledger, d.ended
	}
	d.engine = renewal.NewEngine(conf)
	if d.member != nil {
		d.member.engine, d.member.issuer = d.engine, d.issuerConfig
	}
	if err := switchTo(context.Background(), c, d.steps()); err != nil {
		return nil, errors.Join(err, d.member.leave(), d.store.Close())
	}
	return d, nil
}

// Check reads the configuration at path and reports everything that is wrong with it, like [config.Check]. It also builds
// each target, as far as that is possible without the state directory, and throws it away.
func Check(path string) (*config.Config, []config.Warning, error) {
	b := newBuilder(nil, zap.NewNop(), "")
	return config.Check(path, config.Examiner{
		Target: func(c *config.Config, cert *config.Certificate, in *config.Install) error {
			spec := c.Spec(cert)
			_, err := b.installer(c, in, target(c, &spec))
			return err
		},
		Solver: func(s *config.Solver) error {
			if conf := cmp.Or(s.DNS01, s.DNSAccount01); conf != nil && conf.Provider != "" {
				return CheckWorker()
			}
			return nil
		},
	})
}

// CheckWorker reports a DNS worker that is missing or cannot be started, with how to get it.
func CheckWorker() error { return checkWorkerAt(Worker()) }

func checkWorkerAt(path string) error {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not installed; it is part of the package of acmed, and 'make acmed-dns install' builds it from source", path)
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not an executable file; install the package of acmed again", path)
	}
	return nil
}

// Close stops the engine at once, closes the responders and unlocks the state directory.
func (d *Daemon) Close() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	d.engine.Close(now)
	d.closeHub()
	if err := errors.Join(d.builder.close(), d.member.leave(), d.store.Close()); err != nil {
		d.log.Warn("not closed cleanly", zap.Error(err))
	}
}

// Reload reads the configuration again, builds everything new, and then swaps it in. With a broken main file nothing
// changes. Of a broken drop-in file the earlier text stays in use if there is one, else the file is left out; the answer
// names both, with [control.CodePartial].
func (d *Daemon) Reload(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reloadError, d.refused = "", nil
	err := d.reload(ctx)
	var answer *control.Error
	switch {
	case errors.As(err, &answer) && answer.Code == control.CodePartial:
		d.reloadError = err.Error()
	case err != nil:
		d.reloadError = "not in use: " + err.Error()
		if d.refused == nil {
			d.refused = err
		}
		d.log.Error("configuration not reloaded", zap.Error(err))
		return err
	}
	d.log.Info("configuration reloaded", zap.Int("certificates", len(d.config.Certificates)), zap.Bool("complete", err == nil))
	return err
}

func (d *Daemon) reload(ctx context.Context) error {
	c, warnings, problems := config.Reload(d.opts.Config, d.config)
	if c == nil {
		d.refused = problems
		return &control.Error{Code: control.CodeConfig, Message: problems.Error()}
	}
	for _, fixed := range []struct {
		key       string
		now, then any
	}{
		{"state_dir", d.config.StateDir, c.StateDir}, {"socket", d.config.Socket, c.Socket}, {"fleet", d.config.Fleet, c.Fleet},
		{"log.level", d.config.Log.Level, c.Log.Level}, {"log.format", d.config.Log.Format, c.Log.Format},
	} {
		if !reflect.DeepEqual(fixed.now, fixed.then) {
			return &control.Error{Code: control.CodeConfig, Message: fixed.key + " cannot change while acmed runs; restart it"}
		}
	}
	if err := switchTo(ctx, c, d.steps()); err != nil {
		return &control.Error{Code: control.CodeConfig, Message: err.Error()}
	}
	d.logProblems(warnings, problems)
	d.config, d.reloaded, d.problems = c, time.Now(), nil
	_ = errors.As(problems, &d.problems) // nil without problems
	d.reconfigured(ctx)
	if d.scheduler != nil {
		d.scheduler.Sweep()
	}
	if problems != nil {
		return &control.Error{Code: control.CodePartial, Message: partly(c, problems)}
	}
	return nil
}

// partly says what of a configuration with broken drop-in files is in use; "" if all is.
func partly(c *config.Config, problems error) string {
	if problems == nil {
		return ""
	}
	text := "in use without what these files say:\n" + problems.Error()
	if kept := c.Kept(); len(kept) > 0 {
		text += "\nwhat these files said before stays in use: " + strings.Join(kept, ", ")
	}
	return text
}

func (d *Daemon) logProblems(warnings []config.Warning, err error) {
	for _, w := range warnings {
		d.log.Warn("configuration", zap.String("file", w.File), zap.Int("line", w.Line), zap.String("key", w.Path), zap.String("warning", w.Message))
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			d.log.Error("configuration file not in use", zap.String("problem", line))
		}
	}
}

func (d *Daemon) describe() *control.Daemon {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.scheduler == nil {
		return nil
	}
	return &control.Daemon{
		Version: d.opts.Version, PID: os.Getpid(), Started: d.started, Config: d.opts.Config, ReloadError: d.reloadError,
	}
}

func (d *Daemon) concurrency() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(d.config.Renewal.Concurrency, 1)
}
