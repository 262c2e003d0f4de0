package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/preflight"
	"github.com/acmed/acmed/pkg/config"
)

// The bounds on one examination.
const (
	doctorNames  = 32               // names at a time
	issuerTime   = 15 * time.Second // for all that a CA is asked
	tryTime      = time.Minute      // for all that DNS services are asked
	clockAllowed = time.Minute      // less is of no consequence
)

// patient is one name to look at.
type patient struct {
	certificate string
	server      string // of the first target that is a web server
	id          certs.Identifier
	ladder      challenges.Ladder
	issuers     []string
}

// Doctor looks at names as a CA would, through the solvers that orders use.
func (d *Daemon) Doctor(ctx context.Context, r control.DoctorRequest) (control.Diagnosis, error) {
	d.mu.Lock()
	c, rungs, issuers := d.config, d.builder.rungs, maps.Clone(d.builder.issuers)
	d.mu.Unlock()
	patients, err := patientsIn(c, rungs, r.Names)
	if err != nil {
		return control.Diagnosis{}, err
	}
	used := map[string]madeIssuer{}
	for _, p := range patients {
		for _, name := range p.issuers {
			used[name] = issuers[name]
		}
	}
	out, err := diagnose(ctx, c, patients, examineIssuers(ctx, used), tryDNS(ctx, patients))
	out.Findings = slices.Insert(out.Findings, 0, slices.Concat(d.machineFindings(), d.member.examine(ctx), d.targetFindings(ctx, c, patients))...) // all of them need attention
	return out, err
}

// Preflight looks at the names of certificates as Doctor does, and needs no state directory for it. CAs are not asked.
func Preflight(ctx context.Context, c *config.Config, certificates []string) (control.Diagnosis, error) {
	b := newBuilder(nil, zap.NewNop(), "")
	rungs, err := b.solvers(c)
	if err != nil {
		return control.Diagnosis{}, err
	}
	patients, err := patientsIn(c, rungs, certificates)
	if err != nil {
		return control.Diagnosis{}, errors.Join(err, b.close())
	}
	d, err := diagnose(ctx, c, patients, nil, nil)
	return d, errors.Join(err, b.close())
}

// diagnose looks at all patients at the same time.
func diagnose(ctx context.Context, c *config.Config, patients []patient, issuers []control.IssuerDiagnosis, broken map[string]preflight.Local) (control.Diagnosis, error) {
	out := control.Diagnosis{Version: control.Version, Issuers: issuers, Names: make([]control.NameDiagnosis, len(patients)), Findings: []control.Finding{}}
	probe := probeOf(&c.Probe)
	var group guard.Group
	group.SetLimit(doctorNames)
	for i, p := range patients {
		group.Go(func() {
			out.Names[i] = examine(ctx, withAccount(probe, p, issuers), p, broken)
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return control.Diagnosis{}, err
	}
	served := sync.OnceValue(func() map[string]string { return servedDirectories(ctx, c.Certificates) })
	for i := range out.Names {
		if n := &out.Names[i]; n.Report.Webroot != "" && len(n.Fails) > 0 {
			n.Report.Served = served()[n.Identifier]
		}
	}
	out.Findings = findings(&out, patients)
	return out, nil
}

func serverOf(cert *config.Certificate) string {
	for _, in := range cert.Install {
		switch {
		case in.Nginx != nil:
			return "nginx"
		case in.Apache != nil:
			return "apache"
		case in.HAProxy != nil:
			return "haproxy"
		}
	}
	return ""
}

// tryDNS sets and removes a record through each DNS solver, for the first name that it is for, and returns those that do not
// work: a credential that is rejected is found before an order needs it.
func tryDNS(ctx context.Context, patients []patient) map[string]preflight.Local {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	broken, seen := map[string]preflight.Local{}, map[string]bool{}
	var mu sync.Mutex
	var group guard.Group
	group.SetLimit(doctorNames)
	for _, p := range patients {
		for _, r := range p.ladder.For(p.id) {
			s, ok := r.Solver.(*dns01.Solver)
			if !ok || seen[r.Name] {
				continue
			}
			seen[r.Name] = true
			group.Go(func() {
				if err := s.Try(ctx, p.id); err != nil {
					mu.Lock()
					defer mu.Unlock()
					broken[r.Name] = preflight.Local{Type: s.Type(), Solver: r.Name, Path: s.Credential(), Error: err.Error()}
				}
			})
		}
	}
	group.Wait()
	return broken
}

// withAccount adds to a probe what dns-persist-01 records must name: the first CA and the account there.
func withAccount(probe preflight.Config, p patient, issuers []control.IssuerDiagnosis) preflight.Config {
	for _, is := range issuers {
		if is.Name == p.issuers[0] {
			probe.AccountURI, probe.PersistIssuers = is.Account, is.CAAIdentities
		}
	}
	return probe
}

// patientsIn lists what was asked for: certificates by name, and single names of certificates.
func patientsIn(c *config.Config, rungs map[string]challenges.Rung, asked []string) ([]patient, error) {
	var list []patient
	found := map[string]bool{}
	for i := range c.Certificates {
		spec := c.Spec(&c.Certificates[i])
		var ladder challenges.Ladder
		for _, name := range spec.Solvers {
			ladder = append(ladder, rungs[name])
		}
		for _, id := range spec.Identifiers {
			if len(asked) > 0 && !slices.Contains(asked, spec.Name) && !slices.Contains(asked, id.Value) {
				continue
			}
			found[spec.Name], found[id.Value] = true, true
			list = append(list, patient{certificate: spec.Name, server: serverOf(&c.Certificates[i]), id: id, ladder: ladder, issuers: spec.Issuers})
		}
	}
	for _, name := range asked {
		if !found[name] {
			return nil, &control.Error{Code: control.CodeUnknown, Message: fmt.Sprintf(
				"%q is neither a certificate nor a name in one; 'acmed status' lists all", name)}
		}
	}
	return list, nil
}

func examineIssuers(ctx context.Context, used map[string]madeIssuer) []control.IssuerDiagnosis {
	ctx, cancel := context.WithTimeout(ctx, issuerTime)
	defer cancel()
	names := slices.Sorted(maps.Keys(used))
	list := make([]control.IssuerDiagnosis, len(names))
	var group guard.Group
	for i, name := range names {
		group.Go(func() {
			list[i] = examineIssuer(ctx, name, used[name])
		})
	}
	group.Wait()
	return list
}

func examineIssuer(ctx context.Context, name string, made madeIssuer) control.IssuerDiagnosis {
	out := control.IssuerDiagnosis{Name: name, Directory: made.conf.Directory, Account: made.AccountURI(ctx)}
	offset, err := made.ClockOffset(ctx)
	if err == nil {
		out.ClockOffset = int(offset / time.Second)
		out.CAAIdentities, err = made.CAAIdentities(ctx)
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

func examine(ctx context.Context, probe preflight.Config, p patient, broken map[string]preflight.Local) control.NameDiagnosis {
	o := preflight.Look(ctx, probe, p.id, p.ladder)
	for _, r := range p.ladder.For(p.id) {
		if local, bad := broken[r.Name]; bad {
			o.Works[r.Name], o.Fails[r.Name] = false, true
			o.Report.Local = append(o.Report.Local, local)
		}
	}
	out := control.NameDiagnosis{Certificate: p.certificate, Server: p.server, Identifier: p.id.Value, Report: o.Report, Summary: o.Report.Summary()}
	for _, r := range p.ladder.For(p.id) {
		switch {
		case o.Works[r.Name]:
			out.Works = append(out.Works, r.Name)
		case o.Fails[r.Name]:
			out.Fails = append(out.Fails, r.Name)
		}
	}
	if len(out.Works) > 0 {
		out.Solver = out.Works[0]
	}
	return out
}

// probeOf is how the configuration wants names to be looked at. It was validated.
func probeOf(p *config.Probe) preflight.Config {
	resolver, err := p.Server()
	if err != nil {
		resolver = ""
	}
	return preflight.Config{Resolver: resolver, HTTPPort: int(p.HTTPPort), TLSPort: int(p.TLSPort), Timeout: p.Timeout}
}

// findings turns an examination into advice, what needs attention first.
func findings(d *control.Diagnosis, patients []patient) []control.Finding {
	list := []control.Finding{}
	for _, is := range d.Issuers {
		list = append(list, issuerFindings(&is)...)
	}
	for i := range d.Names {
		list = append(list, nameFindings(&d.Names[i])...)
		list = append(list, caaFindings(&d.Names[i], patients[i], d.Issuers)...)
	}
	slices.SortStableFunc(list, func(a, b control.Finding) int {
		switch {
		case a.Attention == b.Attention:
			return 0
		case a.Attention:
			return -1
		}
		return 1
	})
	return list
}

func issuerFindings(is *control.IssuerDiagnosis) []control.Finding {
	offset := time.Duration(is.ClockOffset) * time.Second
	switch {
	case is.Error != "":
		return []control.Finding{{Attention: true, What: is.Name + " cannot be asked", Why: is.Error,
			Do: "check DNS, firewall, clock and ca_file on the way to " + is.Directory}}
	case offset.Abs() > clockAllowed:
		word := "ahead of"
		if offset < 0 {
			word = "behind"
		}
		return []control.Finding{{Attention: true, What: fmt.Sprintf("the clock of this machine is %s %s that of %s", offset.Abs(), word, is.Name),
			Why: "new certificates look as if they were not valid yet or had expired, and renewals come at the wrong time",
			Do:  "synchronize the clock, for example with: timedatectl set-ntp true"}}
	}
	return nil
}

// caaFindings judges the CAA records for every issuer of the certificate, those for emergencies included.
func caaFindings(n *control.NameDiagnosis, p patient, issuers []control.IssuerDiagnosis) []control.Finding {
	var list []control.Finding
	for _, is := range issuers {
		if !slices.Contains(p.issuers, is.Name) || len(is.CAAIdentities) == 0 || n.Report.DNS.Bogus {
			continue
		}
		v := preflight.Judge(&n.Report.Findings, p.id, is.CAAIdentities)
		if !v.Blocked {
			continue
		}
		zone := n.Report.DNS.Zone
		list = append(list, control.Finding{Attention: true, What: fmt.Sprintf("%s: CAA forbids %s", n.Identifier, is.Name),
			Why: fmt.Sprintf("the CAA records of %s are: %s", zone, caaText(n.Report.DNS.CAA)),
			Do:  fmt.Sprintf("add the record: %s. CAA 0 issue \"%s\"", zone, is.CAAIdentities[0])})
	}
	return list
}

func caaText(records []preflight.CAARecord) string {
	var list []string
	for _, r := range records {
		list = append(list, fmt.Sprintf("%s %q", r.Tag, r.Value))
	}
	return strings.Join(list, ", ")
}
