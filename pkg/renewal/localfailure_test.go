package renewal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// TestLocalFailure: what keeps acmed from its state is told like every other failure, and forgotten when it is over.
func TestLocalFailure(t *testing.T) {
	b := newBench(t, 90*day)
	b.run(t, Options{})
	dir := filepath.Join(b.store.Dir(), "certs", "www")
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Symlink("/nowhere", dir)); err != nil {
		t.Fatal(err)
	}
	before := len(b.events.kinds())
	r := b.engine.Run(t.Context(), "www", Options{}, nil)
	if r.Err == nil || r.Next.Sub(b.engine.clock()) > plan.Retries()[1] {
		t.Errorf("%v, next at %s", r.Err, r.Next)
	}
	if told := b.events.kinds()[before:]; len(told) != 1 || told[0] != notify.Failed {
		t.Errorf("told %v", told)
	}
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
		t.Fatal(err)
	}
	status, err := b.engine.Status("www")
	if err != nil || status.Health != HealthFailing || !strings.Contains(status.Error, dir) || status.RetryAt.IsZero() {
		t.Errorf("status %+v, %v", status, err)
	}
	b.run(t, Options{})
	if status, err := b.engine.Status("www"); err != nil || status.Health != HealthOK || status.Error != "" {
		t.Errorf("status afterwards %+v, %v", status, err)
	}
}
