package dnspersist01

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// Config is the dns-persist-01 section of a solver. The zero value is good.
type Config struct {
	// Resolvers find zones, name servers and CNAME delegations, as host or host:port. Default: those of the system.
	Resolvers []string `mapstructure:"resolvers"`
	// AuthoritativePort is the port of authoritative servers, 53 by default.
	AuthoritativePort uint16 `mapstructure:"authoritative_port"`
}

// Validate reports everything that is wrong with the text of the section.
func (c *Config) Validate() error {
	var errs []error
	for _, r := range c.Resolvers {
		if _, err := dnsquery.HostPort(r, "53"); err != nil {
			errs = append(errs, fmt.Errorf("resolvers: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Solver reads records. It is safe for concurrent use.
type Solver struct {
	config Config
	read   Reader
	now    func() time.Time
}

// Reader returns the TXT records of a name for each authoritative server that answers; dns01.Values is one.
type Reader func(ctx context.Context, resolvers []string, port uint16, name string) (map[string][]string, error)

var _ challenges.Solver = (*Solver)(nil)

// New returns the solver of a valid section. It touches neither disk nor network.
func New(c Config, read Reader, now func() time.Time) *Solver {
	return &Solver{config: c, read: read, now: now}
}

// readTime bounds the look at one name.
const readTime = 30 * time.Second

// Type returns dns-persist-01.
func (s *Solver) Type() challenges.Type { return challenges.DNSPersist01 }

// Present checks that the record lets the CA validate. Nothing is written: an error says what to publish, and costs no
// failed validation at the CA.
func (s *Solver) Present(ctx context.Context, c challenges.Challenge) error {
	w := Want{Identifier: c.Identifier, Issuers: c.Issuers, AccountURI: c.AccountURI}
	if len(w.Issuers) == 0 {
		return errors.New("the CA names no issuer domain for dns-persist-01")
	}
	f := s.Find(ctx, w)
	if f.Unknown || len(f.Problems) == 0 {
		return nil // what cannot be seen from here is for the CA to judge
	}
	return fmt.Errorf("%s: %s; publish: %s", strings.TrimSuffix(f.Name, "."), strings.Join(f.Problems, "; "), f.Publish)
}

// CleanUp does nothing: the record stays.
func (s *Solver) CleanUp(context.Context, challenges.Challenge) error { return nil }

// Finding is what was read of one name. The JSON form is stable.
type Finding struct {
	Name     string    `json:"name"`             // of the record
	Problems []string  `json:"problems"`         // empty: a CA can validate
	Until    time.Time `json:"until,omitzero"`   // persistUntil of the record that counts
	Unknown  bool      `json:"unknown,omitzero"` // no server could be asked
	Publish  string    `json:"publish"`          // the line of the zone file that would do
}

// Find reads the record at the authoritative servers. All that answer must have one that lets the CA validate.
func (s *Solver) Find(ctx context.Context, w Want) Finding {
	f := Finding{Name: Name(w.Identifier), Problems: []string{}, Publish: w.Record().Line(w.Identifier)}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	found, err := s.read(ctx, s.config.Resolvers, s.config.AuthoritativePort, f.Name)
	if err != nil {
		f.Unknown, f.Problems = true, []string{"the record cannot be looked up: " + err.Error()}
		return f
	}
	problems := map[string][]string{}
	for _, server := range slices.Sorted(maps.Keys(found)) {
		until, problem := w.judge(found[server], s.now())
		if problem != "" {
			problems[problem] = append(problems[problem], server)
		} else if !until.IsZero() && (f.Until.IsZero() || until.Before(f.Until)) {
			f.Until = until
		}
	}
	for _, problem := range slices.Sorted(maps.Keys(problems)) {
		if servers := problems[problem]; len(servers) < len(found) {
			problem += " at " + strings.Join(servers, ", ")
		}
		f.Problems = append(f.Problems, problem)
	}
	return f
}

// notice is how long before persistUntil it is warned of.
const notice = 30 * 24 * time.Hour

// Warn says what will keep an identifier from being validated now or within 30 days, "" if nothing.
func (s *Solver) Warn(ctx context.Context, w Want) string {
	f := s.Find(ctx, w)
	switch {
	case f.Unknown:
		return ""
	case len(f.Problems) > 0:
		return fmt.Sprintf("dns-persist-01 of %s: %s; publish: %s", w.Identifier, strings.Join(f.Problems, "; "), f.Publish)
	case !f.Until.IsZero() && f.Until.Sub(s.now()) < notice:
		return fmt.Sprintf("dns-persist-01 of %s: the record at %s expires at %s (persistUntil); publish it with a later time",
			w.Identifier, strings.TrimSuffix(f.Name, "."), f.Until.Format(time.RFC3339))
	}
	return ""
}

// Records are the ones to publish so that an account may have certificates for these identifiers, one for each name: with
// policy=wildcard where a wildcard is among them.
func Records(ids []certs.Identifier, issuers []string, uri string, until time.Time) []string {
	wild := map[string]certs.Identifier{}
	for _, id := range ids {
		if id.Type == certs.DNS && (id.IsWildcard() || wild[id.Base()] == (certs.Identifier{})) {
			wild[id.Base()] = id
		}
	}
	var list []string
	for _, id := range slices.SortedFunc(maps.Values(wild), func(a, b certs.Identifier) int { return cmp.Compare(a.Base(), b.Base()) }) {
		w := Want{Identifier: id, Issuers: issuers, AccountURI: uri}
		r := w.Record()
		r.Until = until
		list = append(list, r.Line(id))
	}
	return list
}
