package fileset

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// Settings are the keys that all targets made of files have.
type Settings struct {
	Owner, Group string // by name or number; "" keeps it
	Mode         string // octal, of files that hold the key; "" is 0600, with a group 0640, and keeps what a group was given

	Unit          string     // systemd unit to reload
	Reload        []string   // command to run instead
	Container     *Container // or the container of the server; may be nil
	ReloadTimeout Bound

	Verify []string // of [endpoint.Parse] form
	Wait   Bound    // how long the endpoints may take to serve the new certificate; 0 is 30 seconds
}

// Bound is a duration with its key in the configuration.
type Bound struct {
	Key string
	time.Duration
}

// PublicMode is the mode of files without a key.
const PublicMode fs.FileMode = 0o644

const (
	ownMode   fs.FileMode = 0o600
	groupMode fs.FileMode = 0o640
	// defaultWait is how long the endpoints may take to serve a new certificate.
	defaultWait = 30 * time.Second
)

var (
	unitName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9:_.@\\-]{0,254}$`)
	account  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10})$`)
)

// Validate reports everything that is wrong, joined, each problem beginning with its key. It touches neither network nor
// disk.
func (s *Settings) Validate() error {
	var errs []error
	for _, a := range []struct{ key, name string }{{"owner", s.Owner}, {"group", s.Group}} {
		if a.name != "" && !account.MatchString(a.name) {
			errs = append(errs, fmt.Errorf("%s: %q is neither a name nor a number", a.key, a.name))
		}
	}
	if _, err := s.mode(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, s.checkReload())
	if d := s.ReloadTimeout; d.Duration != 0 && d.Duration < time.Second {
		errs = append(errs, fmt.Errorf("%s: %s is shorter than a second", d.Key, d.Duration))
	}
	if s.Wait.Duration < 0 {
		errs = append(errs, fmt.Errorf("%s: %s is negative", s.Wait.Key, s.Wait.Duration))
	}
	for _, text := range s.Verify {
		if _, err := endpoint.Parse(text); err != nil {
			errs = append(errs, fmt.Errorf("verify: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (s *Settings) checkReload() error {
	if s.Container != nil {
		if s.Unit != "" || len(s.Reload) > 0 {
			return errors.New("container: give one of container, unit and reload")
		}
		return s.Container.validate()
	}
	switch {
	case s.Unit != "" && len(s.Reload) > 0:
		return errors.New("unit: give either unit or reload, not both")
	case s.Unit != "" && !unitName.MatchString(s.Unit):
		return fmt.Errorf("unit: %q is not the name of a systemd unit", s.Unit)
	case len(s.Reload) > 0 && !filepath.IsAbs(s.Reload[0]):
		return fmt.Errorf("reload: %q is not an absolute path; for a systemd service use unit", s.Reload[0])
	}
	return nil
}

func (s *Settings) mode() (fs.FileMode, error) {
	switch {
	case s.Mode == "" && s.Group != "":
		return groupMode, nil
	case s.Mode == "":
		return ownMode, nil
	}
	n, err := strconv.ParseUint(s.Mode, 8, 32)
	mode := fs.FileMode(n)
	switch {
	case err != nil || n > 0o777:
		return 0, fmt.Errorf("mode: %q is not an octal mode such as \"0640\"", s.Mode)
	case mode&0o007 != 0:
		return 0, fmt.Errorf("mode: %q gives others access to the private key", s.Mode)
	case mode&0o400 == 0:
		return 0, fmt.Errorf("mode: %q does not let the owner read", s.Mode)
	}
	return mode, nil
}

// own gives files their owner and mode: that of the settings for those with a key, [PublicMode] for the others.
func (s *Settings) own(files []change.File) error {
	owner, err := change.LookupOwner(s.Owner, s.Group)
	if err != nil {
		return err
	}
	mode, err := s.mode()
	if err != nil {
		return err
	}
	for i := range files {
		f := &files[i]
		f.Owner, f.Mode = owner, PublicMode
		if f.Secret {
			f.Mode, f.KeepGroup = mode, s.Mode == ""
		}
	}
	return nil
}

// NewServer makes the server that is reloaded, nil when none is to be; without a name it has that of its unit or program. It
// touches neither network nor disk.
func (s *Settings) NewServer(name string) *installers.Server {
	switch {
	case s.Container != nil:
		return installers.NewServerElsewhere(cmp.Or(name, s.Container.Name, s.Container.Label), s.Container.reload)
	case s.Unit != "":
		reload := installers.SystemdReload(s.Unit)
		reload.Timeout = s.ReloadTimeout.Duration
		return installers.NewServer(cmp.Or(name, s.Unit), installers.Command{}, reload, installers.SystemdActive(s.Unit))
	case len(s.Reload) > 0:
		return installers.NewServer(cmp.Or(name, s.Reload[0]), installers.Command{}, installers.Command{Argv: s.Reload, Timeout: s.ReloadTimeout.Duration}, nil)
	}
	return nil
}

// Limit is how long the endpoints may take to serve a new certificate.
func (s *Settings) Limit() time.Duration { return cmp.Or(s.Wait.Duration, defaultWait) }
