package change

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/acmed/acmed/pkg/installers"
)

// Journals are those of all targets of a server. One of them is the journal of a whole round, so a round may have to put
// back what a target left that is not in it. They are safe for concurrent use.
type Journals struct {
	mu      sync.Mutex
	waiting map[string]bool // not settled since the process began
}

type journalsKey struct{}

// JournalsOf are the journals of a server.
func JournalsOf(s *installers.Server) *Journals {
	k, _ := s.Memory().LoadOrStore(journalsKey{}, &Journals{waiting: map[string]bool{}})
	return k.(*Journals)
}

// Add notes a journal that may have a pending change.
func (k *Journals) Add(journal string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting[journal] = true
}

// Settle puts back what a crash left in any of them, as [RecoverOn] does, and returns the errors by journal.
func (k *Journals) Settle(ctx context.Context, disk Disk, reload func(context.Context) error) map[string]error {
	k.mu.Lock()
	defer k.mu.Unlock()
	failed := map[string]error{}
	for _, journal := range slices.Sorted(maps.Keys(k.waiting)) {
		if err := RecoverOn(ctx, disk, journal, reload); err != nil {
			failed[journal] = err
			continue
		}
		delete(k.waiting, journal)
	}
	return failed
}
