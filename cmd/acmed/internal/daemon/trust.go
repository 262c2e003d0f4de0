package daemon

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/trust"
)

// systemFor is how long the trust store of this machine is used before it is read again.
const systemFor = time.Hour

// anchors are the trust stores as their files are now, for everything that judges chains: renewals, activate and trust.
type anchors struct {
	log  *zap.Logger
	mu   sync.Mutex
	read map[string]readStore // by name
}

// readStore is a store with what it was read from.
type readStore struct {
	conf  config.TrustStore
	store *trust.Store
	size  int64
	at    time.Time // when the file was changed, or when the machine's own was read
}

// stores returns the stores of c with the given names, all of them without names. A file that changed is read again; one
// that cannot be read any more leaves what it had before.
func (a *anchors) stores(c *config.Config, names ...string) (list []*trust.Store, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range c.Trust {
		if len(names) > 0 && !slices.Contains(names, c.Trust[i].Name) {
			continue
		}
		s, err := a.one(&c.Trust[i])
		if err != nil {
			return nil, fmt.Errorf("trust[%s]: %w", c.Trust[i].Name, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// unchanged is whether a store that was read before need not be read again: its file is the same, or that of the system was
// read a moment ago.
func (r *readStore) unchanged(before *readStore) bool {
	if r.conf.System {
		return r.at.Sub(before.at).Abs() < systemFor
	}
	return r.at.Equal(before.at) && r.size == before.size
}

func (a *anchors) one(conf *config.TrustStore) (*trust.Store, error) {
	now := readStore{conf: *conf, at: time.Now()}
	before, known := a.read[conf.Name]
	known = known && reflect.DeepEqual(before.conf, *conf)
	if info, err := os.Stat(conf.Anchors); !conf.System && err == nil {
		now.size, now.at = info.Size(), info.ModTime()
	}
	if known && now.unchanged(&before) {
		return before.store, nil
	}
	var err error
	if now.store, err = conf.Load(); err != nil {
		if !known {
			return nil, err
		}
		a.log.Warn("a trust store cannot be read again, its earlier content stays in use", zap.String("trust", conf.Name), zap.Error(err))
		now.store = before.store
	}
	if a.read == nil {
		a.read = map[string]readStore{}
	}
	a.read[conf.Name] = now
	return now.store, nil
}

// clients makes the clients that a certificate must not lose.
func (b *builder) clients(c *config.Config, cert *config.Certificate) (clients renewal.Clients, err error) {
	if len(cert.Trust) == 0 {
		return clients, nil
	}
	if clients.ActivateBefore, err = cert.ActivateBefore(); err != nil {
		return clients, err
	}
	last, err := b.anchors.stores(c, cert.Trust...)
	clients.Stores = func() []*trust.Store {
		if list, err := b.anchors.stores(c, cert.Trust...); err == nil {
			return list
		}
		return last
	}
	return clients, err
}

// tlsa makes what publishes and watches the TLSA records of a certificate; nil without any.
func tlsa(c *config.Config, cert *config.Certificate, solvers map[string]challenges.Rung) *renewal.TLSA {
	if cert.TLSA == nil {
		return nil
	}
	t := &renewal.TLSA{Names: cert.TLSA.Names(c.Spec(cert).Identifiers), Usages: cert.TLSA.Usages(), TTL: cert.TLSA.Life(), DNS: dns01.NewObserver(time.Now)}
	if conf, ok := c.TLSASolver(cert); ok {
		if s, ok := solvers[conf.Name].Solver.(*dns01.Solver); ok {
			t.DNS = s
		}
	}
	return t
}
