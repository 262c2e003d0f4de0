package web

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/renewal"
)

// Source knows what is to be shown. Its methods may be called at any time, by many at once.
type Source interface {
	// Snapshot describes the daemon and every certificate.
	Snapshot(ctx context.Context) (*Snapshot, error)
	// Certificate describes one certificate in full; the error is [ErrUnknown] when there is no such.
	Certificate(ctx context.Context, name string) (renewal.Status, error)
	// Progress is nil while certificates are managed, and otherwise says in one line why not.
	Progress() error
}

// ErrUnknown says that no certificate has the name.
var ErrUnknown = errors.New("no certificate has this name")

// Snapshot is everything at one moment.
type Snapshot struct {
	Version      string    // of acmed
	Host         string    // name of the machine
	Started      time.Time // of the daemon
	Reloaded     time.Time // when the configuration in use was read
	ReloadError  bool      // the configuration on disk is not the one in use
	Certificates []renewal.Status
	Conditions   []control.Condition // of the daemon and its machine
	Fleet        *Fleet              // nil: this machine is in none
}

// Fleet is the fleet of this machine, as it knows it.
type Fleet struct {
	Name    string
	Up      bool          // the store can be used
	Contact time.Time     // of its last answer; zero: never
	Issue   int           // nodes that order
	Install int           // nodes that only take what others obtain
	Lag     time.Duration // the longest time that the fleet has had a newer version than this node serves
	Behind  int           // certificates with such a version
}

// text is the fleet in one line.
func (f *Fleet) text(now time.Time) string {
	line := "Fleet " + f.Name + ": " + plural(f.Issue+f.Install, "node")
	switch {
	case f.Up:
	case f.Contact.IsZero():
		line += ", the store was not reached yet"
	default:
		line += ", the store answered last " + relative(now, f.Contact)
	}
	if f.Behind > 0 {
		line += ", newer versions of " + plural(f.Behind, "certificate") + " are not served here yet"
	}
	return line + "."
}

// How long a snapshot is used. One that took long is used longer, so that however often somebody asks, at most a tenth
// of one processor's time goes into making them.
const (
	freshFor   = 2 * time.Second
	restFactor = 10
	patience   = time.Minute // for one snapshot
)

// view is a snapshot, ordered, with what every page needs of it.
type view struct {
	*Snapshot
	Made   time.Time
	took   time.Duration
	counts map[renewal.Health]int
}

// cache keeps the last snapshot. Those who ask while it is made anew wait for the same one.
type cache struct {
	source Source
	clock  func() time.Time
	turn   chan struct{} // holds one element while somebody looks at last or makes it
	last   *view
}

func newCache(s Source, clock func() time.Time) *cache {
	return &cache{source: s, clock: clock, turn: make(chan struct{}, 1)}
}

func (c *cache) get(ctx context.Context) (*view, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	now := c.clock()
	if v := c.last; v != nil && !now.Before(v.Made) && now.Sub(v.Made) < max(freshFor, restFactor*v.took) {
		return v, nil
	}
	// A visitor who leaves does not spoil it for those who wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	snapshot, err := c.source.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	end := c.clock()
	c.last = newView(snapshot, end, end.Sub(now))
	return c.last, nil
}

// newView orders the certificates, the worst and then the soonest to expire first.
func newView(s *Snapshot, made time.Time, took time.Duration) *view {
	v := &view{Snapshot: s, Made: made, took: took, counts: map[renewal.Health]int{}}
	for i := range s.Certificates {
		v.counts[s.Certificates[i].Health]++
	}
	slices.SortStableFunc(s.Certificates, func(a, b renewal.Status) int {
		return cmp.Or(cmp.Compare(severity(a.Health), severity(b.Health)), a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name))
	})
	return v
}

// attention is how many certificates are not as they should be.
func (v *view) attention() int { return len(v.Certificates) - v.counts[renewal.HealthOK] }

// states lists all states, the worst first.
func states() []renewal.Health {
	return []renewal.Health{
		renewal.HealthExpired, renewal.HealthMissing, renewal.HealthRevoked, renewal.HealthFailing, renewal.HealthHeld,
		renewal.HealthNotInstalled, renewal.HealthHookFailed, renewal.HealthOK,
	}
}

// severity orders states; one that is not known here comes first, so that nobody overlooks it.
func severity(h renewal.Health) int { return slices.Index(states(), h) }
