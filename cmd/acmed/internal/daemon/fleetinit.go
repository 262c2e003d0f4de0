package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

// InitFleet prepares the store for the fleet of the configuration. If the first seal file does not exist, it is made: it
// returns its path then. Again replaces the seal key of a fleet that exists; the nodes publish anew what they have.
func InitFleet(ctx context.Context, c *config.Config, again bool) (made string, err error) {
	f := c.Fleet
	if f == nil {
		return "", errors.New("the configuration has no section fleet")
	}
	if len(f.SealFiles) == 0 {
		return "", errors.New("fleet.seal_files lists no file; name the one to make, such as /etc/acmed/secrets/seal")
	}
	first := f.SealFiles[0]
	if _, err := os.Lstat(first); errors.Is(err, fs.ErrNotExist) && !strings.HasPrefix(first, "$") {
		if err := makeSealFile(c, first); err != nil {
			return "", fmt.Errorf("make the seal key: %w", err)
		}
		made = first
	}
	sealer, err := f.Sealer()
	if err != nil {
		return made, fmt.Errorf("fleet.seal_files: %w", err)
	}
	l, end, err := openFleet(f, sealer)
	if err != nil {
		return made, err
	}
	defer end()
	return made, l.Init(ctx, again)
}

// SetOldest sets the oldest release that may order in the fleet of the configuration; "" allows all.
func SetOldest(ctx context.Context, c *config.Config, release string) error {
	if c.Fleet == nil {
		return errors.New("the configuration has no section fleet")
	}
	l, end, err := openFleet(c.Fleet, nil)
	if err != nil {
		return err
	}
	defer end()
	return l.SetMin(ctx, release)
}

func openFleet(f *config.Fleet, sealer *fleet.Sealer) (l *fleet.Ledger, end func(), err error) {
	engine, err := etcd.Open(f.Etcd.Connection())
	if err != nil {
		return nil, nil, fmt.Errorf("fleet.etcd: %w", err)
	}
	return fleet.New(fleet.Config{Fleet: f.Name, Engine: engine, Sealer: sealer}), func() { _ = engine.Close() }, nil
}

// makeSealFile writes a new key into a file that the owner of the state directory can read, which is who runs the daemon.
func makeSealFile(c *config.Config, file string) error {
	uid, gid := os.Geteuid(), os.Getegid()
	if info, err := os.Stat(c.StateDir); err == nil && uid == 0 {
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(sys.Uid), int(sys.Gid)
		}
	}
	return atomicfile.WriteOwned(file, append(fleet.NewSealKey(), '\n'), 0o600, uid, gid)
}
