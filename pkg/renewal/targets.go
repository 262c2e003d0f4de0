package renewal

import (
	"context"
	"errors"
	"fmt"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/store"
)

// TargetChange is what an operator asks for about the targets of one certificate.
type TargetChange string

// The changes.
const (
	InstallTargets   TargetChange = "install"   // install the active version at every target again
	UninstallTargets TargetChange = "uninstall" // undo every change at the targets, and leave them alone
)

// changeTargets prepares a new installation, or takes the targets away. What could be taken away is stored as such, so
// that no sweep puts it back.
func (j *job) changeTargets(ctx context.Context) error {
	have, err := j.engine.store.Load(j.want.Name)
	if err != nil {
		return err
	}
	var errs []error
	for _, target := range j.want.Targets {
		t := installed(&have.State, target)
		if j.opts.Targets == InstallTargets {
			t = store.Installed{}
		} else if err := j.uninstall(ctx, target); err != nil {
			errs = append(errs, fmt.Errorf("target %s: %w", target, err))
		} else {
			t = store.Installed{Off: true}
			j.result.Changed = true
		}
		have.State.Installed[target] = t
	}
	return errors.Join(append(errs, j.engine.store.SaveState(j.want.Name, &have.State))...)
}

func (j *job) uninstall(ctx context.Context, target string) (err error) {
	installer, ok := j.to[target]
	if !ok {
		return errors.New("it is not configured")
	}
	u, ok := installer.(installers.Uninstaller)
	if !ok {
		return errors.New("what it did cannot be undone by acmed")
	}
	defer j.caught("target "+target, &err)
	j.tell(certs.Step{Phase: certs.PhaseUninstall, Detail: target})
	return u.Uninstall(ctx)
}
