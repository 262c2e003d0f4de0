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

// PickAll finds a site for every name and refuses the lot when one has none.
func PickAll[S comparable](names []certs.Identifier, pick func(certs.Identifier) ([]*Pick[S], error)) ([]*Pick[S], error) {
	var picks []*Pick[S]
	var errs []error
	for _, id := range names {
		found, err := pick(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, f := range found {
			i := slices.IndexFunc(picks, func(k *Pick[S]) bool { return k.Site == f.Site })
			if i < 0 {
				picks = append(picks, f)
				continue
			}
			picks[i].Names = append(picks[i].Names, f.Names...)
			picks[i].IsDefault = picks[i].IsDefault || f.IsDefault
		}
	}
	return picks, errors.Join(errs...)
}
