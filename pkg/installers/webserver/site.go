package webserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// SyntaxError says where a configuration file cannot be read, or where it has something that cannot be edited safely.
// Nothing was changed.
type SyntaxError struct {
	File   string
	Line   int
	Reason string
}

// Error begins with file:line.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason) }

// Site is one server block or virtual host.
type Site struct {
	Names []string // those of its names that a certificate can have, as they are ordered
	Place string   // file:line
	TLS   bool     // it answers with TLS on the configured port
	Root  string   // absolute directory from which it serves files; "" when it has none, or one that depends on the request

	Certificate string // absolute path of the file with its certificate; "" when it names none
}

// PublicNames are those of a site's names that a public certificate can have.
func PublicNames(names []string) []string {
	var list []string
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(strings.TrimPrefix(name, "."))
		if err == nil && strings.Contains(id.Value, ".") {
			list = AppendNew(list, id.Value)
		}
	}
	return list
}

// AppendNew adds a value that is not in the list.
func AppendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// Pick is a site that answers for names of the certificate.
type Pick[S comparable] struct {
	Site      S
	Names     []string
	TLS       bool // it answers with TLS at the port already
	IsDefault bool // it answers at least for one of them because nothing else does
}

// NewPicks are sites that answer for one name.
func NewPicks[S comparable](id certs.Identifier, sites []S, tls, isDefault bool) []*Pick[S] {
	list := make([]*Pick[S], len(sites))
	for i, s := range sites {
		list[i] = &Pick[S]{Site: s, Names: []string{id.Value}, TLS: tls, IsDefault: isDefault}
	}
	return list
}

// Picks are the sites for the names of a certificate.
type Picks[S comparable] struct {
	Sites []*Pick[S]
	Names []certs.Identifier // those that have a site
	Notes []string           // one for each name that has none
}

// NoSiteError reports that the server has no site for a name.
type NoSiteError struct{ Name, Site, Remedy string }

// Error names the name and the kind of site.
func (e *NoSiteError) Error() string {
	return fmt.Sprintf("no %s has the name %q: %s", e.Site, e.Name, e.Remedy)
}

// PickAll finds a site for every name. A name without one is left out with a note, unless none has one or the operator chose
// the names for this server.
func PickAll[S comparable](names []certs.Identifier, chosen bool, pick func(certs.Identifier) ([]*Pick[S], error)) (Picks[S], error) {
	var picks Picks[S]
	var errs, missing []error
	for _, id := range names {
		found, err := pick(id)
		none := (*NoSiteError)(nil)
		switch {
		case errors.As(err, &none):
			missing = append(missing, err)
			picks.Notes = append(picks.Notes, fmt.Sprintf("%s has no site on this server, and the certificate is installed without it: %s", none.Name, none.Remedy))
		case err != nil:
			errs = append(errs, err)
		default:
			picks.Names = append(picks.Names, id)
			picks.add(found)
		}
	}
	if chosen || len(picks.Names) == 0 {
		errs = append(errs, missing...)
	}
	return picks, errors.Join(errs...)
}

// add joins the sites of one more name.
func (p *Picks[S]) add(found []*Pick[S]) {
	for _, f := range found {
		i := slices.IndexFunc(p.Sites, func(k *Pick[S]) bool { return k.Site == f.Site })
		if i < 0 {
			p.Sites = append(p.Sites, f)
			continue
		}
		p.Sites[i].Names = append(p.Sites[i].Names, f.Names...)
		p.Sites[i].IsDefault = p.Sites[i].IsDefault || f.IsDefault
	}
}
