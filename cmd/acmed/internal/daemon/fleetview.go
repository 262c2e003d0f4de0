package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/web"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/client"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/renewal"
)

// Fleet shows the fleet as this node knows it, or changes what the nodes share.
func (d *Daemon) Fleet(ctx context.Context, r client.FleetRequest) (client.Fleet, error) {
	if d.member == nil {
		return client.Fleet{}, &client.Error{Code: client.CodeUsage, Message: "this machine is in no fleet; the configuration has no section fleet"}
	}
	d.join(ctx)
	var imported []client.FleetImported
	switch r.Action {
	case client.FleetStatus:
	case client.FleetForget:
		if err := d.forgetShared(ctx, r.Names); err != nil {
			return client.Fleet{}, err
		}
	case client.FleetImport:
		var err error
		if imported, err = d.importAll(ctx, r); err != nil {
			return client.Fleet{}, err
		}
	default:
		return client.Fleet{}, &client.Error{Code: client.CodeUsage, Message: fmt.Sprintf("fleet action %q is unknown", r.Action)}
	}
	f := d.member.describe(time.Now())
	f.Certificates, f.Imported = d.sharedCertificates(time.Now()), imported
	return f, nil
}

func (d *Daemon) forgetShared(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := certs.CheckName(name); err != nil {
			return &client.Error{Code: client.CodeUsage, Message: err.Error()}
		}
		if _, configured := d.engine.Certificate(name); configured {
			return &client.Error{Code: client.CodeUsage, Message: fmt.Sprintf("%q is still in the configuration of this node; take it out on all nodes first, or they share it again", name)}
		}
		if err := d.member.ledger.Forget(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// describe is the fleet without its certificates.
func (m *member) describe(now time.Time) client.Fleet {
	h := m.ledger.Health()
	f := client.Fleet{
		Version: client.Version, Name: m.conf.Name, Node: m.ledger.NodeID(), Role: cmp.Or(m.conf.Role, config.RoleIssue), Nodes: []client.FleetNode{},
		Store: client.FleetStore{Up: m.ledger.Usable() == nil, Contact: h.Contact, Code: advice.Of(h.Err), ClientTo: m.clientUntil()},
	}
	if h.Err != nil {
		f.Store.Error = h.Err.Error()
	}
	list := m.ledger.Nodes()
	for _, n := range list {
		row := client.FleetNode{
			ID: n.ID, Address: n.Address, Release: n.Release, Role: config.RoleIssue, Command: n.Unranked, Since: n.Since, Ahead: n.Ahead,
			Behind: slices.Sorted(maps.Keys(n.Serves)), Failed: n.Failed, NotAfter: n.NotAfter,
		}
		if n.Install || m.ledger.TooOld(n.Release) {
			row.Role = config.RoleInstall
		}
		row.Twice = slices.ContainsFunc(list, func(other fleet.Node) bool {
			return other.ID == n.ID && other.Address != n.Address && !other.Unranked && !n.Unranked
		})
		f.Nodes = append(f.Nodes, row)
	}
	return f
}

// clientUntil is when the client certificate expires; zero without one, or when it cannot be read.
func (m *member) clientUntil() time.Time {
	connection := m.conf.Etcd.Connection()
	if connection.CertFile == "" {
		return time.Time{}
	}
	pair, err := connection.Pair()
	if err != nil {
		return time.Time{}
	}
	leaf, err := certs.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// stuckAfter is longer than an order may take.
const stuckAfter = 20 * time.Minute

func (d *Daemon) sharedCertificates(now time.Time) []client.FleetCertificate {
	list := []client.FleetCertificate{}
	names := d.engine.Names()
	slices.Sort(names)
	for _, name := range names {
		s, err := d.engine.Status(name)
		if err != nil || s.Fleet == nil {
			list = append(list, client.FleetCertificate{Name: name, Problem: errorText(err)})
			continue
		}
		h, _ := d.member.ledger.Head(name)
		c := client.FleetCertificate{
			Name: name, N: s.Fleet.N, Active: s.Fleet.Active > 0, Node: s.Fleet.Node, Committed: s.Fleet.Committed, NotAfter: h.NotAfter, Served: s.Fleet.Served,
			Working: s.Fleet.Working, Since: s.Fleet.Since, Problem: cmp.Or(s.Fleet.NotTaken, s.Fleet.Broken), Pinned: s.Pinned, Unshared: s.Fleet.Unshared,
			Failures: h.Failures, Lag: d.lag(&s, now),
		}
		c.Stuck = c.Working != "" && now.Sub(c.Since) > stuckAfter
		list = append(list, c)
	}
	return list
}

// lag is for how long the fleet has had a newer version than the one that is served here. What is held or pinned on purpose
// is no lag.
func (d *Daemon) lag(s *renewal.Status, now time.Time) time.Duration {
	if s.Fleet == nil || s.Fleet.N == 0 || s.Fleet.Active > 0 || s.Held != nil || s.Pinned != "" {
		return 0
	}
	return max(0, now.Sub(s.Fleet.Committed))
}

// fleetShown is the fleet for the status page and the metrics, from memory; nil on a machine that is in none.
func (d *Daemon) fleetShown(list []renewal.Status, now time.Time) *web.Fleet {
	if d.member == nil {
		return nil
	}
	f := &web.Fleet{Name: d.member.conf.Name, Up: d.member.ledger.Usable() == nil, Contact: d.member.ledger.Health().Contact}
	for _, n := range d.member.ledger.Nodes() {
		switch {
		case n.Unranked:
		case n.Install:
			f.Install++
		default:
			f.Issue++
		}
	}
	for i := range list {
		if lag := d.lag(&list[i], now); lag > 0 {
			f.Behind++
			f.Lag = max(f.Lag, lag)
		}
	}
	return f
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// importAll gives the fleet what this machine has, or says what that would do.
func (d *Daemon) importAll(ctx context.Context, r client.FleetRequest) ([]client.FleetImported, error) {
	if err := d.member.ledger.Usable(); err != nil {
		return nil, err
	}
	names, err := d.names(r.Names)
	if err != nil {
		return nil, err
	}
	list := d.importAccounts(ctx, r.Dry)
	for _, name := range names {
		row := client.FleetImported{What: "certificate " + name, Fate: d.engine.ImportFate(name)}
		if !r.Dry {
			if result := d.work(ctx, name, renewal.Options{Import: true}, nil); result.Err != nil {
				row.Error = result.Err.Error()
			}
		}
		list = append(list, row)
	}
	return list, nil
}

// importAccounts makes the fleet's accounts those of this machine.
func (d *Daemon) importAccounts(ctx context.Context, dry bool) []client.FleetImported {
	d.mu.Lock()
	issuers := maps.Clone(d.builder.issuers)
	d.mu.Unlock()
	var list []client.FleetImported
	for _, name := range slices.Sorted(maps.Keys(issuers)) {
		made := issuers[name]
		row := client.FleetImported{What: "account " + name}
		mine := made.AccountURI(ctx)
		theirs, err := d.member.ledger.Account(ctx, made.conf.Directory, made.conf.Email)
		switch {
		case err != nil:
			row.Error = err.Error()
		case theirs == nil && mine == "":
			row.Fate = "there is none yet"
		case theirs == nil:
			row.Fate = "becomes the fleet's"
		case theirs.URI == mine:
			row.Fate = "is the fleet's already"
		case mine == "":
			row.Fate = "the fleet's is used"
		default:
			row.Fate = fmt.Sprintf("%s is retired, because the fleet has %s", mine, theirs.URI)
		}
		if err == nil && !dry {
			row.Error = errorText(made.Follow(ctx))
		}
		list = append(list, row)
	}
	return list
}
