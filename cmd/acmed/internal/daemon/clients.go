package daemon

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/trust"
)

// stores are all configured clients.
func (d *Daemon) stores() ([]*trust.Store, error) {
	d.mu.Lock()
	c := d.config
	d.mu.Unlock()
	return d.builder.anchors.stores(c)
}

// Chain returns the issuers of the version that waits, if there is one, or of the active one, unless another is named. The
// root is added when a configured client or this machine knows it: CAs do not send it, and some clients must import it.
func (d *Daemon) Chain(_ context.Context, r control.VersionRequest) (control.Chain, error) {
	have, err := d.lineage(r.Certificate)
	if err != nil {
		return control.Chain{}, err
	}
	id := r.StoredAs
	if id == "" {
		id = have.Version
		if h := have.State.Held; h != nil {
			id = h.Version
		}
	}
	if id == "" {
		return control.Chain{}, &control.Error{Code: control.CodeUnknown, Message: "there is no certificate yet"}
	}
	b, err := d.store.Bundle(r.Certificate, id)
	if err != nil {
		return control.Chain{}, &control.Error{Code: control.CodeUnknown, Message: err.Error()}
	}
	stores, err := d.stores()
	if err != nil {
		return control.Chain{}, err
	}
	if system, err := trust.System("this machine"); err == nil {
		stores = append(stores, system)
	}
	out := control.Chain{Version: control.Version, Certificate: r.Certificate, StoredAs: id}
	for _, c := range issuersOf(b, stores) {
		out.Subjects = append(out.Subjects, trust.Title(c))
		out.PEM += string(certs.EncodeCert(c))
	}
	pins, records, err := d.engine.Pins(r.Certificate)
	for _, p := range pins {
		out.Pins = append(out.Pins, control.KeyPin(p))
	}
	for _, rr := range records {
		out.TLSA = append(out.TLSA, fmt.Sprintf("%s IN TLSA %s", rr.Name, rr.Data()))
	}
	return out, err
}

func issuersOf(b *certs.Bundle, stores []*trust.Store) []*x509.Certificate {
	var list []*x509.Certificate
	add := func(more ...*x509.Certificate) {
		for _, c := range more {
			if !slices.ContainsFunc(list, c.Equal) {
				list = append(list, c)
			}
		}
	}
	for unit := b; unit != nil; unit = unit.RSA {
		chains, err := trust.Chains(unit)
		if err != nil {
			continue
		}
		add(chains[0][1:]...)
		for _, s := range stores {
			path, err := s.Path(chains[0], nil, time.Now())
			if err == nil && trust.SelfSigned(path[len(path)-1]) {
				add(path[1:]...)
			}
		}
	}
	return list
}

// Trust asks every configured client about every chain of the active and the waiting version.
func (d *Daemon) Trust(_ context.Context, r control.TrustRequest) (control.Trust, error) {
	names, err := d.names(r.Names)
	if err != nil {
		return control.Trust{}, err
	}
	stores, err := d.stores()
	if err != nil {
		return control.Trust{}, err
	}
	if r.At.IsZero() {
		r.At = time.Now()
	}
	table := control.Trust{Version: control.Version, At: r.At, Chains: []control.ChainRow{}}
	for _, name := range names {
		rows, err := d.chainRows(name, stores, r.At)
		if err != nil {
			return control.Trust{}, err
		}
		table.Chains = append(table.Chains, rows...)
	}
	return table, nil
}

func (d *Daemon) chainRows(name string, stores []*trust.Store, at time.Time) ([]control.ChainRow, error) {
	have, err := d.store.Load(name)
	if err != nil {
		return nil, err
	}
	var rows []control.ChainRow
	for i := range have.Versions {
		v := &have.Versions[i]
		if waits := have.State.Held != nil && have.State.Held.Version == v.ID; v.ID != have.Version && !waits {
			continue
		}
		b, err := d.store.Bundle(name, v.ID)
		if err != nil {
			return nil, err
		}
		row := control.ChainRow{Certificate: name, StoredAs: v.ID, State: stateOf(have, v, time.Now())}
		for unit := b; unit != nil; unit = unit.RSA {
			rows = append(rows, d.unitRows(row, unit, stores, at)...)
		}
	}
	return rows, nil
}

func (d *Daemon) unitRows(row control.ChainRow, unit *certs.Bundle, stores []*trust.Store, at time.Time) []control.ChainRow {
	c, _ := d.engine.Certificate(row.Certificate)
	var rows []control.ChainRow
	for n := range len(unit.Alternates) + 1 {
		one := *unit.WithChain(n)
		one.RSA = nil
		row.Presented, row.Issuers, row.Clients = n == 0, titles(&one), []control.ClientCell{}
		for _, v := range trust.Judge(&one, stores, at) {
			cell := control.ClientCell{Client: v.Client, Listed: slices.Contains(c.Spec.Trust, v.Client), Trusted: v.Err == nil, Until: v.Until}
			if v.Err != nil {
				cell.Reason = v.Err.Error()
			}
			row.Clients = append(row.Clients, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// titles names the presented issuers and what issued the last of them.
func titles(b *certs.Bundle) []string {
	chains, err := trust.Chains(b)
	if err != nil {
		return nil
	}
	var list []string
	for _, c := range chains[0][1:] {
		list = append(list, trust.Title(c))
	}
	last := chains[0][len(chains[0])-1]
	if !trust.SelfSigned(last) {
		list = append(list, last.Issuer.CommonName)
	}
	return list
}
