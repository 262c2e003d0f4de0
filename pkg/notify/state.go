package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/vetted"
)

// stateVersion is the version of the file. A later one is neither used nor overwritten.
const stateVersion = 1

// maxState bounds the file, in which the length of every list is bounded.
const maxState = 64 << 20

type state struct {
	Version   int              `json:"version"`
	Notifiers map[string]saved `json:"notifiers"`
}

// saved is what survives a restart.
type saved struct {
	Queue    []item    `json:"queue,omitempty"`
	Told     []told    `json:"told,omitempty"`
	DigestAt time.Time `json:"digest_at,omitzero"` // when the last digest was made
}

// item is an event that waits.
type item struct {
	Event Event `json:"event"`
	Tries int   `json:"tries,omitempty"`
}

// load reads the file. Notifications are not worth a start that fails.
func (h *Hub) load() {
	if h.conf.File == "" {
		return
	}
	var s state
	text, err := vetted.ReadFile(h.conf.File, 0, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Version > stateVersion {
		h.readOnly = true
		err = fmt.Errorf("it has format version %d, this acmed knows %d", s.Version, stateVersion)
	}
	if err != nil {
		h.conf.Log.Warn("what notifiers reported is not known", zap.String("file", h.conf.File), zap.Error(err))
		return
	}
	h.saved = s.Notifiers
}

// changed has the file saved soon. The caller holds h.mu and does not wait.
func (h *Hub) changed() {
	if h.conf.File == "" || h.readOnly {
		return
	}
	poke(h.dirty)
	if h.saving || h.closed {
		return
	}
	h.saving = true
	h.wg.Go(guard.Logged(h.conf.Log, "storing notifications", func() {
		for {
			select {
			case <-h.dirty:
				poke(h.dirty)
				h.save()
			case <-h.stop:
				return
			}
		}
	}))
}

// save writes the file when something changed.
func (h *Hub) save() {
	select {
	case <-h.dirty:
	default:
		return
	}
	h.mu.Lock()
	s := state{Version: stateVersion, Notifiers: map[string]saved{}}
	maps.Copy(s.Notifiers, h.saved)
	for name, c := range h.channels {
		s.Notifiers[name] = c.saved
	}
	text, err := json.MarshalIndent(s, "", "  ")
	h.mu.Unlock()
	if err == nil {
		err = atomicfile.Write(h.conf.File, append(text, '\n'), 0o600)
	}
	if err != nil {
		h.conf.Log.Warn("what notifiers reported is not saved", zap.Error(err))
	}
}
